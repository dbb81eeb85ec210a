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

from sqlalchemy import Connection, Engine, QueuePool, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.orm import Session
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ROOT = Path(__file__).parent.parent.parent
KEPT = 200  # requests


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
        self.path = path
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
        return ", ".join(
            f'{step["name"]}{number};dur={step["ms"]:.2f};desc="{step["where"]}"'
            for number, step in enumerate(timed, start=1)
        )

    def as_json(self) -> dict[str, Any]:
        """Return all of it for the page."""
        names = ("number", "method", "path", "began", "status", "ms", "steps")
        return {name: getattr(self, name) for name in names} | {"now": self.now()}


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
            and "site-packages" not in path.parts
        ):
            line = linecache.getline(str(path), frame.f_lineno).strip()
            return f"{path.relative_to(ROOT).as_posix()}:{frame.f_lineno}", line
    return None


def line_with(file: str, text: str) -> tuple[str, str]:
    """Return the first line of a file of ours that has that text."""
    for number, line in enumerate(linecache.getlines(str(ROOT / file)), start=1):
        if text in line:
            return f"{file}:{number}", line.strip()
    raise LookupError(f"{file} has no {text}")


TURN = line_with("dependencies.py", "await queue.acquire()")
CLOSE = line_with("dependencies.py", "run_in_threadpool(db.close)")
ANSWERS = {
    404: line_with("errors.py", "NOT_FOUND ="),
    409: line_with("errors.py", "async def conflict"),
    422: line_with("errors.py", "async def invalid_input"),
    500: line_with("errors.py", "async def server_error"),
    503: line_with("errors.py", "async def unavailable"),
}


def defined(scope: Scope) -> tuple[str, str]:
    """Return where the endpoint begins that has served a request."""
    code = getattr(scope.get("endpoint"), "__code__", Tracing.__call__.__code__)
    path = Path(code.co_filename)
    place = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    line = linecache.getline(str(path), code.co_firstlineno)
    return f"{place}:{code.co_firstlineno}", line.strip()


# ---- Sessions, connections, statements


class WatchedSession(Session):
    """A session that says when it is opened and closed."""

    opened: ClassVar[set[int]] = set()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.trace = current.get()
        if self.trace:
            WatchedSession.opened.add(id(self))
            opener = caller() or TURN
            files = {frame.f_code.co_filename for frame, _ in traceback.walk_stack(None)}
            queued = str(ROOT / "dependencies.py") in files  # the classic snippet has no queue
            turn = self.trace.add("turn", TURN if queued else opener, at=0)
            self.trace.end(turn)
            self.step = self.trace.add("session", opener, open=len(WatchedSession.opened))

    def close(self) -> None:
        """Close it, whoever asks for that; only the first time counts."""
        super().close()
        if self.trace and self.step["ms"] is None:
            WatchedSession.opened.discard(id(self))
            self.trace.end(self.step)
            self.trace.add("closed", caller() or CLOSE)


def watch(engine: Engine, name: str) -> None:
    """Add what happens on the connections of an engine to the trace of the request behind it."""
    connections = itertools.count(1)

    def checkout(connection: Any, record: Any, proxy: Any) -> None:
        trace = current.get()
        if trace:
            if "number" not in record.info:
                record.info["number"] = next(connections)
            pool = engine.pool
            assert isinstance(pool, QueuePool)
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
        if (trace := current.get()) and not connection.dialect.skip_autocommit_rollback:
            trace.add("begin", caller() or CLOSE)

    def end(name: str) -> Any:
        def listener(connection: Connection) -> None:
            if (trace := current.get()) and not connection.dialect.skip_autocommit_rollback:
                trace.add(name, caller() or CLOSE)

        return listener

    def before(
        connection: Connection, cursor: Any, sql: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if trace := current.get():
            text = repr(parameters)
            shown = text if len(text) < 1000 else f"{text[:1000]} ..."
            step = trace.add("sql", caller() or CLOSE, sql=" ".join(sql.split()), parameters=shown)
            connection.info["step"] = step

    def after(connection: Connection, *_: Any) -> None:
        trace, step = current.get(), connection.info.pop("step", None)
        if trace and step:
            trace.end(step)

    def failed(context: ExceptionContext) -> None:
        if context.connection is not None and "step" in context.connection.info:
            step = context.connection.info["step"]
            step["details"]["error"] = str(context.original_exception).partition("\n")[0]
            after(context.connection)

    event.listen(engine, "checkout", checkout)
    event.listen(engine, "checkin", checkin)
    event.listen(engine, "begin", begin)
    event.listen(engine, "commit", end("commit"))
    event.listen(engine, "rollback", end("rollback"))
    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    event.listen(engine, "handle_error", failed)


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

        async def send_and_note(message: Message) -> None:
            nonlocal answer
            if message["type"] == "http.response.start":
                trace.status = message["status"]
                if trace.steps:
                    MutableHeaders(scope=message)["Server-Timing"] = trace.server_timing()
                answer = trace.add("answer", ANSWERS.get(message["status"]) or defined(scope))
            await send(message)

        token = current.set(trace)
        try:
            await self.app(scope, receive, send_and_note)
        finally:
            current.reset(token)
            if answer:
                trace.end(answer)
            trace.ms = trace.now()
            trace.version = next(versions)
