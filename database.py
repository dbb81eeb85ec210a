"""The database: its settings, the engine, the sessions, and how a request gets one.

Nothing here knows what is stored (models.py) or who asks for it (main.py).
"""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Annotated, Any

import psycopg
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import Engine, MetaData, StaticPool, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, DisconnectionError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

# Sessions that can use the database at the same moment, in each process.
POOL_SIZE = 20


def check_url(text: str) -> str:
    """Return `text` as SQLAlchemy wants it: PostgreSQL's short forms get the psycopg 3 driver.

    Raises ValueError if it cannot be used, without quoting it: it may hold a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("not a URL like postgresql://user:password@host:5432/name") from None
    if "@" in (url.host or ""):
        raise ValueError("an @ in the user name or the password is written %40")
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise ValueError("only sqlite:// and postgresql:// are supported")
    if url.drivername == "sqlite" and url.host:
        raise ValueError("SQLite takes three slashes: sqlite:///./app.db")
    return url.render_as_string(hide_password=False)


class Settings(BaseSettings):
    """What the environment, or a file named .env, can set."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    database_url: Annotated[str, AfterValidator(check_url)] = "sqlite:///./app.db"
    debug: bool = False


def engine_options(url: str) -> dict[str, Any]:
    """Return the arguments that `create_engine` takes beside `url` to suit that database."""
    database = make_url(url)
    pool = {"pool_size": POOL_SIZE, "max_overflow": 0}
    if database.get_backend_name() == "postgresql":
        # Rather an error than a request that waits for ever. Later options win: the URL's own.
        options = f"-c statement_timeout=30s {database.query.get('options', '')}"
        return {**pool, "connect_args": {"connect_timeout": 5, "options": options}}
    if database.database in (None, "", ":memory:"):
        # A database in memory is gone with its connection: all sessions share a single one.
        return {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    return {**pool, "connect_args": {"timeout": 30}}


try:
    settings = Settings()
except ValidationError as error:
    sys.exit("\n".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()))

engine = create_engine(
    settings.database_url, echo=settings.debug, **engine_options(settings.database_url)
)
# expire_on_commit stays on: after a commit, what you read is what the database holds.
SessionLocal = sessionmaker(autocommit=False, autoflush=False, bind=engine)


class Base(DeclarativeBase):
    """What every table in models.py derives from."""

    # Names that can be predicted can be dropped by a migration and recognised in an error.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


@event.listens_for(Engine, "connect")
def prepare_sqlite(connection: Any, record: Any) -> None:
    """Give each new SQLite connection what PostgreSQL has from the start."""
    if isinstance(record.driver_connection, psycopg.Connection):
        return
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")  # readers and the writer do not block each other
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()
    # SQLite's own lower() knows only A to Z; a search for "éric" has to find "Éric".
    connection.create_function("lower", 1, lambda text: text and text.lower(), deterministic=True)


@event.listens_for(Engine, "checkout")
def notice_closed_connection(connection: Any, record: Any, proxy: Any) -> None:
    """Replace a pooled connection that the PostgreSQL server has closed in the meantime.

    Its farewell and the end of the stream wait to be read, one after the other, on our side of
    the socket: unlike `pool_pre_ping`, looking there takes no round trip.
    """
    if isinstance(record.driver_connection, psycopg.Connection):
        try:
            record.driver_connection.pgconn.consume_input()
            record.driver_connection.pgconn.consume_input()
        except psycopg.OperationalError as error:
            raise DisconnectionError from error


def init_db(bind: Engine = engine) -> None:
    """Create the tables that do not exist yet; exit with one line if the database is away."""
    import_module("models")  # its classes enter themselves in Base.metadata
    try:
        with bind.begin() as connection:
            # Several workers start at the same time: one creates the tables, the others wait.
            if bind.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(select(func.pg_advisory_xact_lock(1)))
            Base.metadata.create_all(connection)
    except SQLAlchemyError as error:
        where = bind.url.set(query={}).render_as_string(hide_password=True)
        reason = " ".join(str(getattr(error, "orig", error)).split())
        sys.exit(f"Database error: cannot use {where}: {reason}")


def get_db() -> Iterator[Session]:
    """Yield a session and close it in the end, whatever happened in between."""
    db = SessionLocal()
    try:
        yield db
    finally:
        db.close()


async def open_session(request: Request) -> AsyncIterator[Session]:
    """Yield the session of `get_db`, or of what a test put in its place, for one request.

    `Depends(get_db)` would open and close it in a worker thread, because `get_db` is not async.
    Opening costs nothing, and closing neither once the endpoint has ended its transaction: only
    one that is still open, after an error, has to talk to the database and goes to a thread.
    """
    opened = contextmanager(request.app.dependency_overrides.get(get_db, get_db))()
    db = opened.__enter__()
    try:
        yield db
    finally:
        close = partial(opened.__exit__, *sys.exc_info())
        if db.in_transaction():
            await run_in_threadpool(close)
        else:
            close()


# scope="function": the session ends before the answer goes out, so that a commit that fails is
# no 200 and a slow reader holds no connection. max_concurrency: a request waits here, where it
# costs nothing, until a connection is free; every endpoint uses this one name, because each
# Depends() counts for itself.
SessionDep = Annotated[
    Session,
    Depends(
        open_session,
        scope="function",
        max_concurrency=1 if isinstance(engine.pool, StaticPool) else POOL_SIZE,
    ),
]
