"""The tables: created in a new database, compared with the code in one that has them already."""

import itertools
import logging
import time
from threading import Lock
from types import ModuleType
from weakref import WeakKeyDictionary

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    event,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import TimeoutError
from sqlalchemy.orm import DeclarativeBase

from core import revisions
from core.comparison import differences, lacks, missing_rules
from core.fts import create_fts_index
from core.revisions import OutdatedError
from core.searches import create_search_index, say_what_searches_miss
from core.sqlite import forget_file

log = logging.getLogger(__name__)

MAX_MIGRATION = 600  # seconds that others wait for one

# Constraints get names by these rules, so that migrations and error messages can name them.
NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


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


ready: set[Engine] = set()  # those whose tables are there
preparing = Lock()


def create_once(bind: Engine, metadata: MetaData, models: ModuleType) -> None:
    """Do what create() does, once per engine."""
    if bind in ready:
        return
    if not preparing.acquire(timeout=2):  # a migration may be running: no request waits for that
        raise TimeoutError("the tables are not there yet")
    try:
        if bind not in ready:  # nobody has done so meanwhile
            with bind.begin() as connection:
                create(connection, metadata, models)
            ready.add(bind)
    finally:
        preparing.release()


def start_anew(bind: Engine) -> None:
    """Look at the tables once more, and take the file of SQLite that is there now for the one."""
    ready.discard(bind)
    forget_file(bind.url)


def create(connection: Connection, metadata: MetaData, models: ModuleType) -> None:
    """Create the tables in a new database; check that an old one has what the code needs.

    Migrations look after the tables that are named in `models`. Other tables of `metadata`, like
    those of the examples, are created where they are missing. `connection` is in no transaction
    yet, and in one afterwards. Raises OutdatedError, and has changed nothing then, if a migration
    is needed.
    """
    lock_schema(connection)  # several workers start at the same time
    tables = tables_in(models)
    if is_new(connection, tables):
        metadata.create_all(connection)
        stamp(connection)
    else:
        check(connection, metadata, tables)
        check_rights(connection, tables)
        metadata.create_all(connection)
    say_what_searches_miss(
        connection, {table.name: searched[table] for table in tables if table in searched}
    )


def is_new(connection: Connection, tables: list[Table]) -> bool:
    """Tell whether no migration has been run, and none is needed.

    There is no table yet, or metadata.create_all() has been here.
    """
    inspector = inspect(connection)
    if done(connection):
        return False
    there = [inspector.has_table(table.name) for table in tables]
    return not any(there) or (all(there) and not any(lacks(inspector, each) for each in tables))


def done(connection: Connection) -> set[str]:
    """Return the last migrations that have been run on a database."""
    if not inspect(connection).has_table("alembic_version"):
        return set()
    return set(connection.scalars(text("SELECT version_num FROM alembic_version")))


def check(connection: Connection, metadata: MetaData, tables: list[Table]) -> None:
    """Raise OutdatedError, which says what to do, if a database is not what the code needs.

    A database that newer code has changed will do, as long as it has all that this code needs:
    otherwise there would be no way back to the code of yesterday.
    """
    inspector = inspect(connection)
    before, followed = done(connection), revisions.followed()
    newest = revisions.newest(followed)
    missing = differences(inspector, metadata, {table.name for table in tables})
    rules = {} if missing else {each.name: missing_rules(inspector, each) for each in tables}
    broken = {name: found for name, found in rules.items() if found}
    what = ", ".join(missing or itertools.chain(*broken.values()))
    if unknown := before - followed.keys():
        if what:
            raise OutdatedError(f"it is newer than this code ({what}): update the code")
        log.warning("The database is newer than this code (%s), and goes with it", min(unknown))
        return
    if before == newest and not what:
        return
    mend = "alembic upgrade head"
    again = before == newest and revision_that_mends(broken)
    if again:
        # Somebody has restored another table, and what migrations have been run stayed noted.
        then = mend if newest == {again} else f"alembic upgrade {again}, then alembic stamp heads"
        mend = f"alembic stamp base, then {then}"
    elif before == newest:
        write = 'alembic revision --autogenerate -m "say what has changed"'
        mend = f"{write}, read the file that it writes, then run {mend}"
    elif len(newest) > 1:
        mend = f"alembic merge heads -m merge, then {mend}"
    what = what if missing or before == newest else "not every migration has been run"
    raise OutdatedError(f"it is older than this code ({what}): run {mend}")


def revision_that_mends(broken: dict[str, list[str]]) -> str | None:
    """Return a revision that gives a table one of the rules that it lacks, and can be run again."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(revisions.MIGRATIONS))
    for name, revision in revisions.repeatable().items():
        table: Table = script.get_revision(revision).module.wanted()
        made = {f"no {rule.name}" for rule in table.constraints}
        made |= {f"no {index.name}" for index in table.indexes}
        made |= {f"{column} may be NULL" for column in table.columns if not column.nullable}
        if made.intersection(broken.get(name, ())):
            return revision
    return None


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


# For migrations/searches.py: the tables whose texts have an index, also on SQLite.
searched = WeakKeyDictionary[Table, tuple[str, ...]]()
searched_by_fts = WeakKeyDictionary[Table, tuple[str, ...]]()


def index_for_searches(table: Table, *columns: str, fts: bool) -> None:
    """Create an index with the table, if the database has one that finds a part of these texts."""
    searched[table] = columns
    if fts:
        searched_by_fts[table] = columns

    @event.listens_for(table, "after_create")
    def create_index(table: Table, connection: Connection, **more: object) -> None:
        create_search_index(connection, table.name, *columns)
        if fts:
            create_fts_index(connection, table.name, *columns)


def table_of(model: type[DeclarativeBase]) -> Table:
    """Return the table of a class; raises TypeError if it has none of its own."""
    table = model.__table__
    if not isinstance(table, Table) or inspect(model).inherits:
        raise TypeError(f"{model.__name__} has no table of its own")
    return table


def tables_in(models: ModuleType) -> list[Table]:
    """Return the tables that are named in a module, as classes or as they are."""
    found = (getattr(thing, "__table__", thing) for thing in vars(models).values())
    return [table for table in found if isinstance(table, Table)]


def stamp(connection: Connection) -> None:
    """Enter in a new database, as Alembic does, that no migration has to be run."""
    key = PrimaryKeyConstraint("version_num", name="alembic_version_pkc")
    versions = Table("alembic_version", MetaData(), Column("version_num", String(32)), key)
    versions.create(connection, checkfirst=True)
    newest = revisions.newest(revisions.followed())
    connection.execute(insert(versions), [{"version_num": revision} for revision in newest])
