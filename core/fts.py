"""An index of searches on SQLite: FTS5 with groups of three letters, kept up to date by triggers.

https://www.sqlite.org/fts5.html#the_trigram_tokenizer
"""

import logging
import sqlite3
from collections import Counter
from collections.abc import Container, Iterable
from contextlib import closing
from functools import cache
from itertools import product

from sqlalchemy import (
    ColumnElement,
    Connection,
    String,
    TableClause,
    bindparam,
    column,
    literal_column,
    table,
    text,
)
from sqlalchemy.exc import OperationalError

from core.letters import cases

log = logging.getLogger(__name__)

SAMPLE = 100  # rows
EVENTS = ("insert", "delete", "update")


@cache  # two of them would be two tables in a statement
def fts_of(name: str) -> TableClause:
    """Return the index of a table, as a statement names it."""
    return table(f"ix_{name}_search", column("rowid"))


def create_fts_index(connection: Connection, name: str, *columns: str) -> None:
    """Index the groups of three letters in the texts of these columns, on an SQLite >= 3.34.

    The index is called ix_..._search, and is a table that has the ids of this one.
    """
    if connection.dialect.name != "sqlite":
        return
    # A table of that name that is somebody else's is an error; what is there of ours is completed.
    missing = statements(name, columns)[is_fts(connection, name) :]
    try:
        for statement in missing:
            connection.exec_driver_sql(statement)
    except OperationalError as error:
        log.warning("Searches will look at every row, without trigrams of FTS5: %s", error.orig)
        if is_fts(connection, name):  # its triggers would refuse each write
            for statement in drops(name):
                connection.exec_driver_sql(statement)


def statements(name: str, columns: Iterable[str]) -> list[str]:
    """Return what creates an index, its triggers if they are missing, and lets it have all rows."""
    index = f'"ix_{name}_search"'
    names = ", ".join(f'"{each}"' for each in columns)
    new, old = (", ".join(f'{row}."{each}"' for each in ("id", *columns)) for row in ("new", "old"))
    insert = f"INSERT INTO {index} (rowid, {names}) VALUES ({new});"  # noqa: S608
    # FTS5 has to be told what it had.
    delete = f"INSERT INTO {index} ({index}, rowid, {names}) VALUES ('delete', {old});"  # noqa: S608
    whens = ("INSERT", insert), ("DELETE", delete), (f"UPDATE OF id, {names}", delete + insert)
    # Without places in a text, it takes a quarter of the room.
    options = f"content='{name}', content_rowid='id', tokenize='trigram', detail='none'"
    return [
        f"CREATE VIRTUAL TABLE {index} USING fts5 ({names}, {options})",
        *(
            f'CREATE TRIGGER IF NOT EXISTS "ix_{name}_search_{event}" '
            f'AFTER {when} ON "{name}" BEGIN {steps} END'
            for event, (when, steps) in zip(EVENTS, whens, strict=True)
        ),
        f"INSERT INTO {index} ({index}) VALUES ('rebuild')",  # noqa: S608
    ]


def drops(name: str) -> list[str]:
    """Return what drops it."""
    triggers = [f'DROP TRIGGER IF EXISTS "ix_{name}_search_{event}"' for event in EVENTS]
    return [*triggers, f'DROP TABLE IF EXISTS "ix_{name}_search"']


def is_fts(connection: Connection, name: str) -> bool:
    """Tell whether what is called as the index of a table is one."""
    made = text("SELECT sql FROM sqlite_master WHERE name = :name")
    return "tokenize='trigram'" in (connection.scalar(made, {"name": f"ix_{name}_search"}) or "")


def has_fts_index(connection: Connection, name: str) -> bool:
    """Tell whether a table has the index, and what keeps it up to date."""
    there = text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :name")
    triggers = {*connection.scalars(there, {"name": name})}
    wanted = {f"ix_{name}_search_{event}" for event in EVENTS}
    return wanted <= triggers and is_fts(connection, name)


def refill_fts_indexes(connection: Connection) -> None:
    """Make indexes right again after a migration has copied a table: the copy has no triggers."""
    if connection.dialect.name != "sqlite":
        return
    tables = {*connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'"))}
    for name in tables:
        if is_fts(connection, name) and not has_fts_index(connection, name):
            columns, of_index = (
                [each.name for each in connection.exec_driver_sql(f'PRAGMA table_info("{of}")')]
                for of in (name, f"ix_{name}_search")
            )
            if set(of_index) <= set(columns):
                create_fts_index(connection, name, *of_index)
            else:  # its triggers would refuse each write
                for statement in drops(name):
                    connection.exec_driver_sql(statement)
                log.warning(
                    "The index of searches of %s is gone, with a column of it: "
                    "alembic revision --autogenerate makes another",
                    name,
                )


# ---- What is asked of it


def match(index: TableClause) -> ColumnElement[bool]:
    """Return the condition that a row of an index has the groups of letters of a text."""
    return literal_column(f'"{index.name}"').bool_op("MATCH")(bindparam("trigrams", type_=String))


def common_groups(connection: Connection, name: str) -> frozenset[str]:
    """Return the groups of three letters that more than a tenth of the newest rows have."""
    newest = f'SELECT * FROM "ix_{name}_search" ORDER BY rowid DESC LIMIT {SAMPLE}'  # noqa: S608
    counted: Counter[str] = Counter()
    for row in connection.exec_driver_sql(newest):
        texts = [text[:1000].lower() for text in row if text]
        counted.update({text[at : at + 3] for text in texts for at in range(len(text) - 2)})
    return frozenset(group for group, number in counted.items() if number > SAMPLE / 10)


def trigrams(wanted: str, common: Container[str] = ()) -> str | None:
    """Return what MATCH asks for to find at least the rows that have a text, in any case.

    These are groups of three letters, one behind the other, since each takes some time to look
    for; without those that are common, which take most, if there are others. None if the text is
    too short for the index.
    """
    # LIKE, which looks for ASCII, takes A for a, as FTS5 does, and no other letters for others.
    others = {} if wanted.isascii() else apart()
    starts = sorted({*range(0, len(wanted) - 2, 3), len(wanted) - 3} if len(wanted) >= 3 else ())
    rare = [start for start in starts if wanted[start : start + 3].lower() not in common]
    groups = []
    for start in rare or starts:
        cases = (others.get(letter, letter) for letter in wanted[start : start + 3])
        spelled = ("".join(letters).replace('"', '""') for letters in product(*cases))
        groups.append("(" + " OR ".join(f'"{each}"' for each in spelled) + ")")
    return " AND ".join(groups) or None


@cache
def apart() -> dict[str, str]:
    """Return for letters whose other cases are other letters for FTS5 one of each of these.

    Like i and the i without a dot, and like what is younger than the Unicode of FTS5. To find out
    takes 40 ms, once.
    """
    found: dict[str, str] = {}
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE t USING fts5 (letter, tokenize='trigram')")
        classes = {letters for letters in cases().values() if len(letters) > 1}
        rows = [(letter * 3,) for letters in classes for letter in letters]
        connection.executemany("INSERT INTO t VALUES (?)", rows)
        like = "SELECT letter FROM t WHERE t MATCH ?"
        for letters in classes:
            alike: set[str] = set()
            kept = ""
            for letter in letters:
                if letter not in alike:
                    kept += letter
                    there = connection.execute(like, [f'"{letter * 3}"'])
                    alike |= {text[0] for (text,) in there}
            if len(kept) > 1:
                found |= dict.fromkeys(letters, kept)
    return found
