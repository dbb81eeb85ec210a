"""The app that main.py and the examples begin with, and what happens when it starts and stops."""

import asyncio
import gc
import logging
import multiprocessing
import os
import re
import signal
import sqlite3
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import partial
from threading import Event, Thread
from typing import Any

import psycopg
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from sqlalchemy.exc import SQLAlchemyError, TimeoutError
from uvicorn._subprocess import subprocess_started
from uvicorn.config import STARTUP_FAILURE, Config

from core.engines import explain, name_of, read_engine
from core.errors import HANDLERS, UNAVAILABLE, AnswerErrors, AnswerHead, LimitBody
from core.settings import settings
from core.sqlite import in_memory
from database import create_tables, engine, get_db, start_anew

# More than a server ever has to do at once; a thread that nobody needs is not started. A `get_db`
# of your own, without @in_turn, gives a session to every request that comes. With 40 threads, which
# is the default, they would wait for each other until nobody is answered any more.
THREADS = 1000
PATIENCE = 2  # seconds that a start waits for the database before it goes on without it
RETRY = 1  # seconds between two looks at whether it is there

# What a server says to those that it will not serve later, either. It is said before there is a
# connection, and so has no SQLSTATE; if it is not in English, the app goes on trying.
REFUSED = re.compile(
    "authentication failed|no password supplied|does not exist|[Nn]o such (user|database)"
    "|no pg_hba.conf entry|not permitted to log in|[Tt]enant or user not found"
    "|does not support SSL|certificate|channel binding|unrecognized|unsupported|not allowed"
    "|invalid (port|sslmode|target_session_attrs|value|command-line)"
)

log = logging.getLogger("uvicorn.error")


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
        # Nobody wants to read of the questions that probes ask each second.
        "telemetry": {"exclude": lambda scope: scope["path"] in ("/livez", "/health")},
    }
    return FastAPIOffline(**common | options)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Create the tables before the first request; close the connections after the last.

    While the database is away, the server starts all the same, answers 503, and goes on trying.
    Raises RuntimeError, and the server does not start, if to try again would not help.
    """
    ended = Event()
    # A test that brings its own database needs nothing of this one.
    if get_db not in app.dependency_overrides:
        log.info("Database: %s", name_of(engine))
        if read_engine(engine).url != engine.url:
            log.info("Reads: %s", name_of(read_engine(engine)))
        start_anew(engine)  # its file may have been deleted since another start
        tables = Future[bool]()
        # A thread that may be left alone, so that the server can be told to stop while it waits.
        Thread(target=prepare_tables, args=[tables, ended], daemon=True).start()
        await asyncio.wait([asyncio.wrap_future(tables)], timeout=PATIENCE)
        if tables.done() and not tables.result():
            end_supervisor()
            leave_out_next(log)  # else the server prints a traceback of this RuntimeError
            raise RuntimeError("the database cannot be used")
        tables.add_done_callback(partial(stop_if_it_failed, ended))
        Thread(target=end_with_supervisor, daemon=True).start()
    current_default_thread_limiter().total_tokens = THREADS
    # The garbage collector need not look through what is loaded by now, for it stays: a fifth
    # faster, and the slowest 1 % of the requests take half the time.
    gc.freeze()
    yield
    ended.set()
    # The last connection to an SQLite file that closes moves what is in app.db-wal to app.db. A
    # database in memory would be gone.
    if not in_memory(engine.url):
        read_engine(engine).dispose()
        engine.dispose()


def prepare_tables(done: Future[bool], ended: Event) -> None:
    """Create the tables as soon as the database is there; `done` gets False if it is no use."""
    said = ""
    while True:
        bind = engine
        try:
            create_tables(engine)
            bind = read_engine(engine)
            if bind.url != engine.url:
                bind.connect().close()
        except SQLAlchemyError as error:
            reason = explain(error, bind)
            again = may_pass(error)
            if bind is not engine or not again:
                log.error(reason)
                done.set_result(again)  # without a replica, all but the reads can be answered
                return
            if reason != said:
                log.error("%s (trying again)", reason)
            said = reason
            if ended.wait(RETRY):
                return
        except Exception:  # a mistake in the code, like that of a migration
            log.exception("The tables cannot be created")
            done.set_result(False)
            return
        else:
            if said:
                log.info("The database is there")
            done.set_result(True)
            return


def may_pass(error: SQLAlchemyError) -> bool:
    """Tell whether an error may be gone a second later: the database is away, starting or busy."""
    original = getattr(error, "orig", None)
    if isinstance(original, sqlite3.OperationalError):
        return getattr(original, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
    waits = isinstance(original, psycopg.OperationalError) and not REFUSED.search(str(original))
    return waits or isinstance(error, TimeoutError)


# ---- uvicorn --workers


def stop_if_it_failed(ended: Event, tables: Future[bool]) -> None:
    """End a server that has started without its database, and now knows that it cannot use it."""
    if not (tables.result() or ended.is_set()):
        end_supervisor()
        os._exit(STARTUP_FAILURE)  # from another thread, sys.exit would end nothing else


def supervisor() -> int | None:
    """Return the process that runs this one as a worker of `uvicorn --workers`."""
    worker = multiprocessing.current_process()
    parent = multiprocessing.parent_process()
    if parent is None or vars(worker).get("_target") is not subprocess_started:
        return None
    config: Config = vars(worker)["_kwargs"]["config"]
    return None if config.should_reload else parent.pid


def end_supervisor() -> None:
    """Let `uvicorn --workers` fail with a worker that cannot start; by itself it ends with 0.

    https://github.com/Kludex/uvicorn/pull/3001. It is ended by a signal that it does not handle,
    and its other workers see that. As process 1 of a container it would not notice.
    """
    if pid := supervisor():
        with suppress(OSError):  # another worker was faster
            os.kill(pid, signal.SIGABRT)


def end_with_supervisor() -> None:
    """Stop when the supervisor is gone: a worker left alone would keep its port for ever."""
    parent = multiprocessing.parent_process()
    if parent and supervisor():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def leave_out_next(log: logging.Logger) -> None:
    """Leave the next message of a log out, and no other."""

    def leave_out(record: logging.LogRecord) -> bool:
        log.removeFilter(leave_out)
        return False

    log.addFilter(leave_out)
