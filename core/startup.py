"""The app that main.py and the examples begin with, and what happens when it starts and stops."""

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from sqlalchemy.exc import SQLAlchemyError

from core.engines import explain, in_memory, name_of, read_engine
from core.errors import HANDLERS, UNAVAILABLE, AnswerErrors, AnswerHead, LimitBody
from core.settings import settings
from database import create_tables, engine, get_db, prepared

# More than a server ever has to do at once; a thread that nobody needs is not started. A `get_db`
# of your own, without @in_turn, gives a session to every request that comes. With 40 threads, which
# is the default, they would wait for each other until nobody is answered any more.
THREADS = 1000


def create_app(**options: Any) -> FastAPI:
    """Return a FastAPI() with tables, errors and limits like those of main.py.

    `options` are those of FastAPI. Its /docs needs nothing from the internet.
    """
    middleware = [Middleware(AnswerHead), Middleware(LimitBody)]
    if settings.cors_origins:  # front ends that run in a browser, from an address of their own
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins.split(","),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["ETag", "Link", "Location", "Retry-After", "X-Total-Count"],
        )
        middleware = [cors, Middleware(AnswerErrors), *middleware]
    common: dict[str, Any] = {
        "lifespan": lifespan,
        "exception_handlers": HANDLERS,
        "middleware": middleware,
        "responses": UNAVAILABLE,
    }
    return FastAPIOffline(**common | options)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Create the tables before the first request; close the connections after the last.

    Raises RuntimeError, and the server does not start, if the database cannot be used.
    """
    # A test that brings its own database needs nothing of this one.
    if get_db not in app.dependency_overrides:
        log = logging.getLogger("uvicorn.error")
        log.info("Database: %s", name_of(engine))
        prepared.discard(engine)  # its file may have been deleted since another start
        try:
            create_tables(engine)
        except SQLAlchemyError as error:
            log.error(explain(error, engine))
            leave_out_next(log)  # else the server prints a traceback of this RuntimeError
            raise RuntimeError("the database cannot be used") from None
    current_default_thread_limiter().total_tokens = THREADS
    # The garbage collector need not look through what is loaded by now, for it stays: a fifth
    # faster, and the slowest 1 % of the requests take half the time.
    gc.freeze()
    yield
    # The last connection to an SQLite file that closes moves what is in app.db-wal to app.db. A
    # database in memory would be gone.
    if not in_memory(engine.url):
        read_engine(engine).dispose()
        engine.dispose()


def leave_out_next(log: logging.Logger) -> None:
    """Leave the next message of a log out, and no other."""

    def leave_out(record: logging.LogRecord) -> bool:
        log.removeFilter(leave_out)
        return False

    log.addFilter(leave_out)
