"""The app that main.py and the examples begin with, and what happens when it starts and stops."""

import asyncio
import gc
import logging
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from threading import Event, Thread
from typing import Any, Protocol

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError, TimeoutError
from sqlalchemy.orm import DeclarativeBase, Session
from uvicorn.config import STARTUP_FAILURE

from core.answers import UNAVAILABLE
from core.engines import brief_waits, close_all, explain, name_of, read_engine
from core.errors import HANDLERS
from core.middleware import AnswerErrors, AnswerHead, LimitBody
from core.routes import Route
from core.settings import Settings
from core.sqlite import in_memory
from core.tables import start_anew
from core.workers import end_supervisor, end_with_supervisor

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


class Database(Protocol):
    """What the module database.py has for an app."""

    settings: Settings
    engine: Engine

    @property
    def Base(self) -> type[DeclarativeBase]:  # noqa: N802
        """What the tables derive from."""

    @property
    def get_db(self) -> Callable[[], Iterator[Session]]:
        """The dependency, which a test may override."""

    @property
    def create_tables(self) -> Callable[[Engine], None]:
        """What creates the tables, and raises SQLAlchemyError if they cannot be used."""


def create_app(database: Database, **options: Any) -> FastAPI:
    """Return a FastAPI() with tables, errors and limits like those of main.py.

    `database` is the module; `options` are those of FastAPI. Its /docs needs nothing from the
    internet.
    """
    middleware = [Middleware(AnswerHead), Middleware(LimitBody)]
    settings = database.settings
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
    app = FastAPIOffline(**common | options)
    app.router.route_class = Route
    app.state.database = database
    app.state.documentation = list(app.routes)
    return app


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Create the tables before the first request; close the connections after the last.

    While the database is away, the server starts all the same, answers 503, and goes on trying.
    Raises RuntimeError, and the server does not start, if to try again would not help.
    """
    database: Database = app.state.database
    engine = database.engine
    ended = Event()
    # A test that brings its own database needs nothing of this one.
    if database.get_db not in app.dependency_overrides:
        log.info("Database: %s", name_of(engine))
        if read_engine(engine).url != engine.url:
            log.info("Reads: %s", name_of(read_engine(engine)))
        start_anew(engine)  # its file may have been deleted since another start
        tables = Future[bool]()
        # A thread that may be left alone, so that the server can be told to stop while it waits.
        Thread(target=prepare_tables, args=[database, tables, ended], daemon=True).start()
        await asyncio.wait([asyncio.wrap_future(tables)], timeout=PATIENCE)
        if tables.done() and not tables.result():
            end_supervisor()
            leave_out_next(log)  # else the server prints a traceback of this RuntimeError
            raise RuntimeError("the database cannot be used")
        tables.add_done_callback(partial(stop_if_it_failed, ended))
        Thread(target=end_with_supervisor, daemon=True).start()
    current_default_thread_limiter().total_tokens = THREADS
    # For each request, routes are looked at from the first on: calls before the documentation.
    documentation = getattr(app.state, "documentation", ())  # of an app by create_app()
    app.router.routes.sort(key=lambda route: route in documentation)
    # The garbage collector need not look through what is loaded by now, for it stays: a fifth
    # faster, and the slowest 1 % of the requests take half the time. And not after each few
    # requests for what they have left behind: a tenth.
    gc.freeze()
    gc.set_threshold(5000)
    with brief_waits(engine):
        yield
    ended.set()
    # The last connection to an SQLite file that closes moves what is in app.db-wal to app.db. A
    # database in memory would be gone.
    if not in_memory(engine.url):
        close_all(engine)


def prepare_tables(database: Database, done: Future[bool], ended: Event) -> None:
    """Create the tables as soon as the database is there; `done` gets False if it is no use."""
    engine, said = database.engine, ""
    while True:
        bind = engine
        try:
            database.create_tables(engine)
            if engine.name == "postgresql":
                with engine.connect():  # a second connection: not every server has one
                    bind = read_engine(engine)
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
    waits = isinstance(error, OperationalError) and not REFUSED.search(str(original))
    return waits or isinstance(error, TimeoutError)


def stop_if_it_failed(ended: Event, tables: Future[bool]) -> None:
    """End a server that has started without its database, and now knows that it cannot use it."""
    if not (tables.result() or ended.is_set()):
        end_supervisor()
        os._exit(STARTUP_FAILURE)  # from another thread, sys.exit would end nothing else


def leave_out_next(log: logging.Logger) -> None:
    """Leave the next message of a log out, and no other."""

    def leave_out(record: logging.LogRecord) -> bool:
        log.removeFilter(leave_out)
        return False

    log.addFilter(leave_out)
