"""How a request gets its session, and how long it waits for it.

An endpoint takes `db: SessionDep` if it may write, `db: ReadDep` if it only reads.
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

from database import (
    POOL_SIZE,
    create_tables,
    engine,
    explain,
    get_db,
    get_read_db,
    health_engine,
    read_engine,
)

MAX_WAIT = 10.0  # seconds that a request waits for its turn


@cache
def create_tables_once() -> None:
    """Create the tables that do not exist yet, the first time that this is called."""
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
        log.info("Database: %s", engine.url.set(query={}).render_as_string(hide_password=True))
        try:
            create_tables_once()
        except exc.SQLAlchemyError as error:
            log.error(explain(error, engine))
            # That line says it all; what would follow is a traceback.
            log.addFilter(lambda record: "Traceback" not in record.getMessage())
            raise RuntimeError("the database cannot be used") from None
    yield
    # The last connection to an SQLite file that closes moves what is in app.db-wal to app.db.
    read_engine.dispose()
    engine.dispose()


class SessionDependency:
    """What `Depends(get_db)` calls, with a queue in front of it and no detour through threads.

    FastAPI runs a generator like `get_db` in worker threads, twice per request: it cannot know
    that opening a session takes no time. And it lets in whoever comes: with enough clients, some
    hold a session and wait for a thread, while others hold a thread and wait for a connection.
    Here `limit` requests have a session at once. The others wait where waiting costs nothing.
    """

    def __init__(
        self, open_session: Callable[[], Iterator[Session]], limit: int, max_wait: float = MAX_WAIT
    ) -> None:
        self.open_session = open_session
        self.limit = limit
        self.max_wait = max_wait
        # A server has one event loop, but each TestClient has its own.
        self.queues = WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]()

    async def __call__(self) -> AsyncIterator[Session]:
        """Yield a session to one request; raises `exc.TimeoutError` if its turn does not come."""
        create_tables_once()  # where no server has done so at its start, as with a bare TestClient
        queue = self.queues.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self.limit))
        try:
            async with asyncio.timeout(self.max_wait):
                await queue.acquire()
        except TimeoutError:
            raise exc.TimeoutError(f"no session was free within {self.max_wait} s") from None
        try:
            with contextmanager(self.open_session)() as db:
                try:
                    yield db
                finally:
                    # A transaction that is still open, after an error, has to tell the database.
                    if db.in_transaction() and not db.get_bind().dialect.skip_autocommit_rollback:
                        await run_in_threadpool(db.close)
        finally:
            queue.release()

    # Equal to `get_db` for a dict: what FastAPI finds in `app.dependency_overrides[get_db]`
    # replaces every session of this file, and no test reads from a database it did not mean to.

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
    # SQLite has one writer at a time, and a crowd of those who try only wake each other up. One
    # more is let in, so that a slow endpoint of your own does not stop all others.
    open_session = SessionDependency(get_db, 2 if engine.name == "sqlite" else POOL_SIZE)
    open_read_session = SessionDependency(get_read_db, POOL_SIZE)
    open_health_session = SessionDependency(get_health_db, 1)

# scope="function": the session ends before the answer goes out, so that a commit that fails is
# no 200 and a slow reader holds no connection.
SessionDep = Annotated[Session, Depends(open_session, scope="function")]
ReadDep = Annotated[Session, Depends(open_read_session, scope="function")]
HealthDep = Annotated[Session, Depends(open_health_session, scope="function")]
