"""The tables: created in a new database, compared with the code in one that has them already."""

import logging
import time
import warnings
from types import ModuleType

from sqlalchemy import (
    CheckConstraint,
    Connection,
    Inspector,
    MetaData,
    Table,
    UniqueConstraint,
    event,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, TimeoutError

from core import revisions
from core.revisions import OutdatedError

log = logging.getLogger(__name__)

MAX_MIGRATION = 600  # seconds that others wait for one


def lock_schema(connection: Connection) -> None:
    """Wait until nobody else creates or changes tables, and keep others out until the commit."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        return
    # Somebody's migration may take longer than a request may wait for a lock. To ask again and
    # again notices, too, if the server freezes meanwhile.
    deadline = time.monotonic() + MAX_MIGRATION
    while not connection.scalar(select(func.pg_try_advisory_xact_lock(1))):
        if time.monotonic() > deadline:
            raise TimeoutError("somebody else is changing the tables, and takes too long")
        time.sleep(0.1)


def create(connection: Connection, metadata: MetaData, models: ModuleType) -> None:
    """Create the tables in a new database; check that an old one has what the code needs.

    Migrations look after the tables that are named in `models`. Other tables of `metadata`, like
    those of the examples, are created where they are missing. `connection` is in no transaction
    yet, and in one afterwards. Raises OutdatedError, and has changed nothing then, if a migration
    is needed.
    """
    lock_schema(connection)  # several workers start at the same time
    inspector = inspect(connection)
    done = set()
    if inspector.has_table("alembic_version"):
        done = set(connection.scalars(text("SELECT version_num FROM alembic_version")))
    followed = revisions.followed()
    newest = followed.keys() - set().union(*followed.values())
    if done - followed.keys():
        lost = min(done - followed.keys())
        raise OutdatedError(f"it is newer than this code ({lost}): update the code")
    tables = tables_in(models)
    missing = differences(inspector, metadata, {table.name for table in tables})
    if not done:
        new = not any(inspector.has_table(table.name) for table in tables)
        # Without a revision, but complete: metadata.create_all() has been here.
        if new or not (missing or lacks_rules(inspector, tables)):
            metadata.create_all(connection)
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
    check_rights(connection, tables)
    metadata.create_all(connection)


def check_rights(connection: Connection, tables: list[Table]) -> None:
    """Raise OutdatedError if a role of PostgreSQL may write rows, but cannot number them."""
    if connection.dialect.name != "postgresql":
        return
    quote = connection.dialect.identifier_preparer.format_table
    for table, column in ((table, table.autoincrement_column) for table in tables):
        if column is None:
            continue
        refused = text(
            "SELECT sequence, quote_ident(current_user) AS role"
            " FROM pg_get_serial_sequence(:table, :column) AS sequence"
            " WHERE has_table_privilege(:table, 'INSERT')"
            " AND NOT has_sequence_privilege(sequence, 'USAGE')"
        )
        names = {"table": quote(table), "column": column.name}
        if found := connection.execute(refused, names).first():
            grant = f"GRANT USAGE, SELECT, UPDATE ON SEQUENCE {found.sequence} TO {found.role}"
            raise OutdatedError(f"this role may write to {table}, but not number its rows: {grant}")


def index_for_searches(table: Table, *texts: str) -> None:
    """Create an index with the table, if the database has one that finds a part of these texts."""

    @event.listens_for(table, "after_create")
    def create_index(table: Table, connection: Connection, **more: object) -> None:
        create_search_index(connection, table.name, *texts)


def create_search_index(connection: Connection, table: str, *texts: str) -> None:
    """Index the groups of three letters in these texts, where that is possible.

    That is PostgreSQL with the extension pg_trgm, which comes with it, and which the owner of a
    database may install. `texts` are SQL; the index is called ix_..._search.
    """
    if connection.dialect.name != "postgresql":
        return
    reason = "it is in no schema of the search_path"
    try:
        with connection.begin_nested():
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
    except DBAPIError as error:
        reason = str(error.orig).splitlines()[0]
    there = "SELECT 1 FROM pg_opclass WHERE opcname = 'gin_trgm_ops' AND pg_opclass_is_visible(oid)"
    if not connection.scalar(text(there)):
        log.warning("Searches will look at every row, without pg_trgm: %s", reason)
        return
    indexed = ", ".join(f"{each} gin_trgm_ops" for each in texts)
    index = f'CREATE INDEX IF NOT EXISTS ix_{table}_search ON "{table}" USING gin ({indexed})'
    connection.execute(text(index))


def tables_in(models: ModuleType) -> list[Table]:
    """Return the tables that are named in a module, as classes or as they are."""
    found = (getattr(thing, "__table__", thing) for thing in vars(models).values())
    return [table for table in found if isinstance(table, Table)]


def stamp(connection: Connection) -> None:
    """Enter in a new database that no migration has to be run."""
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(revisions.MIGRATIONS))
    MigrationContext.configure(connection).stamp(script, "heads")


def differences(inspector: Inspector, metadata: MetaData, needed: set[str]) -> list[str]:
    """Return what is wrong with the tables, so that calls would fail; in words, one for each."""
    wrong = []
    for table in metadata.sorted_tables:
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
        elif table.name in needed:
            wrong.append(f"no table {table}")
    return wrong


def lacks_rules(inspector: Inspector, tables: list[Table]) -> bool:
    """Tell whether a table lacks a rule or an index of the code."""
    for table in tables:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an index on an expression, which SQLite hides
            indexes = inspector.get_indexes(table.name)
            uniques = inspector.get_unique_constraints(table.name)
        checks = inspector.get_check_constraints(table.name)
        there = {rule["name"] for rule in (*checks, *uniques, *indexes)}
        rules = [
            rule
            for rule in table.constraints
            if isinstance(rule, CheckConstraint | UniqueConstraint)
        ]
        if not there.issuperset(rule.name for rule in (*rules, *table.indexes)):
            return True
    return False
