"""Rows of a table as a schema shows them, which is what crud.py works with.

They are read as columns and not as objects, which makes a page of a list twice as fast.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import to_json
from sqlalchemy import Column, Executable, Row, bindparam, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Session
from typing_extensions import TypedDict

from core.columns import python_type
from core.ids import IdsBehindError, is_of_primary_key
from core.lists import find_all, find_page, listing_of
from core.queries import ListQuery, RowsQuery, asked_by, query_model
from core.sqlite import lock_for_writing
from core.tables import table_of

Read = TypeVar("Read", bound=BaseModel)
# The next numbers of a table of PostgreSQL.
NEXT_IDS = text(
    "SELECT nextval(pg_get_serial_sequence(:table, :column)) FROM generate_series(1, :number)"
)
Expected = Callable[[BaseModel], bool]  # tells whether a row is the one that is to be changed


class Page(NamedTuple):
    """Some of the rows that were asked for."""

    json: bytes  # the rows as they are sent
    last_id: int | None  # of the last of them
    goes_on: bool  # whether there are more behind them
    total: int | None  # how many there are, or COUNTED + 1; None where pages have no numbers


class ChangedError(Exception):
    """A row is not the one that is to be changed; the text says so to a client."""


class Rows(Generic[Read]):
    """The rows of a table, as `schema` shows them."""

    def __init__(self, model: type[DeclarativeBase], schema: type[Read]) -> None:
        """Raise TypeError if the schema shows what the table does not have."""
        self.name = model.__name__
        self.table = table_of(model)
        self.c = self.table.c
        self.schema = schema
        for name, field in schema.model_fields.items():
            if name not in self.c and field.is_required():
                raise TypeError(f"{schema.__name__}.{name} has no column in the table {self.table}")
        self.fields = [name for name in schema.model_fields if name in self.c]
        self.columns = tuple(self.c[name] for name in self.fields)
        self.is_plain = is_plain(schema, self.columns)
        self.write_json = json_writer(schema) if self.is_plain else to_json
        self.listing = listing_of(self.table)
        # A page goes on from what decides its order, whether it is shown or not.
        keys = (self.c[name] for name in self.listing.order_by if name not in self.fields)
        self.of_page = (*self.columns, *keys)
        self.creation = insert(self.table).returning(*self.columns, sort_by_parameter_order=True)
        self.held = select(*self.columns).where(self.listing.id == bindparam("row_id"))
        filters = [self.c[name] for name in self.listing.filter_by]
        orders, texts = list(self.listing.order_by), list(self.listing.search)
        about = orders, filters, texts
        self.query_model = query_model(f"{self.name}Query", *about, base=ListQuery)
        # What a list is asked for: `asked: Annotated[ListQuery, Depends(users.query)]`.
        self.query = asked_by(self.query_model)
        # And all rows: `asked: Annotated[RowsQuery, Depends(users.query_for_all)]`.
        self.query_for_all = asked_by(query_model(f"All{self.name}Query", *about, base=RowsQuery))

    def read(self, row: Row[Any]) -> Read:
        """Return a row with these columns, as the schema shows it."""
        return self.schema.model_validate(dict(zip(self.fields, row)), by_name=True)

    def first(self, db: Session, statement: Executable, **values: object) -> Read | None:
        """Execute a statement that returns these columns; return the first row, if there is one."""
        row = db.execute(statement, values or None).first()
        return None if row is None else self.read(row)

    def page(self, db: Session, asked: ListQuery) -> Page:
        """Return a page of the list; raises GoneError if it begins after a row that is gone."""
        found = find_page(db, self.listing, self.of_page, asked)
        # Where a row has columns more, like the total, zip() leaves them out.
        shown = (lambda row: dict(zip(self.fields, row))) if self.is_plain else self.read
        json = self.write_json([shown(row) for row in found.rows])
        last_id = found.rows[-1].id if found.rows else None
        return Page(json, last_id, found.goes_on, found.total)

    def all(self, db: Session, asked: RowsQuery) -> Iterator[list[Read]]:
        """Yield all rows of the list, a thousand at a time; between two, `db` may be rolled back.

        What nobody changes meanwhile is there, once.
        """
        for rows in find_all(db, self.listing, self.columns, asked):
            yield [self.read(row) for row in rows]

    def insert(
        self, db: Session, rows: Sequence[Mapping[str, Any]], unique: str = ""
    ) -> list[Read]:
        """Create rows and return them in that order.

        Raises IntegrityError if a value is taken; with a note of the first of several in the column
        `unique`, whose values are texts.
        """
        if not rows:
            return []
        if any(row.keys() != rows[0].keys() for row in rows):  # SQLAlchemy looks at the first
            raise ValueError("rows that are created together need the same columns")
        nothing_before = not db.in_transaction()
        try:
            created = self.insert_in_order(db, rows, unique)
        except (IdsBehindError, IntegrityError) as error:
            # An import has used the id that came next. It has none that is used after it.
            behind = isinstance(error, IdsBehindError) or is_of_primary_key(error.orig)
            if behind and nothing_before:
                db.rollback()
                created = self.insert_in_order(db, rows, unique)
            else:
                if unique:
                    error.add_note(self.first_taken(db, unique, [row[unique] for row in rows]))
                raise
        return [self.read(row) for row in created]

    def insert_in_order(
        self, db: Session, rows: Sequence[Mapping[str, Any]], unique: str
    ) -> Sequence[Row[Any]]:
        """Create rows, with ids in their order."""
        sent = [dict(row) for row in rows]
        if db.get_bind().dialect.name == "sqlite" or len(rows) == 1 or not unique:
            return db.execute(self.creation, sent).all()
        # Written in one order, of these values: two requests with the same ones in two orders could
        # wait for each other. So the ids are drawn before, if they may be chosen.
        key: Any = self.listing.id
        if not (key.identity and key.identity.always):
            table = db.get_bind().dialect.identifier_preparer.format_table(self.table)
            drawn = {"table": table, "column": key.name, "number": len(rows)}
            for row, row_id in zip(sent, db.scalars(NEXT_IDS, drawn)):
                if row_id is not None:  # the sequence is the column's own
                    row[key.name] = row_id
        numbers = sorted(range(len(rows)), key=lambda number: sent[number][unique])
        created = db.execute(self.creation, [sent[number] for number in numbers]).all()
        there = dict(zip(numbers, created))
        return [there[number] for number in range(len(rows))]

    def first_taken(self, db: Session, unique: str, values: list[str]) -> str:
        """Return the first of some values that is there already."""
        db.rollback()
        column = self.c[unique]
        taken = set(db.scalars(select(column).where(column.in_(values))))
        return next((value for value in values if value in taken), "one of them")

    def hold(self, db: Session, row_id: int, expected: Expected | None) -> None:
        """Let nobody else change a row before the transaction ends, if it has to be as `expected`.

        Raises ChangedError if it is there, and is not.
        """
        if expected:
            lock_for_writing(db.connection())
            row = self.first(db, self.held.with_for_update(), row_id=row_id)
            if row and not expected(row):
                raise ChangedError(f"{self.name} has changed since: read it again")


def is_plain(schema: type[BaseModel], columns: Sequence[Column[Any]]) -> bool:
    """Tell whether a schema shows columns as they are: with the same names and types, and no more.

    Rows are then written as they come from the database, twice as fast as through pydantic.
    """
    functions = schema.__pydantic_decorators__  # validators, serializers, computed fields
    core: Any = schema.__pydantic_core_schema__
    return (
        core["type"] == "model"
        and not (core.get("custom_init") or core.get("post_init"))
        and len(columns) == len(schema.model_fields)
        and not any(getattr(functions, kind.name) for kind in fields(functions))
        and schema.model_config.keys() <= {"from_attributes", "extra", "json_schema_extra"}
        and all(map(is_plain_field, schema.model_fields.values(), columns))
    )


def json_writer(schema: type[BaseModel]) -> Callable[[Any], bytes]:
    """Return what makes JSON of a list of dicts with the fields of a schema.

    To find out each time of which type a value is takes twice as long, but for the simplest.
    """
    kinds = {name: field.annotation for name, field in schema.model_fields.items()}
    if set(kinds.values()) <= {int, str, bool}:
        return to_json
    typed_dict: Any = TypedDict  # what type checkers know is a class that is written out
    row: Any = typed_dict(schema.__name__, kinds)
    return TypeAdapter(list[row]).dump_json


def is_plain_field(field: FieldInfo, column: Column[Any]) -> bool:
    """Tell whether a field shows a column as it is."""
    kind = python_type(column)
    types = (kind | None,) if column.nullable else (kind, kind | None)
    more = field.alias, field.serialization_alias, field.metadata, field.exclude, field.exclude_if
    return not any(more) and field.annotation in types
