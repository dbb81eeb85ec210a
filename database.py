"""The database: its settings, the engines and the sessions.

Nothing here knows what is stored (models.py) or who asks for it (dependencies.py).
"""

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
    StaticPool,
    create_engine,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, DisconnectionError, SQLAlchemyError
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
    if url.drivername == "sqlite" and url.host:
        raise ValueError("SQLite takes three slashes: sqlite:///./app.db")
    return url.render_as_string(hide_password=False)


class Settings(BaseSettings):
    """What the environment, or a file named .env, can set."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    database_url: Annotated[str, AfterValidator(check_url)] = "sqlite:///./app.db"
    debug: bool = False


POOL_SIZE = 10  # connections, in each of the two pools of a process


def engine_options(url: str | URL, pool_size: int = POOL_SIZE) -> dict[str, Any]:
    """Return what `create_engine` takes beside `url`: a pool that fits, and limits in seconds.

    A limit in the URL itself, like `?connect_timeout=2`, stands.
    """
    database = make_url(url)
    postgresql = database.get_backend_name() == "postgresql"
    if not postgresql and database.database in (None, "", ":memory:"):
        # A database in memory is gone with its connection: all sessions share a single one.
        return {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    limits: dict[str, object] = {"connect_timeout": 5} if postgresql else {"timeout": 30}
    arguments = {name: value for name, value in limits.items() if name not in database.query}
    if postgresql:
        # Rather an error than a request that waits for ever; of equal options the last one wins.
        own = database.query.get("options", "")
        arguments["options"] = f"-c statement_timeout=30s -c lock_timeout=5s {own}"
    return {"pool_size": pool_size, "max_overflow": 0, "connect_args": arguments}


def create_read_engine(engine: Engine, pool_size: int = POOL_SIZE) -> Engine:
    """Return an engine that only reads from the database of `engine`.

    With AUTOCOMMIT there is no BEGIN before a SELECT and no ROLLBACK after it: on PostgreSQL one
    round trip instead of three. Each statement still sees the data as of one moment. A write,
    which would be committed at once, is an error. A database in memory has a single connection
    for everything, and so `engine` itself is returned.
    """
    if isinstance(engine.pool, StaticPool):
        return engine
    read_engine = create_engine(
        engine.url,
        echo=engine.echo,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        **engine_options(engine.url, pool_size),
    )

    @event.listens_for(read_engine, "connect")
    def make_read_only(connection: Any, record: Any) -> None:
        if engine.name == "sqlite":
            connection.execute("PRAGMA query_only = ON")
        else:
            # Set from the start, it would hide the server from target_session_attrs=read-write.
            connection.execute("SET default_transaction_read_only = on")

    return read_engine


try:
    settings = Settings()
except ValidationError as error:
    sys.exit("\n".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()))

engine = create_engine(
    settings.database_url, echo=settings.debug, **engine_options(settings.database_url)
)
read_engine = create_read_engine(engine)
# A single connection more: /health answers even while all the others are in use.
health_engine = create_read_engine(engine, pool_size=1)

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


@event.listens_for(Engine, "connect")
def prepare_sqlite(connection: Any, record: Any) -> None:
    """Give each new SQLite connection what PostgreSQL has from the start."""
    if isinstance(record.driver_connection, psycopg.BaseConnection):
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
    if isinstance(record.driver_connection, psycopg.BaseConnection):
        try:
            record.driver_connection.pgconn.consume_input()
            record.driver_connection.pgconn.consume_input()
        except psycopg.OperationalError as error:
            raise DisconnectionError from error


def create_tables(connection: Connection) -> None:
    """Create the tables that do not exist yet, in a transaction of `connection`."""
    import models  # noqa: F401, its classes enter themselves in Base.metadata

    # Several workers start at the same time: one creates the tables, the others wait.
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(select(func.pg_advisory_xact_lock(1)))
    Base.metadata.create_all(connection)


def init_db(bind: Engine = engine) -> None:
    """Create the tables that do not exist yet; exit with one line if the database is away."""
    try:
        with bind.begin() as connection:
            create_tables(connection)
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


def get_read_db() -> Iterator[Session]:
    """Yield a session that can only read, and close it in the end."""
    db = ReadSessionLocal()
    try:
        yield db
    finally:
        db.close()
