"""PostgreSQL: what a connection is told first, how long we wait for it, and poolers before it."""

import re
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Connection, Dialect, Engine, event

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

Result = TypeVar("Result")


# ---- A server that is there and does not answer: it is frozen, or its disk is


class TimedConnection(psycopg.Connection[Any]):
    """A connection that is closed if an answer does not come within `patience` seconds.

    The server itself ends what takes too long, unless it is frozen. Then its machine still
    acknowledges what we send, and TCP sees nothing wrong.
    """

    patience: float | None = 10.0  # until set_limits() has said how long a statement may take

    def wait(
        self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None
    ) -> Result:
        """Wait as psycopg does, and no longer."""
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.OperationalError as error:
            if self.info.transaction_status == TransactionStatus.ACTIVE:
                self.close()
                raise psycopg.OperationalError(NO_ANSWER.format(self.patience)) from error
            raise


class TimedAsyncConnection(psycopg.AsyncConnection[Any]):
    """The same for asyncio."""

    patience: float | None = 10.0

    async def wait(
        self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None
    ) -> Result:
        """Wait as psycopg does, and no longer."""
        try:
            return await super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.OperationalError as error:
            if self.info.transaction_status == TransactionStatus.ACTIVE:
                await self.close()
                raise psycopg.OperationalError(NO_ANSWER.format(self.patience)) from error
            raise


def set_patience(connection: Connection, seconds: float | None) -> float | None:
    """Let a connection wait that long for each answer, None: for ever; return what it was."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, TimedConnection):
        return None  # somebody's own engine
    before, driver.patience = driver.patience, seconds
    return before


# ---- Poolers


def is_pooled(url: URL) -> bool:
    """Tell whether a pooler gives each transaction another connection, as PgBouncer may.

    The URL says so, in the word that Prisma's users know, `?pgbouncer=true`; or it is an address
    that Neon (https://neon.com/docs/connect/connection-pooling) or Supabase
    (https://supabase.com/docs/guides/database/connecting-to-postgres) gives its users.
    """
    said = url.query.get("pgbouncer")
    host = url.host or ""
    neon = re.search(r"-pooler\..*\bneon\.tech$", host)
    supabase = re.search(r"\.supabase\.(com|co)$", host) and url.port == 6543
    return said == "true" or bool(said is None and (neon or supabase))


# ---- Events


def with_limits(engine: Engine, *, statement: int = STATEMENT_LIMIT, reads: bool = False) -> None:
    """Give all connections of an engine limits; `reads`: they cannot write, either.

    `statement` is the limit of a statement in seconds. What `options` in the URL says stands. The
    limits are told to the server by SET, since PgBouncer refuses a connection that begins with
    `options`.
    """
    url = engine.url
    own = str(url.query.get("options", ""))
    limits = {"statement_timeout": f"{statement}s", "lock_timeout": f"{LOCK_LIMIT}s"}
    settings = {name: limit for name, limit in limits.items() if name not in own}

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Dialect, record: object, _: object, arguments: dict[str, Any]) -> Any:
        arguments.pop("pgbouncer", None)
        for name, limit in CONNECTION_LIMITS.items():
            arguments.setdefault(name, limit)
        if "," in arguments.get("host", "") and "connect_timeout" not in url.query:
            arguments["connect_timeout"] = 2  # for each of them, until one answers
        if is_pooled(url):
            arguments["prepare_threshold"] = None  # what is prepared stays with a connection
        if dialect.is_async:
            arguments["async_creator_fn"] = TimedAsyncConnection.connect
            return None  # SQLAlchemy goes on with these arguments
        return TimedConnection.connect(**arguments)

    if is_pooled(url):
        # Whatever is set lasts as long as the transaction, and goes with BEGIN in one message.
        begin = "BEGIN READ ONLY" if reads else "BEGIN"
        local = "".join(f"; SET LOCAL {name} = '{limit}'" for name, limit in settings.items())

        @event.listens_for(engine, "connect")
        def be_patient(connection: Any, record: Any) -> None:
            record.driver_connection.patience = statement + GRACE

        @event.listens_for(engine, "begin")
        def set_local_limits(connection: Connection) -> None:
            connection.exec_driver_sql(begin + local)

        return
    if reads:
        # Read-only from the start, PostgreSQL would be hidden from target_session_attrs=read-write.
        # And it plans a prepared statement once for all values: a plan that is right for a text
        # that everybody has may take seconds for one that nobody has.
        settings |= {"default_transaction_read_only": "on", "plan_cache_mode": "force_custom_plan"}

    @event.listens_for(engine, "connect")
    def set_limits(connection: Any, record: Any) -> None:
        autocommit, connection.autocommit = connection.autocommit, True
        cursor = connection.cursor()
        cursor.execute("; ".join(f"SET {name} = '{value}'" for name, value in settings.items()))
        patience: float | None = statement + GRACE
        if "statement_timeout" not in settings:
            cursor.execute("SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'")
            (milliseconds,) = cursor.fetchone()
            patience = milliseconds / 1000 + GRACE if milliseconds else None
        record.driver_connection.patience = patience
        connection.autocommit = autocommit
