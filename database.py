"""The database: its settings, the engines and the sessions.

Nothing here knows what is stored (models.py) or who asks for it (dependencies.py).
"""

import sqlite3
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import psycopg
from pydantic import AfterValidator, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    MetaData,
    NullPool,
    StaticPool,
    create_engine,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import (
    ArgumentError,
    DisconnectionError,
    InvalidRequestError,
    SQLAlchemyError,
)
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker


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
    if url.drivername == "sqlite" and (url.host or url.port or url.username or url.password):
        raise ValueError("SQLite takes three slashes: sqlite:///./app.db")
    return url.render_as_string(hide_password=False)


class Settings(BaseSettings):
    """What the environment, or a file named .env, can set."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    database_url: Annotated[str, AfterValidator(check_url)] = "sqlite:///./app.db"
    debug: bool = False


try:
    settings = Settings()
except ValidationError as error:
    sys.exit("\n".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()))

POOL_SIZE = 10  # connections, in each of the two pools of a process

# How long a client of PostgreSQL waits, in seconds, but tcp_user_timeout in milliseconds. Without
# these, one whose server has vanished waits for a quarter of an hour:
# https://www.postgresql.org/docs/current/libpq-connect.html
POSTGRESQL_LIMITS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}


def engine_options(url: str | URL) -> dict[str, Any]:
    """Return what `create_engine` takes beside `url`: a pool that fits, and limits.

    A limit in the URL itself, like `?connect_timeout=2`, stands.
    """
    database = make_url(url)
    postgresql = database.get_backend_name() == "postgresql"
    # What users typed belongs in no log, except for whoever asks for it.
    options: dict[str, Any] = {"echo": settings.debug, "hide_parameters": not settings.debug}
    if not postgresql and database.database in (None, "", ":memory:"):
        # A database in memory is gone with its connection: all sessions share a single one.
        return options | {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    limits = POSTGRESQL_LIMITS if postgresql else {"timeout": 30}
    arguments: dict[str, object] = {k: v for k, v in limits.items() if k not in database.query}
    if postgresql:
        # Rather an error than a request that waits for ever; of equal options the last one wins.
        own = database.query.get("options", "")
        arguments["options"] = f"-c statement_timeout=30s -c lock_timeout=5s {own}"
    return options | {"pool_size": POOL_SIZE, "max_overflow": 0, "connect_args": arguments}


def create_read_engine(engine: Engine) -> Engine:
    """Return an engine that only reads from the database of `engine`.

    With AUTOCOMMIT there is no BEGIN before a SELECT and no ROLLBACK after it: on PostgreSQL one
    round trip instead of three. Each statement still sees the data as of one moment. A write,
    which would be committed at once, is an error. A database in memory has a single connection
    for everything, and so `engine` itself is returned.
    """
    if isinstance(engine.pool, StaticPool):
        return engine
    options = engine_options(engine.url)
    read_engine = create_engine(
        engine.url, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True, **options
    )

    @event.listens_for(read_engine, "connect")
    def make_read_only(connection: Any, record: Any) -> None:
        if engine.name == "sqlite":
            connection.execute("PRAGMA query_only = ON")
        else:
            # Set from the start, it would hide the server from target_session_attrs=read-write.
            connection.execute("SET default_transaction_read_only = on")

    return read_engine


engine = create_engine(settings.database_url, **engine_options(settings.database_url))
read_engine = create_read_engine(engine)
# For /health, a new connection each time: it tells whether one can be had, and even while the
# pools are all in use.
health_engine = create_engine(
    engine.url,
    poolclass=NullPool,
    connect_args=engine_options(engine.url)["connect_args"],
)

# expire_on_commit stays on: after a commit, what you read is what the database holds.
SessionLocal = sessionmaker(autocommit=False, autoflush=False, bind=engine)
ReadSessionLocal = sessionmaker(autoflush=False, bind=read_engine)


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


# ---- Events of the engines: https://docs.sqlalchemy.org/en/21/core/events.html


@event.listens_for(Engine, "connect")
def prepare_sqlite(connection: Any, record: Any) -> None:
    """Give each new SQLite connection what PostgreSQL has from the start."""
    if not hasattr(connection, "create_function"):
        return  # not SQLite
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")  # readers and the writer do not block each other
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()
    # SQLite's own lower() knows only A to Z; a search for "éric" has to find "Éric".
    connection.create_function("lower", 1, lambda text: text and text.lower(), deterministic=True)


@event.listens_for(Engine, "checkout")
def notice_closed_connection(connection: Any, record: Any, proxy: Any) -> None:
    """Replace a pooled connection that the PostgreSQL server has closed in the meantime.

    What it sent as it did so has arrived here, but nobody has read it. Unlike `pool_pre_ping`,
    reading it takes no round trip.
    """
    if isinstance(record.driver_connection, psycopg.BaseConnection):
        try:
            record.driver_connection.pgconn.consume_input()  # reads the server's last message
            record.driver_connection.pgconn.consume_input()  # then finds that there is no more
        except psycopg.OperationalError as error:
            raise DisconnectionError from error


@event.listens_for(Engine, "handle_error")
def notice_read_only_database(context: ExceptionContext) -> None:
    """Throw a connection away that cannot write any more, so that the next one can.

    Its server may have become a standby, or its file was read-only when it was opened.
    """
    error = context.original_exception
    on_sqlite = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY
    if on_sqlite or isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        if context.dialect.skip_autocommit_rollback:
            raise InvalidRequestError("A session for reading cannot write: take a SessionDep")
        context.is_disconnect = True


@event.listens_for(Engine, "handle_error")
def keep_rows_out_of_logs(context: ExceptionContext) -> None:
    """Keep only the first line of an error: in the others, PostgreSQL quotes what was written."""
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None and error.args and not settings.debug:
            error.args = (str(error.args[0]).partition("\n")[0],)


def create_tables(connection: Connection) -> None:
    """Create the tables that do not exist yet, in a transaction of `connection`."""
    import models  # noqa: F401, its classes enter themselves in Base.metadata

    # Several workers start at the same time: one creates the tables, the others wait.
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(select(func.pg_advisory_xact_lock(1)))
    Base.metadata.create_all(connection)


def explain(error: SQLAlchemyError, bind: Engine) -> str:
    """Return in one line which database cannot be used, and why, without its password."""
    where = bind.url.set(query={}).render_as_string(hide_password=True)
    reason = " ".join(str(getattr(error, "orig", error)).split())
    return f"Database error: cannot use {where}: {reason}"


def init_db(bind: Engine = engine) -> None:
    """Create the tables that do not exist yet; exit with one line if the database is away."""
    try:
        with bind.begin() as connection:
            create_tables(connection)
    except SQLAlchemyError as error:
        sys.exit(explain(error, bind))


def get_db() -> Iterator[Session]:
    """Yield a session and close it in the end, whatever happened in between."""
    db = SessionLocal()
    try:
        yield db
    finally:
        db.close()


def get_read_db() -> Iterator[Session]:
    """Yield a session that can only read, and close it in the end."""
    db = ReadSessionLocal()
    try:
        yield db
    finally:
        db.close()
