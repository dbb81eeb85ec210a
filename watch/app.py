"""See the session: `uvicorn watch.app:app --reload`, then open http://localhost:8000.

The app, with a page that shows for each request, whoever makes it, what it does with its session,
its connection and the database. It is for learning: whoever opens the page sees all requests. It
shows those of one process, so it does not go with `--workers`.
"""

import asyncio
import re
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import itemgetter
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request
from fastapi.middleware import Middleware
from fastapi.responses import HTMLResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.staticfiles import StaticFiles

import database
import main
from core.engines import read_engine, unpooled_engine
from core.errors import HANDLERS
from core.startup import lifespan
from database import SessionLocal, engine
from schemas import UserRead
from watch import lessons
from watch.trace import Tracing, WatchedSession, traces, watch, watch_threads

STATIC = Path(__file__).parent / "static"
PAGE = (STATIC / "index.html").read_text(encoding="utf-8")
# The page runs nothing and loads nothing but its own files, whatever users call themselves.
POLICY = {"Content-Security-Policy": "default-src 'self'", "Cache-Control": "no-cache"}

watch(engine, write=engine, read=read_engine(engine), new=unpooled_engine(engine))
SessionLocal.class_ = WatchedSession
watch_threads()

stopping = threading.Event()
STARTED = time.time_ns()


@asynccontextmanager
async def watched_lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Do what the app does, and end the streams of events when the server is told to stop.

    Otherwise it would wait for them, and `--reload` for it.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            uvicorn_handler = signal.getsignal(number)

            def stop(number: int, frame: FrameType | None, then: Any = uvicorn_handler) -> None:
                stopping.set()
                if callable(then):
                    then(number, frame)

            signal.signal(number, stop)
    async with lifespan(app):
        yield


app = FastAPI(
    lifespan=watched_lifespan,
    exception_handlers=HANDLERS,
    middleware=[Middleware(Tracing)],
    openapi_url=None,  # /docs and /openapi.json are those of the app
)
app.state.database = database


@app.get("/")
def page(accept_language: Annotated[str, Header()] = "") -> HTMLResponse:
    """Return the page, in the language that the browser asks for first."""
    language = re.search(r"\b(en|fr)\b", accept_language.lower())
    html = PAGE.replace('lang="en"', f'lang="{language[1]}"') if language else PAGE
    return HTMLResponse(html, headers=POLICY)


@app.get("/watch/events", response_class=EventSourceResponse)
async def events(
    request: Request, last_event_id: Annotated[int, Header()] = 0
) -> AsyncIterator[ServerSentEvent]:
    """Send each trace that has changed, ten times a second, from `Last-Event-ID` on.

    The first event says which process this is: what another had begun will not be told to its end.
    """
    yield ServerSentEvent(event="process", data=STARTED, retry=500)
    while not stopping.is_set():
        versions = [(trace.version, trace) for trace in list(traces)]
        for version, trace in sorted(versions, key=itemgetter(0)):
            if version > last_event_id:
                last_event_id = version
                yield ServerSentEvent(data=trace.as_json(), id=str(version))
        await asyncio.sleep(0.1)


# What the page asks for by itself. It is not shown, or there would be no end to it.
app.get("/watch/users", response_model=list[UserRead])(main.list_users)
app.include_router(lessons.router)
app.mount("/watch", StaticFiles(directory=STATIC))
app.mount("/", main.app)  # every other call
