"""How a request gets its session, and how long it waits for it.

An endpoint takes `db: SessionDep` if it may write, `db: ReadDep` if it only reads. So does a
dependency of your own; if it yields, it has to end with the endpoint as well, and FastAPI refuses
it without `Depends(..., scope="function")`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Annotated
from weakref import WeakKeyDictionary

from fastapi import Depends, FastAPI
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import exc
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from database import (
    POOL_SIZE,
    engine,
    explain,
    get_db,
    get_read_db,
    health_engine,
    in_memory,
    name_of,
    read_engine,
)
from migrations import create_tables

MAX_WAIT = 10.0  # seconds that a request waits for its turn


@cache
def create_tables_once() -> None:
    """Create the missing tables, once per process: later calls do nothing."""
    with engine.begin() as connection:
        create_tables(connection)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Create the tables before the first request; close the connections after the last.

    Raises RuntimeError, and the server does not start, if the database cannot be used.
    """
    log = logging.getLogger("uvicorn.error")
    # A test that brings its own database needs nothing of this one.
    if get_db not in app.dependency_overrides:
        log.info("Database: %s", name_of(engine))
        create_tables_once.cache_clear()
        try:
            create_tables_once()
        except exc.SQLAlchemyError as error:
            log.error(explain(error, engine))

            def leave_out_traceback(record: logging.LogRecord) -> bool:
                """Keep quiet about the RuntimeError below, of which the server would tell all."""
                log.removeFilter(leave_out_traceback)
                return False

            log.addFilter(leave_out_traceback)
            raise RuntimeError("the database cannot be used") from None
    yield
    # The last connection to an SQLite file that closes moves what is in app.db-wal to app.db. A
    # database in memory would be gone.
    if not in_memory(engine.url):
        read_engine.dispose()
        engine.dispose()


class SessionDependency:
    """What an endpoint depends on to get a session: `Depends(get_db)`, with a queue before it.

    `Depends(get_db)` alone gives a session to every request that comes. With enough clients, some
    requests hold a connection and wait for a thread, while all threads wait for a connection:
    nobody is answered any more. Here, no more than `limit` requests have a session at once. The
    others wait in a queue, without a thread, for `max_wait` seconds at most.

    FastAPI would also run a generator like `get_db` in a thread, once to open the session and once
    to close it. Both take next to no time, so that is not done here.
    """

    def __init__(
        self, open_session: Callable[[], Iterator[Session]], limit: int, max_wait: float = MAX_WAIT
    ) -> None:
        self.open_session = open_session
        self.limit = limit
        self.max_wait = max_wait
        # A server has one event loop, but each TestClient has its own.
        self.queues = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]()

    async def __call__(self, connection: HTTPConnection) -> AsyncIterator[Session]:
        """Yield a session to one request; raises `exc.TimeoutError` if its turn does not come.

        A request that has a session for writing reads with that one, too. It must not wait for a
        second one while others, who have that, wait for the first.
        """
        if "database_session" in connection.scope:
            yield connection.scope["database_session"]
            return
        create_tables_once()  # where no server has done so at its start, as with a bare TestClient
        queue = self.queues.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self.limit))
        try:
            async with asyncio.timeout(self.max_wait):
                await queue.acquire()
        except TimeoutError:
            raise exc.TimeoutError(f"no session was free within {self.max_wait} s") from None
        try:
            with contextmanager(self.open_session)() as db:
                if self.open_session is get_db:
                    connection.scope["database_session"] = db
                try:
                    yield db
                finally:
                    # After an error, a transaction is still open, and to end it means to wait for
                    # the database: in a thread. A session for reading has no transaction.
                    if db.in_transaction() and not db.get_bind().dialect.skip_autocommit_rollback:
                        await run_in_threadpool(db.close)
        finally:
            connection.scope.pop("database_session", None)
            queue.release()

    # FastAPI looks for this object in `app.dependency_overrides`. It counts as equal to `get_db`:
    # a test that replaces `get_db` there replaces all sessions of this file.

    def __hash__(self) -> int:
        return hash(get_db)

    def __eq__(self, other: object) -> bool:
        return other is get_db or other is self


def get_health_db() -> Iterator[Session]:
    """Yield a session that only /health uses."""
    with Session(health_engine) as db:
        yield db


if read_engine is engine:  # in memory: a single connection, so everybody waits in a single line
    open_session = open_read_session = open_health_session = SessionDependency(get_db, 1)
else:
    # SQLite has one writer at a time. If ten requests try at once, some of them try in vain again
    # and again: the slowest 1 % take 350 ms instead of 54. So two may try. Two and not one, so that
    # one slow endpoint of your own does not hold up everybody.
    open_session = SessionDependency(get_db, 2 if engine.name == "sqlite" else POOL_SIZE)
    open_read_session = SessionDependency(get_read_db, POOL_SIZE)
    open_health_session = SessionDependency(get_health_db, 1)

# scope="function": the session ends before the answer is sent. An error at its end is not
# answered with 200, and a client that reads slowly does not keep a connection.
# The word at the end: Python takes one Annotated for another if their parts are equal.
SessionDep = Annotated[Session, Depends(open_session, scope="function"), "write"]
ReadDep = Annotated[Session, Depends(open_read_session, scope="function"), "read"]
HealthDep = Annotated[Session, Depends(open_health_session, scope="function"), "health"]
