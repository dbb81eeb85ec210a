"""How a request gets its session: in turn, and a single one however often it is asked for.

FastAPI gives a session to every request that comes, and runs endpoints in 40 threads. With a
`response_model`, it checks the answer in a thread as well. With enough clients, some requests hold
a connection and wait for that thread, while all threads wait for a connection: nobody is answered
any more. Here, no more requests have a session at once than there are connections. The others wait
in a queue, without a thread, and not for ever.

This file needs no other: beside an app of your own, one line above its `get_db` does the same.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial, wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from anyio import CancelScope, CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import HTTPException
from sqlalchemy import Connection, Engine, NullPool, QueuePool, create_engine, event, exc
from sqlalchemy.orm import Session, SessionTransaction
from starlette.requests import HTTPConnection, Request
from starlette.types import Message

MAX_WAIT = 10.0  # seconds that a request waits for its turn
SEARCHES = 2  # how many have a session at once
ANSWERING = "answering"  # in the info of a session whose endpoint has ended, and it has not
SEARCHING = "searching"  # in that of one that searches: the connection that it has
GONE = "client_gone"  # in the scope of a request
LOOK = 0.1  # seconds after which it is looked whether a client has hung up
THREADS = 40  # in which FastAPI runs endpoints, unless it is told otherwise

WRITES_ONCE = "writes_once"  # a kind of session, and an option of its engine

USED_EARLY = "get_db has used its session before the yield: no @read_only and no WebSocket with it"
ENDED = "This session has ended with its request: open a new one, `with SessionLocal() as db:`"

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
GetDb = Callable[[], Iterator[Session]]


# ---- What an endpoint may say of itself


def read_only(endpoint: Endpoint) -> Endpoint:
    """Say that an endpoint only reads.

    On PostgreSQL, its session needs one round trip for a statement instead of three; on SQLite, it
    never waits for those who write. A write is an InvalidRequestError that says so.
    """
    endpoint.__dict__["session_kind"] = "read_only"
    return endpoint


def writes_once(endpoint: Endpoint) -> Endpoint:
    """Say that an endpoint inserts one row and commits, and writes nothing else.

    On PostgreSQL, if that is all that its session sends, it needs one round trip instead of three:
    the INSERT is a transaction by itself. If something else comes first, there is a transaction as
    ever. Whatever follows such an INSERT is an InvalidRequestError that says so.
    """
    endpoint.__dict__["session_kind"] = WRITES_ONCE
    return endpoint


def searches(parameter: str) -> Callable[[Endpoint], Endpoint]:
    """Say that an endpoint only reads, and that it searches where the URL has this parameter.

    A search may have to look at every row. Two at once are let through, so that all the others,
    which take a thousandth of the time, need not wait behind them.
    """

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.__dict__["searches"] = parameter
        return read_only(endpoint)

    return mark


def new_connection(endpoint: Endpoint) -> Endpoint:
    """Say that an endpoint needs a connection that nobody has used before, as /health does."""
    endpoint.__dict__["session_kind"] = "new_connection"
    return endpoint


def kind_of(connection: HTTPConnection) -> str:
    """Return the kind of session that a request gets, which is up to its endpoint."""
    if connection.scope["type"] == "websocket":
        return "websocket"
    endpoint = connection.scope.get("endpoint")
    parameter: str | None = getattr(endpoint, "searches", None)
    if parameter and connection.query_params.get(parameter):
        return "search"
    marked: str | None = getattr(endpoint, "session_kind", None)
    if is_async(endpoint) and marked == WRITES_ONCE:
        marked = None  # on SQLite, it takes two places
    # An endpoint that says nothing may write, also in a GET: a link that confirms an email does.
    # On SQLite, a GET waits in a queue of its own, since most of them only read.
    if marked or connection.scope.get("method") in ("GET", "HEAD"):
        return marked or "get"
    return "async_write" if is_async(endpoint) else "write"


def sends_events(connection: HTTPConnection) -> bool:
    """Tell whether an endpoint sends events, for ever perhaps: FastAPI's `EventSourceResponse`."""
    return getattr(connection.scope.get("route"), "is_sse_stream", False)


@cache  # not to look at it anew for each request
def is_async(endpoint: Callable[..., Any] | None) -> bool:
    """Tell whether an endpoint runs in the event loop."""
    return iscoroutinefunction(endpoint) and not hasattr(endpoint, "is_sync")  # core/routes.py


@cache
def yields(endpoint: Callable[..., Any] | None) -> bool:
    """Tell whether an endpoint is a generator, which runs while the answer is sent."""
    return isgeneratorfunction(endpoint) or isasyncgenfunction(endpoint)


# ---- Queues


class BusyError(exc.TimeoutError, HTTPException):
    """No session was free in time: a 503, also in an app that has no answer to a TimeoutError."""

    def __init__(self, message: str) -> None:
        exc.TimeoutError.__init__(self, message)
        self.status_code = 503
        self.detail = message
        self.headers = {"Retry-After": "1"}


class Queue:
    """Lets no more than `limit` requests have a session at once, the first to come first."""

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.used = 0
        self.waiting = 0
        self.timeouts = 0  # since the start
        # A server has one event loop, but each TestClient has its own.
        self.lines = WeakKeyDictionary[asyncio.AbstractEventLoop, Line]()
        queues.add(self)

    async def turn(self, wanted: int = 1, request: Request | None = None) -> Callable[[], None]:
        """Wait for as many places, and return what gives them back; raises BusyError if none come.

        No place has been taken then; nor if the client of `request` has hung up: that is a 499.
        """
        loop = asyncio.get_running_loop()
        line = self.lines.get(loop) or self.lines.setdefault(loop, Line(self.limit))
        if not line.take(wanted):
            start = time.monotonic()
            await self.wait(line, wanted)
            # To look takes some time itself, and so it is not done after each short wait.
            waited = time.monotonic() - start
            if request and waited > LOOK and await Client(request).has_gone():
                line.give_back(wanted)
                raise HTTPException(499, "The client has hung up")
        self.used += wanted

        def release() -> None:
            self.used -= wanted
            line.give_back(wanted)

        return release

    async def wait(self, line: "Line", wanted: int) -> None:
        """Wait until places are free."""
        start = time.monotonic()
        self.waiting += 1
        try:
            await line.wait(wanted)
        except TimeoutError:
            self.timeouts += 1
            raise BusyError(f"no session was free within {MAX_WAIT} s") from None
        finally:
            self.waiting -= 1
            for tell in listeners:
                tell(self, time.monotonic() - start)


class Client:
    """Whoever waits for the answer to a request, as long as nobody has hung up."""

    def __init__(self, request: Request) -> None:
        self.scope = request.scope
        self.receive = request._receive
        self.sent: list[Message] = []  # and not read yet by the endpoint
        request._receive = self.next

    async def next(self) -> Message:
        """Return what comes next from the client."""
        return self.sent.pop(0) if self.sent else await self.receive()

    async def has_gone(self) -> bool:
        """Tell whether the client has hung up."""
        if not self.scope.get(GONE):
            with CancelScope() as scope:
                scope.cancel()  # what is not there at once is not waited for
                message = await self.receive()
                self.scope[GONE] = message["type"] == "http.disconnect"
                self.sent.append(message)
        return bool(self.scope.get(GONE))


class Watch:
    """Ends a search as soon as its client has hung up: nobody would read the answer."""

    def __init__(self, db: Session, client: Client) -> None:
        db.info[SEARCHING] = None
        self.over = asyncio.Event()
        self.task = asyncio.create_task(self.look(db, client))

    async def look(self, db: Session, client: Client) -> None:
        """Look from time to time whether the client is still there."""
        while not self.over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self.over.wait()
            connection = db.info[SEARCHING]
            if not self.over.is_set() and await client.has_gone() and connection:
                driver = connection.connection.driver_connection
                if hasattr(driver, "interrupt"):
                    driver.interrupt()  # SQLite
                else:
                    await run_sync(partial(driver.cancel_safe, timeout=1))

    async def end(self) -> None:
        """Look no more; whatever has been told to stop has heard of it then."""
        self.over.set()
        await self.task


class Line:
    """Those who wait in a queue, in one event loop: faster than with a Semaphore and a timeout."""

    def __init__(self, limit: int) -> None:
        self.free = limit
        self.waiting = deque[tuple[asyncio.Future[None], int]]()

    def take(self, wanted: int) -> bool:
        """Take as many places, if they are free and nobody waits for them."""
        at_once = not self.waiting and self.free >= wanted
        if at_once:
            self.free -= wanted
        return at_once

    async def wait(self, wanted: int) -> None:
        """Wait for as many places; raises TimeoutError if they do not come, and has none then."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self.waiting.append((turn, wanted))
        timer = loop.call_later(MAX_WAIT, give_up, turn)
        try:
            await turn
        except BaseException:
            # It may be cancelled in the moment in which its turn has come.
            came = turn.done() and not (turn.cancelled() or turn.exception())
            self.give_back(wanted if came else 0)
            raise
        finally:
            timer.cancel()

    def give_back(self, number: int) -> None:
        """Give places back, and let those have them who are next."""
        self.free += number
        while self.waiting:
            turn, wanted = self.waiting[0]
            if not turn.done():
                if self.free < wanted:
                    return
                self.free -= wanted
                turn.set_result(None)
            self.waiting.popleft()


def give_up(turn: asyncio.Future[None]) -> None:
    """End a wait."""
    if not turn.done():
        turn.set_exception(TimeoutError())


# For core/telemetry.py: the queues that there are, and who is told how long somebody has waited.
queues = WeakSet[Queue]()
listeners: list[Callable[[Queue, float], None]] = []


class Lane(NamedTuple):
    """A queue, the function that returns the engine of the sessions to which it leads, and places.

    That is how many of them one session takes.
    """

    queue: Queue
    engine_for: Callable[[Engine], Engine]
    places: int = 1


def plain(engine: Engine) -> Engine:
    """Return the engine of which this is the `autocommit_engine`, or this one."""
    found: Engine = engine.get_execution_options().get(WRITES_ONCE, engine)
    return found


def twin(kind: str) -> Callable[[Engine], Engine]:
    """Return what finds the engine for a kind of work: one by core/engines.py, or the same one.

    Kinds are `read_engine`, which only reads, `unbounded_engine`, which has a connection for
    everybody, `unpooled_engine`, which has a new one each time, and `autocommit_engine`.
    """

    def find(engine: Engine) -> Engine:
        engine = plain(engine)
        make = engine.get_execution_options().get(kind)
        found: Engine = make(engine) if make else engine
        return found

    return find


read_engine, unbounded_engine = twin("read_engine"), twin("unbounded_engine")
unpooled_engine, autocommit_engine = twin("unpooled_engine"), twin("autocommit_engine")


def connections_of(engine: Engine) -> int:
    """Return how many connections an engine has at most, or what FastAPI has threads for."""
    pool = engine.pool
    if isinstance(pool, QueuePool):
        overflow: int = vars(pool)["_max_overflow"]  # -1: no end to it
        return THREADS if overflow < 0 else pool.size() + overflow
    return THREADS if isinstance(pool, NullPool) else 1  # like the StaticPool of many lessons


def lanes_of(engine: Engine) -> dict[str, Lane]:
    """Return the lane of each kind of session."""
    connections = connections_of(engine)
    write = async_write = get = Lane(Queue("write", connections), lambda engine: engine)
    # Who stays for hours keeps nobody waiting, because the connection is of another pool.
    endless = {
        name: Lane(Queue(name, sys.maxsize), unbounded_engine) for name in ("websocket", "stream")
    }
    if read_engine(engine) is engine:  # everybody waits in a single line, as in memory
        kinds = ("write", "async_write", "get", "read_only", "search", "new_connection")
        alone = {WRITES_ONCE: write._replace(engine_for=autocommit_engine)}
        return dict.fromkeys(kinds, write) | alone | endless
    if engine.name == "sqlite" and connections > 2:
        # SQLite has one writer at a time. If ten requests try at once, some of them try in vain
        # again and again: the slowest 1 % take 255 to 355 ms instead of 50 to 54. So two may try.
        # Two and not one, so that one slow endpoint of your own does not hold up everybody.
        write = Lane(Queue("write", 2), write.engine_for)
        # An `async def` that waits for the lock of another request keeps that from going on.
        async_write = write._replace(places=2)
        get = Lane(Queue("get", connections - 2), get.engine_for)
    readers = connections_of(read_engine(engine)) - SEARCHES
    return {
        "write": write,
        WRITES_ONCE: write._replace(engine_for=autocommit_engine),
        "async_write": async_write,
        "get": get,
        "read_only": Lane(Queue("read_only", readers), read_engine),
        "search": Lane(Queue("search", SEARCHES), read_engine),
        "new_connection": Lane(Queue("new_connection", 1), unpooled_engine),
    } | endless


# ---- Sessions


def has_no_transactions(bind: Engine | Connection) -> bool:
    """Tell whether nothing has to be ended, as on a `read_engine`."""
    return bool(getattr(bind.dialect, "skip_autocommit_rollback", False))


def has_to_wait(db: object) -> bool:
    """Tell whether the end of a session, or of whatever else `get_db` yields, may take time."""
    if not isinstance(db, Session):
        return True
    return db.in_transaction() and not (db.bind and has_no_transactions(db.bind))


def refuse() -> Any:
    """Refuse to open a connection."""
    raise exc.InvalidRequestError(ENDED)


# The engine of sessions that have ended. Otherwise a session that is used once more, by what a
# request has left behind, takes a connection from the pool that nobody gives back.
ended_engine = create_engine("sqlite://", poolclass=NullPool, creator=refuse)


class Shared:
    """The session of one request, for all who ask for it there."""

    def __init__(self, get_db: GetDb, release: Callable[[], None]) -> None:
        self.release = release
        self.holders = 0
        self.failed: BaseException | None = None
        self.watch: Watch | None = None
        self.loop = asyncio.get_running_loop()
        try:
            self.opened = contextmanager(get_db)()
            self.db = self.opened.__enter__()
        except BaseException:
            release()
            raise

    def begin_answer(self) -> None:
        """Let the place go to the next in line as soon as the session ends a transaction."""
        if self.holders and isinstance(self.db, Session):
            self.db.info[ANSWERING] = self
            if isinstance(self.db.bind, Engine) and not self.db.in_transaction():
                self.db.bind = plain(self.db.bind)  # what its tasks do is not what it has said

    def leave_queue(self) -> None:
        """Give the place back: a stream may last for hours. It has connections of its own now."""
        del self.db.info[ANSWERING]
        release, self.release = self.release, lambda: None
        self.loop.call_soon_threadsafe(release)
        if self.watch:  # who sends the stream looks for its client
            self.loop.call_soon_threadsafe(self.watch.over.set)
        if isinstance(self.db.bind, Engine):
            self.db.bind = unbounded_engine(self.db.bind)

    async def close(self) -> None:
        """Run what follows the yield in `get_db`, and let the next in line have the place."""
        if self.watch:  # first, so that nobody else has the connection when it is told to stop
            await self.watch.end()
        if isinstance(self.db, Session):
            self.db.info.pop(ANSWERING, None)
        error = self.failed
        ending = (type(error), error, error.__traceback__) if error else (None, None, None)
        try:
            # To end a transaction means to wait for the database: in a thread, in one that no other
            # request can take, and also for a client that has gone. What only reads has none.
            if has_to_wait(self.db):
                with CancelScope(shield=True):
                    await run_sync(self.opened.__exit__, *ending, limiter=CapacityLimiter(1))
            else:
                self.opened.__exit__(*ending)
        finally:
            if isinstance(self.db, Session):
                self.db.bind = ended_engine
            self.release()


@event.listens_for(Session, "after_begin")
def note_connection(db: Session, transaction: SessionTransaction, connection: Connection) -> None:
    """Note which connection a search has."""
    if SEARCHING in db.info:
        db.info[SEARCHING] = connection


@event.listens_for(Session, "after_transaction_end")
def leave_queue(db: Session, transaction: SessionTransaction) -> None:
    """Let a stream leave the queue after its first transaction, like a WebSocket."""
    if SEARCHING in db.info:
        db.info[SEARCHING] = None
    shared: Shared | None = db.info.get(ANSWERING)
    if shared and transaction.parent is None:
        shared.leave_queue()


# Several `get_db` of one engine stand in the same queues.
shared_lanes = WeakKeyDictionary[Engine, dict[str, Lane]]()


def in_turn(
    engine: Engine, prepare: Callable[[Engine], None] = lambda engine: None
) -> Callable[[GetDb], GetDb]:
    """Make FastAPI hand out the sessions of `get_db` in turn; the code of `get_db` stays as it is.

    No more requests have one at once than `engine` has connections. `prepare` is called once with
    the engine of the sessions, before anybody uses one. What stands before the yield, or behind it
    if the transaction has ended, runs in the event loop, so nothing there may take time.

    FastAPI looks through decorators, by `__wrapped__`. So it finds the async generator below, gives
    it the request that it asks for, and needs no thread for it. Whoever calls `get_db()` without a
    request, like a script, gets the plain generator.
    """
    if engine not in shared_lanes:
        shared_lanes[engine] = lanes_of(engine)
    lanes = shared_lanes[engine]
    prepared = WeakSet[Engine]()

    def lane_of(connection: HTTPConnection) -> Lane:
        """Return the lane of a request. What sends events waits for nobody, like a WebSocket."""
        lane = lanes[kind_of(connection)]
        if not sends_events(connection):
            return lane
        return Lane(lanes["stream"].queue, lambda engine: unbounded_engine(lane.engine_for(engine)))

    async def choose_engine(db: Session, lane: Lane) -> None:
        """Give a new session the connections of its lane."""
        if isinstance(db, Session) and isinstance(db.bind, Engine):
            if db.bind not in prepared:
                await run_sync(prepare, db.bind)
                prepared.add(db.bind)
            chosen = lane.engine_for(db.bind)
            if db.dispatch.before_commit or db.in_transaction():
                chosen = plain(chosen)  # the INSERT is not all: who listens there may write, too
            if chosen is not db.bind and db.in_transaction():
                raise exc.InvalidRequestError(USED_EARLY)
            db.bind = chosen

    def decorate(get_db: GetDb) -> GetDb:
        if isasyncgenfunction(get_db) or signature(get_db).parameters:
            raise TypeError("in_turn stands above a generator, without parameters and not async")

        async def for_request(connection: HTTPConnection) -> AsyncIterator[Session]:
            scope = connection.scope
            # One for a request, whoever asks for it there and in whichever scope.
            sessions: dict[GetDb, Shared] = scope.setdefault("database_sessions", {})
            lane = lane_of(connection)
            if get_db not in sessions:
                # Who has a place in one queue does not wait in another: two might for each other.
                request = connection if isinstance(connection, Request) else None
                queue = lane.queue
                release = (lambda: None) if sessions else await queue.turn(lane.places, request)
                sessions[get_db] = Shared(get_db, release)
                db = sessions[get_db].db
                if request and queue.name == "search" and isinstance(db, Session):
                    sessions[get_db].watch = Watch(db, Client(request))
            shared = sessions[get_db]
            shared.holders += 1

            async def leave(error: BaseException | None) -> None:
                shared.failed = shared.failed or error
                shared.holders -= 1
                if not shared.holders:
                    del sessions[get_db]
                    await shared.close()

            try:
                if shared.holders == 1:
                    await choose_engine(shared.db, lane)
                    if yields(scope.get("endpoint")):
                        # It goes on after all that ends with an endpoint.
                        shared.holders += 1
                        scope["fastapi_inner_astack"].push_async_exit(
                            lambda kind, error, traceback: leave(error)
                        )
                    if "fastapi_function_astack" in scope:  # FastAPI's, for what ends with it
                        scope["fastapi_function_astack"].callback(shared.begin_answer)
                yield shared.db
            except BaseException as error:
                await leave(error)
                raise
            else:
                await leave(None)

        @wraps(get_db)
        def dependency(connection: HTTPConnection | None = None) -> Any:
            return get_db() if connection is None else for_request(connection)

        vars(dependency)["__wrapped__"] = for_request  # instead of `get_db`, which @wraps put there
        return dependency

    return decorate
