"""Clients that hang up: nobody works for them any more."""

import time
from pathlib import Path

import pytest

from core.engines import READ_LIMIT
from core.sessions import LOOK, SEARCHES
from tests.clients import locked_table, send, server_of, wait_until
from tests.server import Server
from tests.users import ADA

SLOW = """
import time

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from core.sessions import searches
from database import SessionDep, engine
from main import app

NUMBERS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 100000000) "
SLOW = NUMBERS + "SELECT count(*) FROM n" if engine.name == "sqlite" else "SELECT pg_sleep(1.9)"
seen: list[float] = []
begun: list[float] = []


@app.get("/slow")
@searches("query")
def search(query: str, db: SessionDep) -> None:
    start = time.monotonic()
    begun.append(start)
    try:
        db.execute(text(SLOW))
    finally:
        seen.append(time.monotonic() - start)


@app.get("/begun")
def count() -> int:
    return len(begun)


@app.get("/seen")
def show() -> list[float]:
    return seen
"""
POST = "POST /users HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_whoever_waits_leaves_the_queue(url: str) -> None:
    """What has begun goes on to its end; what has not never begins."""
    with Server(url) as server:
        with locked_table(url):
            clients = []
            for number in range(30):
                body = f'{{"name": "N", "email": "n{number}@example.com"}}'
                clients.append(send(server, f"{POST}Content-Length: {len(body)}\r\n\r\n{body}"))
            time.sleep(1)
            for client in clients:
                client.close()
            time.sleep(0.5)
        begun = 2 if url.startswith("sqlite") else 10
        wait_until(lambda: len(server.client.get("/users").json()) == begun)
        assert server.client.post("/users", json=ADA).status_code == 201
        time.sleep(0.5)
        assert len(server.client.get("/users").json()) == begun + 1


@pytest.mark.parametrize("hung_up", [True, False])
def test_a_search_is_ended(url: str, tmp_path: Path, *, hung_up: bool) -> None:
    """As soon as its client has hung up; those who wait for it get its answer, or the limit's."""
    with server_of(SLOW, url, tmp_path) as server:
        line = "GET /slow?query=x HTTP/1.1\r\nHost: localhost\r\n\r\n"
        clients = [send(server, line) for _ in range(20)]
        wait_until(lambda: server.client.get("/begun").json() == SEARCHES)
        time.sleep(2 * LOOK)  # whoever has waited for a moment only is not looked at
        for client in clients[: None if hung_up else -2]:
            client.close()
        wait_until(lambda: len(server.client.get("/seen").json()) >= SEARCHES)
        if hung_up:
            assert max(server.client.get("/seen").json()) < READ_LIMIT - 0.5
            assert server.client.get("/users?query=x").status_code == 200
            assert server.client.get("/begun").json() == SEARCHES
        else:  # the first two had gone, the last two have not
            wait_until(lambda: len(server.client.get("/seen").json()) == 2 * SEARCHES)
            assert min(server.client.get("/seen").json()[SEARCHES:]) > READ_LIMIT - 0.5
            for client in clients[-2:]:
                client.close()
