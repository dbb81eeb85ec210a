"""Connections: how many there are, how long we wait for them, and what each is told first."""

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import WeakSet

from sqlalchemy import (
    URL,
    AsyncAdaptedQueuePool,
    Connection,
    Engine,
    NullPool,
    PoolProxiedConnection,
    QueuePool,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import (
    DataError,
    DisconnectionError,
    InvalidRequestError,
    SQLAlchemyError,
    TimeoutError,
)

from core.columns import hold_values, json_text
from core.ids import IdsBehindError, is_of_primary_key, sequence_behind
from core.sessions import WRITES_ONCE, connections_of, plain
from core.sqlite import (
    LOCK_LIMIT,
    OwnCompiler,
    folder_that_is_closed,
    in_memory,
    keep_to_file,
    kind_of_error,
    only_read,
    use_wal,
    wait_for_lock,
)
from core.sqlstates import (
    FEATURE_NOT_SUPPORTED,
    LOCK_NOT_AVAILABLE,
    READ_ONLY_SQL_TRANSACTION,
    sqlstate,
)

log = logging.getLogger(__name__)

READ_ONLY = "A @read_only endpoint cannot write: take @read_only away from above it"
WRITES_MORE = (
    "A @writes_once endpoint has inserted a row, and goes on. On PostgreSQL, the row is there: "
    "take @writes_once away from above it, and all of it is one transaction"
)
WRITES_IN_VAIN = (
    "A @writes_once endpoint has inserted a row, and does not commit. On PostgreSQL, the row is "
    "there: take @writes_once away from above it, and it is not"
)
IN_LOOP = (
    "A lock was not free within 20 ms, and async def code cannot wait for it: everybody else would "
    "wait as well. Write def instead of async def for what uses a session"
)
NO_CONNECTION = (
    "No connection is free, and async def code cannot wait for one. Close the session of a "
    "middleware before it calls the app; write def instead of async def for what uses a session"
)
# In the info of a connection: a transaction, and whether it has begun, or is an INSERT that is sent
# without a BEGIN, and then whether that has done its work.
STAGE = "stage"
BEGUN, ALONE, INSERTED = "begun", "alone", "inserted"
LOOP_LIMIT = 20  # milliseconds
POOL_SIZE = 10  # connections, in each of the two pools of a process
RECYCLE = 60  # seconds after which a connection to a replica is made anew
UNBOUNDED = {"pool_size": 5, "max_overflow": -1}  # keeps five, and opens more if they are in use
READ_LIMIT = 2  # seconds that a statement on a connection for reading may take


# ---- Events of all engines: https://docs.sqlalchemy.org/en/21/core/events.html


@event.listens_for(Engine, "checkout")
def notice_closed_connection(connection: Any, record: Any, proxy: Any) -> None:
    """Replace a pooled connection that the PostgreSQL server has closed in the meantime.

    The last message of the server is here already, unread. To read it takes no round trip, unlike
    `pool_pre_ping`.
    """
    if pgconn := getattr(record.driver_connection, "pgconn", None):  # psycopg's
        try:
            pgconn.consume_input()  # reads the server's last message
            pgconn.consume_input()  # then finds the end: an error
        except Exception as error:
            raise DisconnectionError from error


@event.listens_for(Engine, "handle_error")
def keep_rows_out_of_logs(context: ExceptionContext) -> None:
    """Keep only the first line of an error: in the others, PostgreSQL quotes what was written."""
    hidden = context.engine is not None and context.engine.hide_parameters
    if hasattr(context.original_exception, "sqlstate") and hidden:
        for error in (context.original_exception, context.sqlalchemy_exception):
            if error is not None and error.args:
                error.args = (str(error.args[0]).partition("\n")[0],)


@event.listens_for(Engine, "handle_error")
def name_what_no_column_holds(context: ExceptionContext) -> None:
    """Raise a DataError where a driver or a type has one of Python's own errors for a value.

    A number of more than 64 bits, on SQLite, half a character of UTF-16, what core/columns refuses.
    """
    error, engine = context.original_exception, context.engine
    if isinstance(error, (ArithmeticError, LookupError, ValueError)):
        hidden = engine is None or engine.hide_parameters
        statement, parameters = context.statement, context.parameters
        raise DataError(statement, parameters, error, hide_parameters=hidden)


# ---- Events of ours


def notice_outdated_connection(context: ExceptionContext) -> None:
    """Throw a connection away that cannot be used any more, so that the next one can.

    Its server may have become a standby, or its file was read-only when it was opened: it cannot
    write. Or a migration has changed a table, and a statement was prepared for the old one.
    """
    error = context.original_exception
    unsupported = sqlstate(error) == FEATURE_NOT_SUPPORTED
    if cannot_write(error) or (unsupported and "cached plan" in str(error)):
        context.is_disconnect = True


def number_on(context: ExceptionContext) -> None:
    """Let the ids of a table go on after the highest, where somebody has written rows with ids.

    An import does that, by `COPY`, and PostgreSQL then gives the same ids once more. Raises
    IdsBehindError instead of the IntegrityError: a second try works.
    """
    error, engine = context.original_exception, context.engine
    if engine is None or not is_of_primary_key(error):
        return
    with unpooled_engine(plain(engine)).begin() as connection:
        said = sequence_behind(connection, error)
    if said:
        log.warning("Ids: %s", said)
        raise IdsBehindError(context.statement, None, Exception(said), hide_parameters=True)


def explain_write(context: ExceptionContext) -> None:
    """Say what to do to whoever writes through an engine that only reads."""
    reads = context.engine and context.engine.get_execution_options().get("reads")
    if reads and cannot_write(context.original_exception):
        raise InvalidRequestError(READ_ONLY)


def cannot_write(error: BaseException) -> bool:
    """Tell whether a database has refused a write on a connection that cannot write."""
    on_sqlite = kind_of_error(error) == sqlite3.SQLITE_READONLY
    return on_sqlite or sqlstate(error) == READ_ONLY_SQL_TRANSACTION


# ---- What waits in the event loop


loops = WeakSet[asyncio.AbstractEventLoop]()  # in which requests are answered


def in_loop() -> bool:
    """Tell whether this runs in the event loop of a server, where nobody is answered meanwhile."""
    loop = asyncio._get_running_loop()
    return loop is not None and loop in loops


@contextmanager
def brief_waits(engine: Engine) -> Iterator[None]:
    """Wait for nothing for long in the running event loop.

    Who has a lock or a connection may even wait for the loop, to go on and give it back. A lock
    that is not free within `LOOP_LIMIT` is an OperationalError, and the log says what to write; a
    pool without a free connection is a TimeoutError.
    """
    connect = engine.raw_connection

    def connect_at_once() -> PoolProxiedConnection:
        if in_loop() and isinstance(engine.pool, QueuePool):
            free = connections_of(engine) - engine.pool.checkedout()
            if free <= 0:
                raise TimeoutError(NO_CONNECTION)
        return connect()

    loop = asyncio.get_running_loop()
    vars(engine)["raw_connection"] = connect_at_once
    loops.add(loop)
    try:
        yield
    finally:
        vars(engine)["raw_connection"] = connect
        loops.discard(loop)


def begin_on_sqlite(connection: Any) -> None:
    """Begin a transaction that waits for a lock as long as it may wait here."""
    here = in_loop()
    if here or connection.info.get(LOCK_LIMIT):
        wait_for_lock(connection, LOOP_LIMIT if here else None)


def begin_on_postgresql(connection: Any) -> None:
    """Do the same, in the transaction that psycopg begins with its first statement."""
    if in_loop():
        connection.cursor().execute(f"SET LOCAL lock_timeout = '{LOOP_LIMIT}ms'")


def explain_lock(context: ExceptionContext) -> None:
    """Say in the log why nobody has waited for a lock."""
    error = context.original_exception
    busy = kind_of_error(error) == sqlite3.SQLITE_BUSY
    if (busy or sqlstate(error) == LOCK_NOT_AVAILABLE) and in_loop():
        log.warning(IN_LOOP)


# ---- Engines


def engine_options(url: str | URL, *, debug: bool = False) -> dict[str, Any]:
    """Return what `create_engine` takes beside `url`: a pool that fits, and limits.

    With `debug`, each statement is printed, with what users typed.

    A limit in the URL itself, like `?timeout=5`, stands. Those of PostgreSQL are in `with_events`.
    """
    database = make_url(url)
    options: dict[str, Any] = {
        "echo": debug,
        "hide_parameters": not debug,  # what users typed is not written to the log
        "json_serializer": json_text,
        "pool_size": POOL_SIZE,
        "pool_timeout": 10,  # seconds
        "max_overflow": 0,
    }
    if in_memory(database):
        # Such a database is gone with its connection. All sessions use a single one, in turn.
        pool = AsyncAdaptedQueuePool if database.get_dialect().is_async else QueuePool
        same = {"connect_args": {"check_same_thread": False}}
        return options | same | {"poolclass": pool, "pool_size": 1}
    if database.get_backend_name() == "sqlite" and "timeout" not in database.query:
        options["connect_args"] = {"timeout": 30}
    return options


def new_engine(url: str | URL, *, debug: bool = False, replica: str = "", **more: Any) -> Engine:
    """Return an engine with `engine_options(url)`, or `more` instead of some, and our events.

    Sessions that only read use `replica`, the URL of one or several, where there is one.
    """
    # For core/sessions.py: for which kinds of session there is another engine.
    twins = {
        "read_engine": read_engine,
        "unbounded_engine": unbounded_engine,
        "unpooled_engine": unpooled_engine,
        "autocommit_engine": autocommit_engine,
        "replica": replica,
    }
    more["execution_options"] = twins | more.get("execution_options", {})
    return with_events(create_engine(url, **engine_options(url, debug=debug) | more))


def with_events(engine: Engine) -> Engine:
    """Return `engine`, with the events of ours."""
    prepare(engine)
    # What each new connection is told is up to its engine. All else is for the twins as well.
    engine.update_execution_options(own=set(engine.pool.dispatch.connect.listeners))
    if engine.name == "postgresql":
        from core.postgresql import begin_by_itself, set_local_limits

        event.listen(engine, "begin", set_local_limits)
        event.listen(engine, "checkin", begin_by_itself)
        event.listen(engine, "handle_error", number_on)
    elif engine.name == "sqlite":
        keep_to_file(engine)
    for listener in (notice_outdated_connection, explain_write, explain_lock):
        event.listen(engine, "handle_error", listener)
    return engine


def prepare(engine: Engine, **limits: Any) -> None:
    """Let an engine tell its connections what they need; `limits` are those of `with_limits`."""
    if engine.name == "postgresql":
        from core.postgresql import with_limits  # not above: core/sqlstates.py says why

        with_limits(engine, **limits)
    elif engine.name == "sqlite":
        engine.dialect.statement_compiler = OwnCompiler
        event.listen(engine, "connect", use_wal)
    begin = {"sqlite": begin_on_sqlite, "postgresql": begin_on_postgresql}.get(engine.name)
    if begin and not (engine.dialect.is_async or limits.get("reads")):
        # Not by an event: SQLAlchemy is slower with each statement as soon as somebody listens.
        vars(engine.dialect)["do_begin"] = begin
    hold_values(engine)


class Twin(Engine):
    """An engine that has events as soon as another one has."""

    like: Engine

    @property
    def _has_events(self) -> bool:
        return self.like._has_events

    @_has_events.setter
    def _has_events(self, value: bool) -> None:
        vars(self.like)["_has_events"] = value


def twin_of(engine: Engine, twin: Engine, **limits: Any) -> Engine:
    """Return `twin`, which everybody hears who listens on `engine`: we and others, also later."""
    prepare(twin, **limits)
    # Nothing is passed on, which would make each statement slower: both have the same lists.
    twin.__class__ = Twin
    vars(twin).update(dispatch=engine.dispatch, like=engine)
    vars(twin.dialect).update(dispatch=engine.dialect.dispatch, _has_events=True)
    own = engine.get_execution_options().get("own", set())

    def tell(connection: Any, record: Any) -> None:
        for listener in engine.pool.dispatch.connect.listeners:
            if listener not in own:
                listener(connection, record)

    def share(disposed: Engine | None = None) -> None:
        """Share what is said of pools, too; whoever disposes of an engine gives it another pool."""
        heard, like = twin.pool.dispatch, engine.pool.dispatch
        for name in map(str, like._event_names):
            if name not in ("connect", "first_connect"):
                setattr(heard, name, getattr(like, name).for_modify(like))

    event.listen(twin, "connect", tell)
    has_events = engine._has_events
    event.listen(engine, "engine_disposed", share)
    vars(engine)["_has_events"] = has_events  # as for statements, nobody listens yet
    share()
    return twin


@cache
def read_engine(engine: Engine, *, bounded: bool = True) -> Engine:
    """Return an engine that only reads from the database of `engine`, or from its replicas.

    With AUTOCOMMIT there is no BEGIN before a SELECT and no ROLLBACK after it: on PostgreSQL one
    round trip instead of three, unless there is a pooler. Each statement still sees the data as of
    one moment. A write, which would be committed at once, is an error. A database in memory has a
    single connection for everything, and so `engine` itself is returned.

    Not `bounded`, it opens as many connections as are asked for.
    """
    if in_memory(engine.url):
        return engine
    url, more = engine.url, {} if bounded else UNBOUNDED
    replica = engine.get_execution_options().get("replica")
    if replica and engine.name == "postgresql":
        # Sooner or later, reads return to a replica that has been away.
        url, more = make_url(replica), more | {"pool_recycle": RECYCLE}
    reading = create_engine(
        url,
        **engine_options(url, debug=not engine.hide_parameters) | more,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        execution_options={
            "reads": True,
            "unbounded_engine": lambda reading: read_engine(engine, bounded=False),
        },
    )
    twin_of(engine, reading, statement=READ_LIMIT, reads=True)
    if engine.name == "sqlite":
        only_read(reading, READ_LIMIT)
    return reading


@cache
def unbounded_engine(engine: Engine) -> Engine:
    """Return an engine that opens as many connections as are asked for, and keeps a few.

    For whoever stays for hours: who waited for a connection there would wait for ever.
    """
    if in_memory(engine.url):
        return engine
    options = engine_options(engine.url, debug=not engine.hide_parameters) | UNBOUNDED
    return twin_of(engine, create_engine(engine.url, **options))


@cache
def unpooled_engine(engine: Engine) -> Engine:
    """Return an engine that opens a new connection each time, to the database of `engine`."""
    if in_memory(engine.url):
        return engine
    options = engine_options(engine.url, debug=not engine.hide_parameters)
    of_the_pool = ("pool_size", "pool_timeout", "max_overflow")
    others = {name: option for name, option in options.items() if name not in of_the_pool}
    return twin_of(engine, create_engine(engine.url, poolclass=NullPool, **others))


@cache
def autocommit_engine(engine: Engine) -> Engine:
    """Return an engine with the connections of `engine`, for what inserts a row and nothing else.

    On PostgreSQL, an INSERT of one row that comes first in a transaction is sent without BEGIN, and
    is committed by itself: one round trip instead of three. Whatever comes first otherwise begins
    a transaction, as ever. To go on after such an INSERT is an error, on SQLite too, so that nobody
    relies on a transaction that is not there.
    """
    own = engine.execution_options(**{WRITES_ONCE: engine})
    event.listen(own, "before_cursor_execute", send_insert_alone)
    event.listen(own, "after_cursor_execute", note_insert)
    event.listen(own, "rollback", explain_write_in_vain)
    return own


def stage_of(connection: Connection) -> str:
    """Return how far the transaction of a `@writes_once` endpoint is."""
    transaction, stage = connection.info.get(STAGE, (None, ""))
    return stage if transaction is connection.get_transaction() else ""


def send_insert_alone(
    connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, many: bool
) -> None:
    """Send an INSERT without BEGIN if it comes first; raise InvalidRequestError if more follows."""
    before, transaction = stage_of(connection), connection.get_transaction()
    if before == INSERTED:
        raise InvalidRequestError(WRITES_MORE)
    if transaction is None or before == BEGUN:  # None: it is what the transaction begins with
        return
    one_row = context.isinsert and len(context.compiled_parameters) == 1
    alone = one_row and before != ALONE  # where it is, that has failed
    if connection.dialect.name == "postgresql":
        from core.postgresql import send_alone

        alone = send_alone(connection, alone)
    connection.info[STAGE] = transaction, ALONE if alone else BEGUN


def note_insert(connection: Connection, *_: Any) -> None:
    """Note that a row is there, which no rollback takes away."""
    if stage_of(connection) == ALONE:
        connection.info[STAGE] = connection.get_transaction(), INSERTED


def explain_write_in_vain(connection: Connection) -> None:
    """Say in the log that it is not taken away."""
    if not connection.invalidated and stage_of(connection) == INSERTED:
        log.error(WRITES_IN_VAIN)


def close_all(engine: Engine) -> None:
    """Close the connections that an engine and its twins have in their pools."""
    for reading in (read_engine(engine), read_engine(engine, bounded=False)):
        reading.dispose()
    for writing in (unbounded_engine(engine), engine):
        writing.dispose()


# ---- What may be said of them


def name_of(bind: Engine) -> str:
    """Return the URL of a database as it may be shown: without passwords."""
    hosts = {key: bind.url.query[key] for key in ("host", "port") if key in bind.url.query}
    return bind.url.set(query=hosts).render_as_string(hide_password=True)


def explain(error: SQLAlchemyError, bind: Engine) -> str:
    """Return in one line which database cannot be used, and why."""
    reason = " ".join(str(getattr(error, "orig", error)).split())
    second = isinstance(bind, Twin) and bind.url == bind.like.url
    if second and "closed the connection" in reason:
        reason += (
            ". If it takes one connection and no second one, like the server of PGlite by default, "
            "start it with more: pglite-server --max-connections=30"
        )
    if folder := folder_that_is_closed(bind.url):
        reason += f". SQLite has to write in its folder as well, and nobody may in {folder}"
    return f"Database error: cannot use {name_of(bind)}: {reason}"
