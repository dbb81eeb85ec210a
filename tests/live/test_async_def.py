"""`async def` endpoints and middleware with an ordinary session, as many courses have them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from uuid import uuid4

import httpx2
import pytest

from core.engines import NO_CONNECTION
from tests.clients import server_of
from tests.server import Call, Server
from tests.users import ADA

WRITERS = """
import asyncio
from threading import Event

from fastapi import Depends
from sqlalchemy.orm import Session

from database import SessionLocal, get_db
from main import app
from models import User
from schemas import UserBody, UserRead

held, go_on = Event(), Event()


@app.post("/async", response_model=UserRead)
async def create(body: UserBody, db: Session = Depends(get_db)):
    user = User(**body.model_dump())
    db.add(user)
    db.flush()
    await asyncio.sleep(0.01)  # asks another service, perhaps
    db.commit()
    db.refresh(user)
    return user


@app.put("/async", response_model=UserRead)
async def rename(name: str, db: Session = Depends(get_db)):
    user = db.get_one(User, 1)
    user.name = name
    db.flush()
    await asyncio.sleep(0.01)
    db.commit()
    return user


@app.get("/hold")
def hold() -> None:
    with SessionLocal() as db:
        db.get_one(User, 1).name = "Held"
        db.flush()
        held.set()
        go_on.wait(10)


@app.get("/held")
def wait() -> None:
    held.wait(10)


@app.get("/go-on")
async def release() -> None:
    go_on.set()
"""


@pytest.fixture
def server(url: str, tmp_path: Path) -> Iterator[Server]:
    with server_of(WRITERS, url, tmp_path) as server:
        server.client.post("/user", json=ADA)
        yield server


@contextmanager
def asked_all_the_time(server: Server, *expected: int) -> Iterator[None]:
    """Ask whether the process lives, again and again: the longest answer took 0.04 s, once 30."""
    ended = Event()

    def ask() -> float:
        slowest = 0.0
        while not ended.is_set():
            start = time.monotonic()
            answer = httpx2.get(f"{server.address}/livez", timeout=60)
            assert answer.status_code in (200, *expected)
            slowest = max(slowest, time.monotonic() - start)
            time.sleep(0.02)
        return slowest

    with ThreadPoolExecutor() as pool:
        asked = pool.submit(ask)
        try:
            yield
        finally:
            ended.set()
        assert asked.result() < 2


def test_a_third_of_100_clients(server: Server) -> None:
    """Nothing that is acknowledged is lost, most are answered, and the app lives throughout."""
    calls: list[Call] = []
    for number in range(33):
        body = {"name": "Grace", "email": f"{uuid4()}@example.com"}
        calls += [("POST", "/async", body), ("POST", "/user", body | {"email": f"{number}@a.org"})]
        calls += [("GET", f"/users?query={number}", None)]
    with asked_all_the_time(server):
        answers = server.at_once(calls)
    assert {answer.status_code for answer in answers} == {200}
    assert server.client.get("/users").headers["X-Total-Count"] == "67"


def test_the_same_row(server: Server) -> None:
    """On SQLite, they take turns; on PostgreSQL, some are told at once that the row is locked."""
    with asked_all_the_time(server):
        answers = server.at_once([("PUT", f"/async?name={number}", None) for number in range(30)])
    done = [answer.json()["name"] for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(done) + len(refused) == 30
    assert {answer.headers["Retry-After"] for answer in refused} <= {"1"}
    assert server.client.get("/user?user_id=1").json()["name"] in done
    assert not refused or "postgresql" in server.url


def test_a_lock_that_somebody_keeps(server: Server) -> None:
    with ThreadPoolExecutor() as pool:
        holding = pool.submit(httpx2.get, f"{server.address}/hold", timeout=30)
        server.client.get("/held")
        with asked_all_the_time(server):
            answers = server.at_once([("PUT", "/async?name=Grace", None)] * 5)
        server.client.get("/go-on")
        assert holding.result().status_code == 200
    assert {(each.status_code, each.headers["Retry-After"]) for each in answers} == {(503, "1")}
    assert server.client.put("/async?name=Grace").status_code == 200


MIDDLEWARE = """
from fastapi import Request
from sqlalchemy import text

from database import SessionLocal
from main import app


@app.middleware("http")
async def look(request: Request, call_next):
    with SessionLocal() as db:
        db.execute(text("SELECT 1"))
        return await call_next(request)
"""
POSTS: list[Call] = [
    ("POST", "/user", ADA | {"email": f"{number}@example.com"}) for number in range(100)
]


def test_a_middleware_that_closes_its_session_first(url: str, tmp_path: Path) -> None:
    with server_of(MIDDLEWARE.replace("    return", "return"), url, tmp_path) as server:
        assert {answer.status_code for answer in server.at_once(POSTS)} == {200}


def test_a_middleware_that_keeps_its_session(
    url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Who finds no connection is told so at once, by an app that goes on."""
    with server_of(MIDDLEWARE, url, tmp_path) as server:
        with asked_all_the_time(server, 500):
            answers = server.at_once(POSTS)
        assert {answer.status_code for answer in answers} <= {200, 500, 503}
        created = [answer for answer in answers if answer.status_code == 200]
        answer = server.client.get("/users")
        assert answer.headers["X-Total-Count"] == str(len(created))
    assert NO_CONNECTION in capfd.readouterr().err
