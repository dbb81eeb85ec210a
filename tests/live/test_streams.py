"""Streams as FastAPI's documentation shows them, and as many readers of them as there are."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import Engine, insert

from core.engines import new_engine
from core.sessions import MAX_WAIT
from models import User
from tests.clients import reading, send, server_of
from tests.server import Server
from tests.users import ADA

STREAMS = """
import asyncio
import time
from collections.abc import AsyncIterable, Iterable, Iterator

from fastapi import Depends
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from core.sessions import read_only
from database import SessionDep, get_db
from main import app
from models import User
from schemas import UserRead


def count(db: Session) -> int:
    number = db.query(User).count()
    db.rollback()
    return number


@app.get("/events/async", response_class=EventSourceResponse)
async def events_async(db: Session = Depends(get_db)) -> AsyncIterable[int]:
    while True:
        yield count(db)
        await asyncio.sleep(1)


@app.get("/events/def", response_class=EventSourceResponse)
def events(db: SessionDep) -> Iterable[int]:
    while True:
        yield count(db)
        time.sleep(1)


@app.get("/events/read-only", response_class=EventSourceResponse)
@read_only
def events_read_only(db: SessionDep) -> Iterable[int]:
    while True:
        yield count(db)
        time.sleep(1)


@app.get("/events/response")
def events_response(db: Session = Depends(get_db)) -> StreamingResponse:
    def send() -> Iterator[str]:
        while True:
            yield f"data: {count(db)}\\n\\n"
            time.sleep(1)

    return StreamingResponse(send(), media_type="text/event-stream")


@app.get("/events/lines")
async def lines_async(db: SessionDep) -> AsyncIterable[int]:
    while True:
        yield count(db)
        await asyncio.sleep(1)


@app.get("/events/write-in-read-only", response_class=EventSourceResponse)
@read_only
def write(db: SessionDep) -> Iterable[int]:
    db.execute(text("DELETE FROM \\"user\\""))
    yield 1


@app.get("/export")
def export(db: SessionDep) -> Iterable[UserRead]:
    yield from db.scalars(select(User).order_by(User.id))


@app.get("/export/async")
@read_only
async def export_async(db: Session = Depends(get_db)) -> AsyncIterable[UserRead]:
    for user in db.scalars(select(User).order_by(User.id)):
        yield user


@app.get("/export/slow")
def export_slowly(db: SessionDep) -> Iterable[int]:
    for number in range(3):
        yield db.query(User).count() + number
        time.sleep(0.05)
"""
ENDLESS = ("async", "def", "read-only", "response", "lines")


@pytest.fixture
def server(url: str, tmp_path: Path) -> Iterator[Server]:
    with server_of(STREAMS, url, tmp_path) as server:
        server.client.post("/user", json=ADA)
        yield server


@pytest.mark.parametrize("kind", ENDLESS)
def test_endless_readers_hold_up_nobody(server: Server, kind: str) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(reading(server, f"/events/{kind}")) for _ in range(100)]
        start = time.monotonic()
        for path in ("/user?user_id=1", "/users?query=ada", "/health", "/livez"):
            assert server.client.get(path).status_code == 200
        body = ADA | {"email": "second@example.com"}
        assert server.client.post("/user", json=body).status_code == 200
        answers = server.at_once([("GET", "/users", None)] * 100)
        assert {answer.status_code for answer in answers} == {200}
        assert time.monotonic() - start < MAX_WAIT
        for client in clients:  # each of them hears of the second user
            while b"2\n" not in (heard := client.recv(4096)):
                assert heard
    assert server.client.post("/user", json=ADA | {"email": "3@example.com"}).status_code == 200


@pytest.mark.parametrize("path", ["/export", "/export/async"])
def test_a_yield_endpoint_has_its_session(server: Server, path: str) -> None:
    answers = server.at_once([("GET", path, None)] * 100)
    assert {answer.status_code for answer in answers} == {200}
    assert {json.loads(answer.text)["name"] for answer in answers} == {"Ada"}


def test_many_slow_exports_are_bounded(server: Server) -> None:
    """Each keeps its transaction, and so its place in the queue."""
    answers = server.at_once([("GET", "/export/slow", None)] * 100)
    assert {answer.text for answer in answers} == {"1\n2\n3\n"}


@contextmanager
def crowded(url: str, number: int) -> Iterator[Engine]:
    """Create users with long names, and yield an engine of their database."""
    engine = new_engine(url)
    people = [{"name": "n" * 100, "email": f"n{n}@example.com"} for n in range(number)]
    with engine.begin() as connection:
        connection.execute(insert(User), people)
    yield engine
    engine.dispose()


DOWNLOAD = "GET /users.csv HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_slow_downloads_keep_nothing(server: Server, url: str) -> None:
    """Neither a place nor a transaction; and whoever goes on reading gets everybody, once."""
    with crowded(url, 50_000) as engine, ExitStack() as stack:
        clients = [stack.enter_context(send(server, DOWNLOAD)) for _ in range(12)]
        for client in clients:
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        time.sleep(2)  # until nothing more can be sent
        start = time.monotonic()
        for path in ("/user?user_id=1", "/users?query=ada", "/health", "/livez"):
            assert server.client.get(path).status_code == 200
        assert server.client.post("/user", json=ADA | {"email": "2@example.com"}).status_code == 200
        assert time.monotonic() - start < MAX_WAIT
        with engine.connect() as connection:
            if engine.name == "sqlite":  # of those who read, none hold up the log
                assert connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0] == 0
            else:
                states = "SELECT DISTINCT state FROM pg_stat_activity WHERE pid != pg_backend_pid()"
                found = set(connection.exec_driver_sql(states).scalars())
                assert "idle in transaction" not in found
        received = b"".join(iter(lambda: clients[0].recv(2**20), b""))
    assert received.endswith(b"\r\n0\r\n\r\n")
    assert received.count(b"@example.com,True\n") in (50_001, 50_002)


def test_many_downloads_at_once(server: Server, url: str) -> None:
    """They take few connections, however fast they are read, and all of them come to an end."""
    counted: list[int] = []

    def read(client: socket.socket) -> bytes:
        return b"".join(iter(lambda: client.recv(2**20), b""))

    with crowded(url, 5000) as engine, ExitStack() as stack, ThreadPoolExecutor(60) as pool:
        clients = [stack.enter_context(send(server, DOWNLOAD)) for _ in range(60)]
        reading = [pool.submit(read, client) for client in clients]
        while not all(each.done() for each in reading):
            if engine.name == "postgresql":
                with engine.connect() as connection:
                    number = "SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL"
                    counted.append(connection.exec_driver_sql(number).scalar_one())
            assert server.client.get("/user?user_id=1").status_code == 200
        assert {each.result().count(b",True\n") for each in reading} == {5001}
    assert max(counted, default=0) <= 30


def test_read_only_stays_read_only_in_a_stream(server: Server) -> None:
    with suppress(httpx2.TransportError):  # it may be told that there is no answer
        assert server.client.get("/events/write-in-read-only").text == ""
    assert httpx2.get(f"{server.address}/user?user_id=1").status_code == 200
