"""Many rows into a table: each is checked, and they are written by the thousand.

Each batch is a transaction of its own. Whoever is killed between two of them begins anew, and finds
what is there already.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Row,
    Table,
    bindparam,
    cast,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import REGCLASS
from sqlalchemy.orm import DeclarativeBase

from core.postgresql import PGLITE
from core.records import Record
from core.sqlite import lock_for_writing
from core.tables import table_of

BATCH = 5000


class Existing(StrEnum):
    """What becomes of a row that is there already."""

    skip = "skip"
    update = "update"
    stop = "stop"


class ExistsError(LookupError):
    """A row is there already, where none was to be; the text is its value."""


class RefusedError(ValueError):
    """Rows do not fit, where all of them were to; the text is how many."""


@dataclass
class Counts:
    """How many rows have become what."""

    created: int = 0
    updated: int = 0
    there: int = 0  # already, and as they were
    twice: int = 0  # in what was sent
    rejected: int = 0

    @property
    def total(self) -> int:
        """How many that is."""
        return self.created + self.updated + self.there + self.twice + self.rejected


Reject = Callable[[Record, str], None]
Pairs = Iterable[tuple[Record, Mapping[str, Any]]]


class Importer:
    """Writes rows to a table, which a schema allows, and which one column tells apart."""

    def __init__(self, model: type[DeclarativeBase], schema: type[BaseModel], unique: str) -> None:
        self.table = table_of(model)
        self.schema = schema
        self.unique = self.table.c[unique]
        self.key: Column[Any] = self.table.primary_key.columns[0]

    def run(
        self,
        engine: Engine,
        pairs: Pairs,
        *,
        existing: Existing = Existing.skip,
        all_or_none: bool = False,
        reject: Reject = lambda record, reason: None,
    ) -> Iterator[Counts]:
        """Write rows, which are records with the values of the schema; yield the counts so far.

        What does not fit is told to `reject`. Raises ExistsError, and RefusedError if it has to be
        all of them, of which nothing is written then.
        """
        counts = Counts()
        checked = self.check(pairs, counts, reject)
        batches = iter(lambda: list(islice(checked, BATCH)), [])
        if all_or_none:
            with engine.begin() as connection:
                for batch in batches:
                    self.write(connection, batch, existing, counts)
                    yield counts
                if counts.rejected:
                    raise RefusedError(str(counts.rejected))
            return

        def write(batch: list[BaseModel]) -> None:
            with engine.begin() as connection:
                self.write(connection, batch, existing, counts)

        # While PostgreSQL writes a batch, the next one is read and checked. SQLite writes in this
        # process, where two threads are slower than one.
        with ThreadPoolExecutor(max_workers=1) as writer:
            writing: Future[None] | None = None
            for batch in batches:
                if writing:
                    writing.result()
                    yield counts
                if engine.name == "sqlite":
                    write(batch)
                    yield counts
                else:
                    writing = writer.submit(write, batch)
            if writing:
                writing.result()
        yield counts

    def check(self, pairs: Pairs, counts: Counts, reject: Reject) -> Iterator[BaseModel]:
        """Return what the schema makes of each row that fits, once."""
        validate = self.schema.__pydantic_validator__.validate_python
        # On a disk, for it may be millions.
        with closing(sqlite3.connect("", isolation_level=None)) as seen:
            seen.execute("CREATE TABLE seen (value PRIMARY KEY, line) WITHOUT ROWID")
            seen.execute("BEGIN")
            for record, values in pairs:
                if record.problem:
                    counts.rejected += 1
                    reject(record, record.problem)
                    continue
                try:
                    row: BaseModel = validate(values)
                except ValidationError as error:
                    counts.rejected += 1
                    reject(record, reason(error))
                    continue
                key = getattr(row, self.unique.name)
                first = "INSERT OR IGNORE INTO seen VALUES (?, ?)"
                if seen.execute(first, (key, record.line)).rowcount == 0:
                    same = "SELECT line FROM seen WHERE value = ?"
                    (line,) = seen.execute(same, (key,)).fetchone()
                    counts.twice += 1
                    reject(record, f"{self.unique.name}: The same as in line {line}")
                    continue
                yield row

    def write(
        self, connection: Connection, rows: list[BaseModel], existing: Existing, counts: Counts
    ) -> None:
        """Write a batch."""
        lock_for_writing(connection)
        values = [row.model_dump(by_alias=False) for row in rows]
        if existing == Existing.stop:
            there = self.there_among(connection, values)
            for value in (each[self.unique.name] for each in values):
                if value in there:
                    raise ExistsError(value)
        self.check_ids(connection, values)
        before = counts.created + counts.updated
        write = self.write_sqlite if connection.dialect.name == "sqlite" else self.write_postgresql
        # Of a row that is there, what was not said stays.
        said: dict[frozenset[str], list[dict[str, Any]]] = {}
        for row, each in zip(rows, values):
            of_row = frozenset(row.model_fields_set if existing == Existing.update else ())
            said.setdefault(of_row, []).append(each)
        for names, some in said.items():
            changed = sorted(names - {self.unique.name, self.key.name})
            created, updated = write(connection, some, changed)
            counts.created += created
            counts.updated += updated
        counts.there += len(rows) - (counts.created + counts.updated - before)

    def there_among(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> set[Any]:
        """Return what tells those rows apart that are there already."""
        return {value for _, value in self.read(connection, self.unique, rows)}

    def check_ids(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Raise ExistsError if the rows have ids, and one of them is that of somebody else."""
        if self.key.name not in rows[0]:
            return
        ids: dict[Any, Any] = {}
        for row in rows:
            if ids.setdefault(row[self.key.name], row[self.unique.name]) != row[self.unique.name]:
                raise ExistsError(f"{self.key.name} {row[self.key.name]}")
        for row_id, value in self.read(connection, self.key, rows):
            if ids[row_id] != value:
                raise ExistsError(f"{self.key.name} {row_id}")

    def read(
        self, connection: Connection, column: Column[Any], rows: Sequence[Mapping[str, Any]]
    ) -> Iterator[Row[Any, Any]]:
        """Return the id and the unique value of rows that have one of these values in a column."""
        values = [row[column.name] for row in rows]
        for start in range(0, len(values), 500):
            there = column.in_(values[start : start + 500])
            yield from connection.execute(select(self.key, self.unique).where(there))

    def write_sqlite(
        self, connection: Connection, rows: list[dict[str, Any]], changed: list[str]
    ) -> tuple[int, int]:
        """Update rows and create those that are not there; return how many of each."""
        # Nobody else can create one meanwhile. ON CONFLICT would use up an id for each.
        there = self.there_among(connection, rows)
        updated = 0
        if changed and there:
            new: dict[str, Any] = {name: bindparam(f"new_{name}") for name in changed}
            differs = or_(*(self.table.c[name].is_distinct_from(new[name]) for name in changed))
            same = self.unique == bindparam("key")
            change = update(self.table).where(same, differs).values(new)
            sent = [
                {"key": row[self.unique.name], **{f"new_{name}": row[name] for name in changed}}
                for row in rows
                if row[self.unique.name] in there
            ]
            updated = connection.execute(change, sent).rowcount
        missing = [row for row in rows if row[self.unique.name] not in there]
        if missing:
            connection.execute(insert(self.table), missing)
        return len(missing), updated

    def write_postgresql(
        self, connection: Connection, rows: list[dict[str, Any]], changed: list[str]
    ) -> tuple[int, int]:
        """Do the same by way of a table that COPY fills, and that is dropped again."""
        columns = [self.table.c[name] for name in rows[0]]
        copies = [Column(column.name, column.type) for column in columns]
        number = Column("number_of_row", Integer)
        sent = Table("sent", MetaData(), number, *copies, prefixes=["TEMPORARY"])
        sent.create(connection)
        self.copy(connection, sent, rows)
        # By the index, however few rows there are: the table may be a thousand times as long.
        connection.exec_driver_sql(
            "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
        )
        same = self.unique == sent.c[self.unique.name]
        updated = 0
        if changed:
            new = {name: sent.c[name] for name in changed}
            differs = or_(*(self.table.c[name].is_distinct_from(new[name]) for name in changed))
            updated = connection.execute(
                update(self.table).where(same, differs).values(new)
            ).rowcount
        # With ids in the order of the file; but written in that of the values, as others do who
        # write many at once, so that nobody waits for each other.
        table = connection.dialect.identifier_preparer.format_table(self.table)
        name = connection.scalar(select(func.pg_get_serial_sequence(table, self.key.name)))
        sequence = cast(name, REGCLASS)
        ids = []
        if name and self.key.name not in rows[0]:
            ids = [func.nextval(sequence).label(self.key.name)]
        missing = select(*ids, *copies).where(~exists().where(same)).order_by(number).subquery()
        in_order = select(*missing.c).order_by(missing.c[self.unique.name].collate("C"))
        create = postgresql.insert(self.table).from_select(missing.c.keys(), in_order)
        created = connection.execute(
            create.on_conflict_do_nothing(), execution_options={"preserve_rowcount": True}
        ).rowcount
        sent.drop(connection)
        if name and self.key.name in rows[0]:  # ids go on after the highest
            highest = select(func.max(self.key).label("id")).subquery()
            last = func.coalesce(func.pg_sequence_last_value(sequence), 0)
            connection.execute(
                select(func.setval(sequence, highest.c.id)).where(highest.c.id > last)
            )
        return created, updated

    def copy(self, connection: Connection, sent: Table, rows: list[dict[str, Any]]) -> None:
        """Send numbered rows by COPY, as the types of their columns write them."""
        if connection.scalar(text(f"SELECT {PGLITE}")):  # whose server takes none
            numbered_rows = [{"number_of_row": n} | row for n, row in enumerate(rows)]
            connection.execute(insert(sent), numbered_rows)
            return
        dialect = connection.dialect
        kinds = [column.type.dialect_impl(dialect).bind_processor(dialect) for column in sent.c]
        names = ", ".join(map(dialect.identifier_preparer.format_column, sent.c))
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy(f"COPY sent ({names}) FROM STDIN") as copy:
            for numbered in enumerate(rows):
                values = (numbered[0], *numbered[1].values())
                copy.write_row(
                    [kind(value) if kind else value for kind, value in zip(kinds, values)]
                )


def reason(error: ValidationError) -> str:
    """Return what is wrong with a row, as the 422 of a call says it."""
    return "; ".join(
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}" if each["loc"] else each["msg"]
        for each in error.errors(include_url=False, include_input=False)
    )
