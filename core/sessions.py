"""How a request gets its session: in turn, and a single one however often it is asked for.

FastAPI gives a session to every request that comes, and runs endpoints in 40 threads. With a
`response_model`, it checks the answer in a thread as well. With enough clients, some requests hold
a connection and wait for that thread, while all threads wait for a connection: nobody is answered
any more. Here, no more requests have a session at once than there are connections. The others wait
in a queue, without a thread, and not for ever.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from anyio import CancelScope, CapacityLimiter
from anyio.to_thread import run_sync
from sqlalchemy import Engine, QueuePool, exc
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from core.engines import POOL_SIZE, ended_engine, has_no_transactions, read_engine, unpooled_engine
from core.telemetry import POOL, Usage, wait_time

MAX_WAIT = 10.0  # seconds that a request waits for its turn
SEARCHES = 2  # how many have a session at once

USED_EARLY = "get_db has used its session before the yield: no @read_only and no WebSocket with it"

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
    # An endpoint that says nothing may write, also in a GET: a link that confirms an email does.
    # On SQLite, a GET waits in a queue of its own, since most of them only read.
    return marked or ("get" if connection.scope.get("method") in ("GET", "HEAD") else "write")


# ---- Queues


class Queue:
    """Lets no more than `limit` requests have a session at once, the first to come first."""

    def __init__(self, name: str, limit: int) -> None:
        self.usage = Usage(name, limit)
        # A server has one event loop, but each TestClient has its own.
        self.places = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]()

    async def turn(self) -> Callable[[], None]:
        """Wait for a place and return what gives it back; raises `exc.TimeoutError` if none comes.

        No place has been taken then.
        """
        usage = self.usage
        places = self.places.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(usage.limit))
        if places.locked():
            await self.wait(places)
        else:
            await places.acquire()  # at once
        usage.used += 1

        def release() -> None:
            usage.used -= 1
            places.release()

        return release

    async def wait(self, places: asyncio.Semaphore) -> None:
        """Wait until a place is free."""
        start = time.monotonic()
        self.usage.waiting += 1
        try:
            async with asyncio.timeout(MAX_WAIT):
                await places.acquire()
        except TimeoutError:
            self.usage.timeouts += 1
            raise exc.TimeoutError(f"no session was free within {MAX_WAIT} s") from None
        finally:
            self.usage.waiting -= 1
            wait_time.record(time.monotonic() - start, {POOL: self.usage.name})


class Lane(NamedTuple):
    """A queue, and the function that returns the engine of the sessions to which it leads."""

    queue: Queue
    engine_for: Callable[[Engine], Engine]


def lanes_of(engine: Engine) -> dict[str, Lane]:
    """Return the lane of each kind of session."""
    # Another pool, like the StaticPool of many lessons, has a single connection.
    connections = engine.pool.size() if isinstance(engine.pool, QueuePool) else 1
    write = get = Lane(Queue("write", connections), lambda engine: engine)
    # One that stays for hours keeps nobody waiting, because its connection is not of the pool.
    websocket = Lane(Queue("websocket", sys.maxsize), unpooled_engine)
    if connections == 1:  # as in memory: everybody waits in a single line
        kinds = ("write", "get", "read_only", "search", "new_connection")
        one = dict.fromkeys(kinds, write)
        return one | {"websocket": websocket}
    if engine.name == "sqlite" and connections > 2:
        # SQLite has one writer at a time. If ten requests try at once, some of them try in vain
        # again and again: the slowest 1 % take 255 to 355 ms instead of 50 to 54. So two may try.
        # Two and not one, so that one slow endpoint of your own does not hold up everybody.
        write = Lane(Queue("write", 2), write.engine_for)
        get = Lane(Queue("get", connections - 2), get.engine_for)
    return {
        "write": write,
        "get": get,
        "read_only": Lane(Queue("read_only", POOL_SIZE - SEARCHES), read_engine),
        "search": Lane(Queue("search", SEARCHES), read_engine),
        "new_connection": Lane(Queue("new_connection", 1), unpooled_engine),
        "websocket": websocket,
    }


# ---- Sessions


class Shared:
    """The session of one request, for all who ask for it there."""

    def __init__(self, get_db: GetDb, release: Callable[[], None]) -> None:
        self.release = release
        self.holders = 0
        self.failed: BaseException | None = None
        try:
            self.opened = contextmanager(get_db)()
            self.db = self.opened.__enter__()
        except BaseException:
            release()
            raise

    async def close(self) -> None:
        """Run what follows the yield in `get_db`, and let the next in line have the place."""
        error = self.failed
        ending = (type(error), error, error.__traceback__) if error else (None, None, None)
        bind = self.db.bind
        try:
            # To end a transaction means to wait for the database: in a thread, in one that no other
            # request can take, and also for a client that has gone. What only reads has none.
            if self.db.in_transaction() and not (bind and has_no_transactions(bind.dialect)):
                with CancelScope(shield=True):
                    await run_sync(self.opened.__exit__, *ending, limiter=CapacityLimiter(1))
            else:
                self.opened.__exit__(*ending)
        finally:
            self.db.bind = ended_engine
            self.release()


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
    lanes = lanes_of(engine)
    prepared = WeakSet[Engine]()

    async def choose_engine(db: Session, lane: Lane) -> None:
        """Give a new session the connections of its lane."""
        if isinstance(db.bind, Engine):
            if db.bind not in prepared:
                await run_sync(prepare, db.bind)
                prepared.add(db.bind)
            chosen = lane.engine_for(db.bind)
            if chosen is not db.bind and db.in_transaction():
                raise exc.InvalidRequestError(USED_EARLY)
            db.bind = chosen

    def decorate(get_db: GetDb) -> GetDb:
        async def for_request(connection: HTTPConnection) -> AsyncIterator[Session]:
            # One for a request, whoever asks for it there and in whichever scope.
            sessions: dict[GetDb, Shared] = connection.scope.setdefault("database_sessions", {})
            lane = lanes[kind_of(connection)]
            if get_db not in sessions:
                sessions[get_db] = Shared(get_db, await lane.queue.turn())
            shared = sessions[get_db]
            shared.holders += 1
            try:
                if shared.holders == 1:
                    await choose_engine(shared.db, lane)
                yield shared.db
            except BaseException as error:
                shared.failed = shared.failed or error
                raise
            finally:
                shared.holders -= 1
                if not shared.holders:
                    del sessions[get_db]
                    await shared.close()

        @wraps(get_db)
        def dependency(connection: HTTPConnection | None = None) -> Any:
            return get_db() if connection is None else for_request(connection)

        vars(dependency)["__wrapped__"] = for_request  # instead of `get_db`, which @wraps put there
        return dependency

    return decorate
