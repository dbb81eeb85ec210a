"""What each request does with its session, its connection and the database, step by step.

SQLAlchemy says by events what happens: https://docs.sqlalchemy.org/en/21/core/events.html.
A context variable says for which request; it goes along when FastAPI runs an endpoint in a thread.
"""

import itertools
import linecache
import sys
import time
import traceback
from collections import deque
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar, TypedDict

import anyio.to_thread
from anyio import CapacityLimiter
from sqlalchemy import Connection, Engine, QueuePool, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.orm import Session
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core import errors
from core.middleware import LimitBody
from core.sessions import Queue, Shared, has_no_transactions, in_turn

ROOT = Path(__file__).parent.parent
KEPT = 200  # requests
MOST = 250  # steps of a request; of a bulk of a thousand, not every INSERT is shown
LONG = 1000  # characters; more of a statement or an address is not shown, or a third of the values


class Step(TypedDict):
    """One thing that happened, in milliseconds since the request came; `ms` is how long it took."""

    name: str
    at: float
    ms: float | None
    where: str  # file and line
    code: str  # that line
    details: dict[str, Any]


class Trace:
    """What has happened for one request up to now."""

    def __init__(self, method: str, path: str) -> None:
        self.number = next(numbers)
        self.method = method
        self.path = shorten(path)
        self.began = time.time() * 1000
        self.start = time.perf_counter()
        self.status: int | None = None
        self.ms: float | None = None  # None while it goes on
        self.steps: list[Step] = []
        self.version = next(versions)
        traces.append(self)

    def now(self) -> float:
        """Return the milliseconds since the request came."""
        return (time.perf_counter() - self.start) * 1000

    def add(
        self, name: str, where: tuple[str, str], at: float | None = None, **details: Any
    ) -> Step:
        """Add a step that begins now, or has begun at `at`."""
        at = self.now() if at is None else at
        step = Step(name=name, at=at, ms=None, where=where[0], code=where[1], details=details)
        self.steps.append(step)
        self.version = next(versions)
        return step

    def end(self, step: Step) -> None:
        """Note that a step has ended now."""
        step["ms"] = self.now() - step["at"]
        self.version = next(versions)

    def server_timing(self) -> str:
        """Return the steps that took time as a Server-Timing header.

        https://www.w3.org/TR/server-timing/; the developer tools of a browser draw it.
        """
        timed = [step for step in self.steps if step["ms"] is not None]
        timed = timed[:20]  # a proxy refuses headers that are too long
        return ", ".join(
            f'{step["name"]}{number};dur={step["ms"]:.2f};desc="{step["where"]}"'
            for number, step in enumerate(timed, start=1)
        )

    def as_json(self) -> dict[str, Any]:
        """Return all of it for the page."""
        names = ("number", "method", "path", "began", "status", "ms", "steps")
        return {name: getattr(self, name) for name in names} | {"now": self.now()}


def shorten(text: str, length: int = LONG) -> str:
    """Return a text that is not too long to be shown."""
    return text if len(text) <= length else f"{text[:length]} ..."


numbers = itertools.count(1)
versions = itertools.count(time.time_ns() // 1000)  # higher than before a restart
traces: deque[Trace] = deque(maxlen=KEPT)
current: ContextVar[Trace | None] = ContextVar("current", default=None)


# ---- Which line of our code it was


def caller() -> tuple[str, str] | None:
    """Return the place and the text of the line of ours that is being executed, if there is one."""
    frame = sys._getframe(1)
    while frame.f_back:
        frame = frame.f_back
        path = Path(frame.f_code.co_filename)
        if (
            path.is_relative_to(ROOT)
            and path != Path(__file__)
            and path.parent != ROOT / "core"  # but who has called that
            and "site-packages" not in path.parts
        ):
            line = linecache.getline(str(path), frame.f_lineno).strip()
            return f"{path.relative_to(ROOT).as_posix()}:{frame.f_lineno}", line
    return None


def line_of(function: Any) -> tuple[str, str]:
    """Return the place and the text of the first line of a function of ours, or nothing."""
    code = getattr(function, "__code__", None)
    if code is None or not Path(code.co_filename).is_relative_to(ROOT):
        return "", ""
    line = linecache.getline(code.co_filename, code.co_firstlineno)
    place = Path(code.co_filename).relative_to(ROOT).as_posix()
    return f"{place}:{code.co_firstlineno}", line.strip()


TURN = line_of(Queue.turn)
CLOSE = line_of(Shared.close)
ANSWERS = {
    404: line_of(errors.not_found),
    409: line_of(errors.conflict),
    412: line_of(errors.stale_row),
    413: line_of(LimitBody.__call__),
    422: line_of(errors.invalid_input),
    500: line_of(errors.server_error),
    503: line_of(errors.unavailable),
}


def first_line(error: BaseException) -> str:
    """Return what an error says, without the details that PostgreSQL and SQLAlchemy add."""
    return shorten(str(error).partition("\n")[0])


def answered(scope: Scope, status: int, asked: bool) -> tuple[str, str]:
    """Return which line of ours has led to an answer, if one has.

    `asked` tells whether the database was asked.
    """
    if status >= 400:
        nobody = status == 404 and not asked  # there is no such address
        return ("", "") if nobody else ANSWERS.get(status, ("", ""))
    return line_of(scope.get("endpoint"))


# ---- Sessions, connections, statements


class WatchedSession(Session):
    """A session that says when it is opened and closed."""

    opened: ClassVar[set[int]] = set()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.trace = current.get()
        if self.trace:
            WatchedSession.opened.add(id(self))
            files = {frame.f_code.co_filename for frame, _ in traceback.walk_stack(None)}
            if in_turn.__code__.co_filename in files:  # the classic snippet has no queue
                read = next((step["ms"] for step in self.trace.steps if step["name"] == "body"), 0)
                self.trace.end(self.trace.add("turn", TURN, at=read))
            opened = len(WatchedSession.opened)
            self.step = self.trace.add("session", caller() or TURN, open=opened)

    def close(self) -> None:
        """Close it, whoever asks for that; only the first time counts."""
        super().close()
        if self.trace and self.step["ms"] is None:
            WatchedSession.opened.discard(id(self))
            self.trace.end(self.step)
            self.trace.add("closed", caller() or CLOSE)


def note_waiting(engine: Engine) -> None:
    """Add to the trace of a request when it waits for a connection."""
    connect = engine.raw_connection

    def connect_and_note() -> Any:
        trace, pool = current.get(), engine.pool
        if not trace or not isinstance(pool, QueuePool) or pool.checkedout() < pool.size():
            return connect()
        step = trace.add("wait", caller() or CLOSE)
        try:
            return connect()
        except Exception as error:
            step["details"]["error"] = first_line(error)
            raise
        finally:
            trace.end(step)

    # As for threads, there is no event for somebody who begins to wait.
    vars(engine)["raw_connection"] = connect_and_note


def watch(engine: Engine, **engines: Engine) -> None:
    """Add what happens on its connections to the trace of the request behind it.

    Whoever listens on `engine` hears its twins as well; `engines` are all of them, by names.
    """
    connections = {name: itertools.count(1) for name in (*engines, "other")}
    for each in set(engines.values()):  # in memory, there is only one
        note_waiting(each)

    def checkout(connection: Any, record: Any, proxy: Any) -> None:
        trace = current.get()
        if trace:
            pool, counts = proxy._pool, {}
            # That of a stream, or of another engine beside it, has no name of its own.
            names = (name for name, engine in engines.items() if engine.pool is pool)
            name = next(names, "other")
            if "number" not in record.info:
                record.info["number"] = next(connections[name])
            if isinstance(pool, QueuePool):
                counts = {"in_use": pool.checkedout(), "size": pool.size()}
            record.info["held"] = trace.add(
                "connection", caller() or CLOSE, pool=name, number=record.info["number"], **counts
            )

    def checkin(connection: Any, record: Any) -> None:
        trace, step = current.get(), record.info.pop("held", None)
        if trace and step:
            for each in trace.steps:  # a COMMIT has ended when its connection is free
                if each["name"] in ("commit", "rollback") and each["ms"] is None:
                    trace.end(each)
            trace.end(step)
            trace.add("returned", caller() or CLOSE)

    def begin(connection: Connection) -> None:
        # A session for reading has no transaction: its connections commit by themselves.
        if (trace := current.get()) and not has_no_transactions(connection):
            trace.add("begin", caller() or CLOSE)

    def end(name: str) -> Any:
        def listener(connection: Connection) -> None:
            if (trace := current.get()) and not has_no_transactions(connection):
                trace.add(name, caller() or CLOSE)

        return listener

    def before(
        connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, many: bool
    ) -> None:
        trace = current.get()
        if trace and len(trace.steps) < MOST:
            values = shorten(repr(parameters), LONG // 3)
            line = shorten(" ".join(sql.split()))
            step = trace.add("sql", caller() or CLOSE, sql=line, parameters=values)
            connection.info["step"] = step

    def after(connection: Connection, *_: Any) -> None:
        trace, step = current.get(), connection.info.pop("step", None)
        if trace and step:
            trace.end(step)

    def failed(context: ExceptionContext) -> None:
        trace = current.get()
        if trace and trace.steps:
            step = trace.steps[-1]
            if step["name"] in ("sql", "commit"):
                step["details"]["error"] = first_line(context.original_exception)
                trace.end(step)

    event.listen(engine, "checkout", checkout)
    event.listen(engine, "checkin", checkin)
    event.listen(engine, "begin", begin)
    event.listen(engine, "commit", end("commit"))
    event.listen(engine, "rollback", end("rollback"))
    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    event.listen(engine, "handle_error", failed)


def watch_threads() -> None:
    """Add to the trace of a request when it waits for a thread, which FastAPI has from anyio."""
    run_sync = anyio.to_thread.run_sync

    async def run_and_note(
        function: Any, *arguments: Any, limiter: CapacityLimiter | None = None, **options: Any
    ) -> Any:
        trace = current.get()
        limiter = limiter or anyio.to_thread.current_default_thread_limiter()
        if not trace or limiter.available_tokens >= 1:
            return await run_sync(function, *arguments, limiter=limiter, **options)
        step = trace.add("thread", ("", ""))

        def run(*arguments: Any) -> Any:
            trace.end(step)
            return function(*arguments)

        return await run_sync(run, *arguments, limiter=limiter, **options)

    # There is no event for somebody who begins to wait.
    vars(anyio.to_thread)["run_sync"] = run_and_note


class Tracing:
    """ASGI middleware that makes a trace of each request, but for those of the page itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and note how it is answered."""
        path = scope.get("path", "")
        if scope["type"] != "http" or path in ("/", "/favicon.ico") or path.startswith("/watch"):
            await self.app(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        trace = Trace(scope["method"], f"{path}?{query}" if query else path)
        answer: Step | None = None

        async def receive_and_note() -> Message:
            message = await receive()
            complete = message["type"] == "http.request" and not message.get("more_body")
            if complete and trace.method not in ("GET", "HEAD") and not trace.steps:
                trace.end(trace.add("body", ("", ""), at=0))
            return message

        async def send_and_note(message: Message) -> None:
            nonlocal answer
            if message["type"] == "http.response.start":
                trace.status = message["status"]
                if any(step["ms"] is not None for step in trace.steps):
                    MutableHeaders(scope=message)["Server-Timing"] = trace.server_timing()
                asked = any(step["name"] == "sql" for step in trace.steps)
                answer = trace.add("answer", answered(scope, message["status"], asked))
            await send(message)

        token = current.set(trace)
        try:
            await self.app(scope, receive_and_note, send_and_note)
        except Exception as error:
            if answer:
                answer["details"]["error"] = f"{type(error).__name__}: {first_line(error)}"
            raise
        finally:
            current.reset(token)
            if answer:
                trace.end(answer)
            trace.ms = trace.now()
            trace.version = next(versions)
