"""PostgreSQL: what a connection is told first, how long we wait for it, and poolers before it."""

import logging
import re
import time
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar, cast

import psycopg
from psycopg.abc import AdaptContext, Buffer, PQGen
from psycopg.adapt import Loader
from psycopg.pq import Format, PipelineStatus, TransactionStatus
from psycopg.types.datetime import IntervalLoader
from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from core.columns import say
from core.sessions import WRITES_ONCE

log = logging.getLogger(__name__)

# Options of SQLAlchemy that psycopg says in its BEGIN.
OF_BEGIN = ("isolation_level", "postgresql_readonly", "postgresql_deferrable")
# In the info of a connection: whether it is a pooler's, whether it only reads, and its limits.
POOLED, READS, LOCAL = "pooled", "reads", "local"
STATEMENT_LIMIT = 30  # seconds
LOCK_LIMIT = 5  # seconds
GRACE = 3  # seconds that a server has, after the limit of a statement, to say that it is over

# How long we wait for a server, in seconds (tcp_user_timeout: milliseconds). Without these
# limits, whoever is connected to a server that has vanished waits for a quarter of an hour:
# https://www.postgresql.org/docs/current/libpq-connect.html
CONNECTION_LIMITS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}

NO_ANSWER = (
    "no answer from PostgreSQL within {:.0f} s. If a statement may take so long, say so in the "
    "URL: ?options=-cstatement_timeout=10min"
)

# What tells that a server talks to us by a connection of our own. A pooler tells each client a
# process id of its own making, or of the connection that it was lent at first; PGlite has one
# session, and all its clients share it.
PGLITE = "version() LIKE '%PGlite%'"
OWN = f"pg_backend_pid() = {{}} AND NOT {PGLITE}"

NO_ENCODING = (
    "its encoding is SQL_ASCII, in which letters beyond A to Z are no letters: make another, with "
    "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0 LOCALE 'C.UTF-8'"
)

Result = TypeVar("Result")


# ---- A server that is there and does not answer: it is frozen, or its disk is


def with_deadline(
    connection: "TimedConnection | TimedAsyncConnection", gen: PQGen[Result]
) -> PQGen[Result]:
    """Give up if nothing arrives for as long as the connection has patience.

    psycopg asks the generator what to wait for, and again each tenth of a second.
    """
    heard = time.monotonic()
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            now = time.monotonic()
            patience = connection.patience
            if ready:
                heard = now
            elif patience and now - heard > patience and has_to_answer(connection):
                raise NoAnswerError(NO_ANSWER.format(patience))
            wanted = gen.send(ready)
    except StopIteration as result:
        return cast(Result, result.value)


def has_to_answer(connection: psycopg.BaseConnection[Any]) -> bool:
    """Tell whether a server that is well would have answered by now, or ended the statement.

    Not if we wait for a NOTIFY, or for many statements at once, as `executemany` sends them: all
    their answers come together, after the last.
    """
    status, pipeline = connection.pgconn.transaction_status, connection.pgconn.pipeline_status
    return status == TransactionStatus.ACTIVE and pipeline == PipelineStatus.OFF


class NoAnswerError(psycopg.OperationalError):
    """A server did not answer in time."""


class TimedConnection(psycopg.Connection[Any]):
    """A connection that is closed if nothing is heard of the server for `patience` seconds.

    The server itself ends what takes too long, unless it is frozen. Then its machine still
    acknowledges what we send, and TCP sees nothing wrong.
    """

    patience: float | None = 5.0  # until set_limits() has said how long a statement may take

    def wait(self, gen: PQGen[Result], *args: Any, **options: Any) -> Result:
        """Wait as psycopg does, and no longer."""
        try:
            return super().wait(with_deadline(self, gen), *args, **options)
        except NoAnswerError:
            # If the server lives, and waits for its standby, it need not do so for us any more.
            with suppress(psycopg.Error):
                self.cancel_safe(timeout=1)
            self.close()
            raise


class TimedAsyncConnection(psycopg.AsyncConnection[Any]):
    """The same for asyncio."""

    patience: float | None = 5.0

    async def wait(self, gen: PQGen[Result], *args: Any, **options: Any) -> Result:
        """Wait as psycopg does, and no longer."""
        try:
            return await super().wait(with_deadline(self, gen), *args, **options)
        except NoAnswerError:
            with suppress(psycopg.Error):
                await self.cancel_safe(timeout=1)
            await self.close()
            raise


def set_patience(connection: Connection, seconds: float | None) -> float | None:
    """Let a connection wait that long for each answer, None: for ever; return what it was."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, TimedConnection):
        return None  # somebody's own engine
    before, driver.patience = driver.patience, seconds
    return before


# ---- Poolers


def is_pooled(url: URL) -> bool | None:
    """Tell whether a pooler gives each transaction another connection, as PgBouncer may.

    The URL says so, in the word that Prisma's users know, `?pgbouncer=true`; or it is an address
    that Neon (https://neon.com/docs/connect/connection-pooling) or Supabase
    (https://supabase.com/docs/guides/database/connecting-to-postgres) gives its users. None, if it
    says nothing: then each connection finds out.
    """
    if "pgbouncer" in url.query:
        return url.query["pgbouncer"] == "true"
    host = url.host or ""
    neon = re.search(r"-pooler\..*\bneon\.tech$", host)
    supabase = re.search(r"\.supabase\.(com|co)$", host) and url.port == 6543
    return True if neon or supabase else None


@cache
def say_that_it_is_pooled(address: str) -> None:
    """Write to the log, once, how the app treats a pooler that it has found."""
    log.warning(
        "A pooler answers at %s. It may give each transaction another connection, so no statement "
        "is prepared, and limits are set in each transaction. If it is PgBouncer in session mode, "
        "?pgbouncer=false in the URL says so, and is faster.",
        address,
    )


def who_answers(cursor: Any) -> str:
    """Return who stands between us and a server: Pgpool-II, PGlite, or another pooler.

    Pgpool-II, which nobody else has this setting of, keeps its connections for a client until it
    leaves. A BEGIN that shares its message with others would reach one of its servers only (in
    4.3), and a SAVEPOINT all of them.
    """
    cursor.execute(f"SELECT {PGLITE}")
    if cursor.fetchone()[0]:
        return "PGlite"
    try:
        cursor.execute("SHOW pool_version")
    except psycopg.Error:
        return "pooler"
    return "Pgpool-II"


class ClientCursor(psycopg.Cursor[Any]):
    """Reads all rows at once where a cursor on the server is asked for, as `yield_per` does.

    Pgpool-II 4.3 does not know the cursor that psycopg has declared.
    """

    def __init__(self, connection: psycopg.Connection[Any], name: str, **_: Any) -> None:
        super().__init__(connection, row_factory=connection.row_factory)


# ---- What psycopg reads


# What PostgreSQL can store and Python cannot: infinity, NaN, a year after 9999, the hour 24.
LOADED = ("date", "time", "timetz", "timestamp", "timestamptz", "interval", "numeric")


def readable(name: str) -> type[Loader]:
    """Return what reads a type of PostgreSQL, and None where Python has no such value."""
    adapters = psycopg.adapters
    kind = adapters.get_loader(adapters.types[name].oid, Format.TEXT)
    if name == "interval":  # the one in C makes 12032704 days of 11800000 years
        kind = IntervalLoader

    class ReadableLoader(Loader):
        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self.read = kind(oid, context).load if kind else None

        def load(self, data: Buffer) -> Any:
            try:
                return self.read(data) if self.read else None
            except (psycopg.DataError, OverflowError) as error:
                say(name, str(error).partition(":")[0])
                return None

    class FiniteLoader(ReadableLoader):
        def load(self, data: Buffer) -> Any:
            value = super().load(data)
            if value is None or value.is_finite():
                return value
            say(name, str(value))
            return None

    return FiniteLoader if name == "numeric" else ReadableLoader


LOADERS = {name: readable(name) for name in LOADED}


# ---- Limits


def said_in(url: URL) -> dict[str, str]:
    """Return what `options` in a URL sets, like `-c statement_timeout=5s`."""
    given = url.query.get("options", ())
    text = given if isinstance(given, str) else " ".join(given)
    found = re.findall(r"(?:-c\s*|--)([\w.-]+)=((?:\\.|\S)*)", text)
    return {name.lower().replace("-", "_"): value.replace("\\", "") for name, value in found}


def in_seconds(limit: str) -> float | None:
    """Return a limit of PostgreSQL, like `5s` or `100` (milliseconds), in seconds; None: none."""
    units = {"us": 1e-6, "": 0.001, "ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}
    found = re.fullmatch(r"'?(\d+)\s*(us|ms|s|min|h|d|)'?", limit)
    return (int(found[1]) * units[found[2]] or None) if found else None


def with_limits(engine: Engine, *, statement: int = STATEMENT_LIMIT, reads: bool = False) -> None:
    """Give all connections of an engine limits; `reads`: they cannot write, either.

    `statement` is the limit of a statement in seconds. What `options` in the URL says stands. The
    limits are told by a statement, since PgBouncer refuses a connection that begins with `options`.
    """
    url = engine.url
    pooled = is_pooled(url)
    said = said_in(url)
    limits = {"statement_timeout": f"{statement}s", "lock_timeout": f"{LOCK_LIMIT}s"}
    limit = in_seconds((limits | said)["statement_timeout"])
    patience = limit + GRACE if limit else None

    dialect = engine.dialect
    connect = dialect.connect

    def connect_in_time(*_: object, **arguments: Any) -> Any:
        arguments.pop("pgbouncer", None)
        if "," in arguments.get("host", ""):
            arguments.setdefault("connect_timeout", 2)  # for each of them, until one answers
        for name, seconds in CONNECTION_LIMITS.items():
            arguments.setdefault(name, seconds)
        # For pg_stat_activity, and for a balancer, which sends what it may to a standby: to read
        # there what is to be changed would be to read what was. An application_name goes before.
        arguments.setdefault("fallback_application_name", "reads" if reads else "writes")
        if isinstance(arguments.get("options"), tuple):
            arguments["options"] = " ".join(arguments["options"])
        if pooled:
            arguments.pop("options", None)  # set_local_limits() says the same
        if dialect.is_async:
            return connect(**arguments, async_creator_fn=TimedAsyncConnection.connect)
        connection = TimedConnection.connect(**arguments)
        if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            connection.close()
            raise psycopg.NotSupportedError(NO_ENCODING)
        return connection

    # No event `do_connect`, because the first of those that connects is the last: somebody else's,
    # which asks for a new password each time, has to come before this.
    vars(dialect)["connect"] = connect_in_time
    settings = {name: value for name, value in limits.items() if name not in said}
    if reads:
        # Read-only from the start, PostgreSQL would be hidden from target_session_attrs=read-write.
        # And it plans a prepared statement once for all values: a plan that is right for a text
        # that everybody has may take seconds for one that nobody has.
        settings |= {"default_transaction_read_only": "on", "plan_cache_mode": "force_custom_plan"}
    told = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    each = [f"SET {name} = '{value}'" for name, value in settings.items()]
    local = [f"SET LOCAL {name} = '{value}'" for name, value in (limits | said).items()]
    found: list[str] = []  # who answers in place of a server, asked once

    @event.listens_for(engine, "connect")
    def set_limits(connection: Any, record: ConnectionPoolEntry) -> None:
        """Tell a connection its limits, unless they would stay with a connection of a pooler."""
        driver: Any = record.driver_connection
        driver.patience = patience
        for name, loader in LOADERS.items():
            driver.adapters.register_loader(name, loader)
        record.info.update({POOLED: pooled, READS: reads, LOCAL: local})
        if not pooled:
            autocommit, connection.autocommit = connection.autocommit, True
            cursor = connection.cursor()
            own = OWN.format(driver.info.backend_pid)
            cursor.execute(f"SELECT {told} WHERE {own}")
            if cursor.fetchone() is None:
                found[:] = found or [who_answers(cursor)]
                who = found[0]
                if who == "Pgpool-II" and isinstance(driver, psycopg.Connection):
                    vars(driver)["server_cursor_factory"] = ClientCursor
                record.info[POOLED] = who == "PGlite" or (who == "pooler" and pooled is None)
                if not record.info[POOLED]:
                    for statement in each:  # Pgpool-II tells all its servers, if it is told one
                        cursor.execute(statement)
                elif who == "pooler":
                    say_that_it_is_pooled(f"{driver.info.host}:{driver.info.port}")
            connection.autocommit = autocommit
        if record.info[POOLED]:
            driver.prepare_threshold = None  # what is prepared stays with a connection
            engine.dialect.skip_autocommit_rollback = False  # of a read_engine


def set_local_limits(connection: Connection) -> None:
    """Let whatever is set behind a pooler last as long as the transaction, as it begins."""
    own = connection.get_execution_options()
    if not connection.info[POOLED] or own.get("isolation_level") == "AUTOCOMMIT":
        return  # somebody wants no transaction, for VACUUM
    local: list[str] = connection.info[LOCAL]
    driver: Any = connection.connection.dbapi_connection
    if own.keys().isdisjoint(OF_BEGIN):
        # They go with BEGIN in one message. psycopg would say a BEGIN of its own first.
        driver.autocommit = True
        local = ["BEGIN READ ONLY" if connection.info[READS] else "BEGIN", *local]
    connection.exec_driver_sql(
        "; ".join(local), execution_options={"stream_results": False, "yield_per": None}
    )


def begin_by_itself(connection: Any, record: ConnectionPoolEntry) -> None:
    """Let a script that asks the pool for a connection have psycopg's transactions."""
    changed = record.info.get(POOLED) or record.info.pop(WRITES_ONCE, False)
    if connection and changed and not record.info[READS]:
        connection.autocommit = False


def send_alone(connection: Connection, alone: bool) -> bool:
    """Let the next statement be a transaction by itself, or not any more; tell whether it is.

    It is not where a transaction has begun, or is to be one of a special kind.
    """
    driver: Any = connection.connection.dbapi_connection
    sent_alone = connection.info.get(WRITES_ONCE, False)
    special = driver.isolation_level or driver.read_only or driver.deferrable
    begun = driver.info.transaction_status != TransactionStatus.IDLE
    if alone and (begun or special or (driver.autocommit and not sent_alone)):
        return False
    if alone != sent_alone:
        driver.autocommit = connection.info[WRITES_ONCE] = alone
    return alone
