"""What `alembic` runs: migrations of the database that the app uses."""

import io
import logging
import sys
import warnings
from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, Inspector, Table, event, inspect, text
from sqlalchemy.exc import DBAPIError, TimeoutError

import models
from core import revisions, tables
from core.engines import explain
from core.fts import refill_fts_indexes
from core.lists import leave_empty
from core.postgresql import LOCK_LIMIT, set_patience
from core.revisions import OutdatedError
from database import Base, engine
from migrations import searches as searches  # what op.create_search_index() does

WRITTEN = revisions.columns()
for each in Base.metadata.tables.values():
    leave_empty(each)  # whichever database a migration is written on


def ours(thing: Any, name: str | None, kind: str, reflected: bool, compared: Any) -> bool:
    """Leave alone what only the database knows, and what might be somebody else's.

    That is a table, a column that no migration has created in it, with all that belongs to it, and
    an index on an expression, on a part of the rows, or like GIN, which SQLite does not have.
    """
    if compared is not None or not reflected:
        return True
    if kind == "table":
        return False
    known = {*Base.metadata.tables[thing.table.name].columns.keys(), *WRITTEN[thing.table.name]}
    columns = [thing] if kind == "column" else list(thing.columns)
    if any(column.name not in known for column in columns):
        return False
    if kind != "index":
        return True
    some_rows = any(thing.kwargs[f"{name}_where"] is not None for name in ("postgresql", "sqlite"))
    special = some_rows or thing.kwargs["postgresql_using"]
    return not (special or len(thing.expressions) > len(columns))


@event.listens_for(Table, "column_reflect")
def keep_autoincrement(inspector: Inspector, table: Table, column: Any) -> None:
    """Let the copy of a table be AUTOINCREMENT as well, which SQLAlchemy does not read."""
    if inspector.dialect.name == "sqlite":
        query = text("SELECT sql LIKE '%AUTOINCREMENT%' FROM sqlite_master WHERE name = :name")
        if context.get_bind().scalar(query, {"name": table.name}):
            table.kwargs["sqlite_autoincrement"] = True


def last_ids(connection: Connection) -> dict[str, int]:
    """Return the highest id that each AUTOINCREMENT table of SQLite has ever had."""
    if engine.name != "sqlite" or not inspect(connection).has_table("sqlite_sequence"):
        return {}
    return {row.name: row.seq for row in connection.execute(text("SELECT * FROM sqlite_sequence"))}


def keep_last_ids(connection: Connection, before: dict[str, int]) -> None:
    """Let no copy of a table give an id a second time, after the highest has been deleted."""
    now = last_ids(connection)
    for name in before.keys() & set(inspect(connection).get_table_names()):
        highest = {"name": name, "seq": max(before[name], now.get(name, 0))}
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), highest)
        connection.execute(text("INSERT INTO sqlite_sequence VALUES (:name, :seq)"), highest)


def broken_references(connection: Connection) -> set[Any]:
    """Return which rows of SQLite refer to one that is not there; PostgreSQL has none."""
    if engine.name != "sqlite":
        return set()
    return set(connection.exec_driver_sql("PRAGMA foreign_key_check").all())


def print_script() -> None:
    """Print what `alembic upgrade FROM:TO --sql` asks for: one transaction, which ends at an error.

    All of it or nothing: exit with one line if a migration has to look at the data.
    """
    script = io.StringIO()
    context.configure(
        dialect_name=engine.name,
        output_buffer=script,
        literal_binds=True,
        target_metadata=Base.metadata,
        render_as_batch=True,
        transactional_ddl=True,
    )
    try:
        with context.begin_transaction():
            if engine.name == "postgresql":  # as connect_and_run() does it
                context.execute(f"SET LOCAL lock_timeout = '{LOCK_LIMIT}s'")
                context.execute("SELECT pg_advisory_xact_lock(1)")
            context.run_migrations()
    except CommandError as error:  # Alembic would print it to where the script goes
        sys.exit(f"Failed: {error}")
    # Without it, psql and sqlite3 go on after an error, and end as if all were well.
    stop = {"postgresql": r"\set ON_ERROR_STOP on", "sqlite": ".bail on"}[engine.name]
    print(f"{stop}\n\n{script.getvalue().strip()}")


def run(connection: Connection) -> None:
    """Run migrations, all of them in one transaction: if one fails, the database is as before."""
    before = last_ids(connection)
    broken = broken_references(connection)
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,  # so that what is written for PostgreSQL also runs on SQLite
        transactional_ddl=True,
        include_object=ours,
    )
    for told in ("alembic.runtime.migration", "alembic.autogenerate"):
        logging.getLogger(told).addHandler(logging.StreamHandler(sys.stdout))
        logging.getLogger(told).setLevel("INFO")
    context.run_migrations()
    keep_last_ids(connection, before)
    refill_fts_indexes(connection)
    # What referred to nobody before is no fault of a migration.
    for row in broken_references(connection) - broken:
        raise CommandError(f"{row[0]} would refer to a row of {row[2]} that is not there")
    connection.commit()


def connect_and_run() -> None:
    """Run migrations; exit with one line if the database cannot be used, or refuses something."""
    started = False
    try:
        with engine.connect() as connection:
            if engine.name == "sqlite":
                # SQLite cannot change a column or a rule: Alembic copies the table to a new one and
                # drops the old one. That must not delete what refers to it.
                connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            tables.lock_schema(connection)
            if engine.name == "postgresql":
                # The limit of a request is too short for an index on millions of rows. That of
                # waiting for a lock stays: everybody else would have to wait behind us.
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                set_patience(connection, None)
            started = True
            done = tables.done(connection)
            context.config.attributes["done"] = done  # for migrations/takeover.py
            newer = done - revisions.followed().keys()
            if newer and getattr(context.config.cmd_opts, "revision", "") in ("head", "heads"):
                # The code of before a migration, put back: whoever starts it runs this first.
                tables.check(connection, Base.metadata, tables.tables_in(models))
            else:
                run(connection)
    except (TimeoutError, OutdatedError) as error:
        sys.exit(explain(error, engine))
    except DBAPIError as error:
        if not started:
            sys.exit(explain(error, engine))
        statement = " ".join((error.statement or "").split())[:200]
        said = str(error.orig).splitlines()[0]
        if detail := getattr(getattr(error.orig, "diag", None), "message_detail", None):
            said += f": {detail.splitlines()[0]}"  # which view, trigger or policy is in the way
        sys.exit(f"Failed, nothing has changed: {said} [{statement}]")
    finally:
        engine.dispose()


# SQLite cannot read an index on an expression, and so leaves it alone.
warnings.filterwarnings("ignore", "Skipped unsupported reflection")
# A rule of PostgreSQL 18 that is NOT ENFORCED, which is as good as none.
warnings.filterwarnings("ignore", "Could not parse CHECK constraint text")
if context.is_offline_mode():
    print_script()
else:
    connect_and_run()
