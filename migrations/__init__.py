"""The tables: created in a new database, compared with the code in one that has them already.

The rest of this folder is for the command `alembic`.
"""

import re
from pathlib import Path

from sqlalchemy import (
    CheckConstraint,
    Connection,
    Inspector,
    Table,
    UniqueConstraint,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import SQLAlchemyError

import models
from database import Base

# Migrations look after what is named in models.py. Other tables, like those of the examples, are
# created where they are missing.
TABLES = [
    table
    for thing in vars(models).values()
    if isinstance(table := getattr(thing, "__table__", thing), Table)
]


class OutdatedError(SQLAlchemyError):
    """The tables are not those that the code needs; the text says what to do."""


def lock_schema(connection: Connection) -> None:
    """Wait until nobody else creates or changes tables, and keep others out until the commit."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    # Somebody's migration may take longer than a request may wait.
    connection.exec_driver_sql("SET LOCAL lock_timeout = '10min'")
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.execute(select(func.pg_advisory_xact_lock(1)))
    connection.exec_driver_sql("RESET lock_timeout")
    connection.exec_driver_sql("RESET statement_timeout")


def create_tables(connection: Connection) -> None:
    """Create the tables in a new database; look whether an old one has what the code needs.

    `connection` is in no transaction yet, and in one afterwards. Raises OutdatedError, and has
    changed nothing then, if a migration is needed.
    """
    lock_schema(connection)  # several workers start at the same time
    inspector = inspect(connection)
    done = set()
    if inspector.has_table("alembic_version"):
        done = set(connection.scalars(text("SELECT version_num FROM alembic_version")))
    known, newest = revisions()
    if done - known:
        raise OutdatedError(f"it is newer than this code ({min(done - known)}): update the code")
    missing = differences(inspector)
    if not done:
        new = not any(inspector.has_table(table.name) for table in TABLES)
        # Without a revision, but complete: Base.metadata.create_all() has been here.
        if new or not (missing or lacks_rules(inspector)):
            Base.metadata.create_all(connection)
            stamp(connection)
            return
    if missing or done != newest:
        what = ", ".join(missing) or "not every migration has been run"
        mend = "alembic upgrade head"
        if done == newest:
            write = 'alembic revision --autogenerate -m "say what has changed"'
            mend = f"{write}, read the file that it writes, then run {mend}"
        elif len(newest) > 1:
            mend = f"alembic merge heads -m merge, then {mend}"
        raise OutdatedError(f"it is older than this code ({what}): run {mend}")
    Base.metadata.create_all(connection)


def revisions() -> tuple[set[str], set[str]]:
    """Return the revisions that this code knows, and of them the newest, mostly one.

    Alembic could tell, but takes a tenth of a second to load, at each start.
    """
    known: set[str] = set()
    followed: set[str] = set()
    for path in (Path(__file__).parent / "versions").glob("*.py"):
        code = path.read_text(encoding="utf-8")
        known.update(re.findall(r"""^revision\b.*["'](\w+)""", code, re.MULTILINE))
        for before in re.findall(r"^down_revision\b.*", code, re.MULTILINE):  # two after a merge
            followed.update(re.findall(r"""["'](\w+)""", before))
    if followed - known:
        lost = min(followed - known)
        raise OutdatedError(f"migrations/versions lacks {lost}, which others follow: get it back")
    return known, known - followed


def stamp(connection: Connection) -> None:
    """Enter in a new database that no migration has to be run."""
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(Path(__file__).parent))
    MigrationContext.configure(connection).stamp(script, "heads")


def differences(inspector: Inspector) -> list[str]:
    """Return what is wrong with the tables, so that calls would fail; in words, one for each."""
    wrong = []
    for table in Base.metadata.sorted_tables:
        if inspector.has_table(table.name):
            there = {column["name"]: column for column in inspector.get_columns(table.name)}
            wrong += [f"no column {c}" for c in table.columns if c.name not in there]
            wrong += [
                f"a value is needed for {table.name}.{name}, which the code does not know"
                for name, column in there.items()
                if name not in table.columns
                and not (column["nullable"] or column["default"])
                and not (column.get("identity") or column.get("computed"))
            ]
        elif table in TABLES:
            wrong.append(f"no table {table}")
    return wrong


def lacks_rules(inspector: Inspector) -> bool:
    """Tell whether a table lacks a rule of models.py, like that emails are in lower case."""
    for table in TABLES:
        checks = inspector.get_check_constraints(table.name)
        uniques = inspector.get_unique_constraints(table.name)
        there = {rule["name"] for rule in (*checks, *uniques)}
        for rule in table.constraints:
            if isinstance(rule, (CheckConstraint, UniqueConstraint)) and rule.name not in there:
                return True
    return False
