"""The lessons behind the buttons of the page: requests that show one thing each.

The requests are made by the server to itself, because a browser makes no more than six at once.
"""

import asyncio
import time
from collections.abc import Iterator
from secrets import token_hex
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import func, literal, select
from sqlalchemy.orm import Session
from starlette.types import ASGIApp

import crud
from core.engines import new_engine
from core.responses import row_response
from core.sessions import in_turn, read_only
from database import SessionDep, SessionLocal, engine
from examples import posts
from models import User
from schemas import UserBody, UserRead
from watch.trace import Tracing, WatchedSession, watch

Call = tuple[str, str, Any]  # method, path, JSON body

router = APIRouter()

# ---- What the lessons call


@router.get("/lesson/report")
@read_only
def read_report(db: SessionDep) -> dict[str, int]:
    """Count the users, slowly, like a report that takes its time."""
    users = db.scalar(select(func.count()).select_from(User)) or 0
    time.sleep(0.3)
    return {"users": users}


@router.post("/lesson/forget", response_model=UserRead)
def forget_commit(db: SessionDep) -> Response:
    """Create a user, and forget the commit."""
    body = UserBody(name="Forgotten", email=f"forgotten.{token_hex(3)}@example.com")
    user = crud.create_user(db, body)
    # Here, db.commit() is missing.
    return row_response(user)


router.get("/lesson/naive", response_model=list[posts.AuthorRead])(posts.list_authors_naive)
router.get("/lesson/eager", response_model=list[posts.AuthorRead])(posts.list_authors)


# ---- "The classic snippet" in small, and ours, on the same pool of two connections

small = new_engine(engine.url, pool_size=2, pool_timeout=2)
watch(small, small=small)


def get_classic_db() -> Iterator[Session]:
    """Yield a session, as the courses write it."""
    db = WatchedSession(small)
    try:
        yield db
    finally:
        db.close()


ours = FastAPI()
classic = FastAPI()


@classic.get("/classic/{number}", response_model=None)
@classic.get("/checked/{number}")  # against the return annotation: that is a response_model, too
def read_classic(number: int, db: Annotated[Session, Depends(get_classic_db)]) -> dict[str, int]:
    """Ask the database something, and work on it for a moment."""
    one = db.execute(select(literal(1))).scalar_one()
    time.sleep(0.1)  # the others come meanwhile
    return {"number": number, "one": one}


SmallDep = Annotated[Session, Depends(in_turn(small)(get_classic_db), scope="function")]


@ours.get("/ours/{number}")
def read_ours(number: int, db: SmallDep) -> dict[str, int]:
    """Do the same, with a session that no more than two have at once."""
    return read_classic(number, db)


async def with_two_threads(app: FastAPI, *calls: Call) -> list[int]:
    """Make all calls at the same time, in an event loop that has two threads instead of forty."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = 2
    return await call(Tracing(app), *calls)


# ---- The buttons


async def call(app: ASGIApp, *calls: Call) -> list[int]:
    """Make all calls at the same time; return the status of each."""
    transport = ASGITransport(app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://lesson", timeout=60) as client:
        sent = (client.request(method, path, json=body) for method, path, body in calls)
        return [answer.status_code for answer in await asyncio.gather(*sent)]


@router.post("/watch/lessons/many")
async def many(request: Request) -> list[int]:
    """Make twenty slow requests at once."""
    return await call(request.app, *[("GET", "/lesson/report", None)] * 20)


@router.post("/watch/lessons/forget")
async def forget(request: Request) -> list[int]:
    """Create a user without a commit, then look for it."""
    created = await call(request.app, ("POST", "/lesson/forget", None))
    return created + await call(request.app, ("GET", "/users?query=forgotten.", None))


def create_authors() -> None:
    """Create three users with two posts each, unless there is a post already."""
    with SessionLocal.begin() as db:
        if db.scalar(select(posts.Post.id).limit(1)) is None:
            for name in ("Ada Lovelace", "Grace Hopper", "Alan Turing"):
                email = f"{name.split()[0].lower()}.{token_hex(3)}@example.com"
                author = posts.Author(name=name, email=email)
                db.add_all(posts.Post(title=title, author=author) for title in ("One", "Two"))


@router.post("/watch/lessons/n-plus-1")
async def n_plus_1(request: Request) -> list[int]:
    """Read users and their posts, with a statement for each user, and with two in all."""
    await run_in_threadpool(create_authors)
    naive = await call(request.app, ("GET", "/lesson/naive", None))
    return naive + await call(request.app, ("GET", "/lesson/eager", None))


@router.post("/watch/lessons/same-email")
async def same_email(request: Request) -> list[int]:
    """Create two users with the same email at once."""
    email = f"twin.{token_hex(3)}@example.com"
    bodies = [{"name": name, "email": email} for name in ("First twin", "Second twin")]
    return await call(request.app, *(("POST", "/users", body) for body in bodies))


@router.post("/watch/lessons/classic")
def classic_snippet() -> list[int]:
    """Make four requests at once to the classic snippet, four where it is checked, four to ours."""
    return [
        status
        for app, path in ((classic, "/classic"), (classic, "/checked"), (ours, "/ours"))
        for status in asyncio.run(
            with_two_threads(app, *(("GET", f"{path}/{n}", None) for n in range(1, 5)))
        )
    ]
