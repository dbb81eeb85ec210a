"""How an endpoint runs whose answer becomes a `response_model`."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import ResponseValidationError
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict

from core.routes import Route
from core.sessions import is_async


class Read(BaseModel):
    """What is shown of a row."""

    model_config = ConfigDict(from_attributes=True)

    name: str


class Row:
    """An object of which something is read late, as SQLAlchemy reads what refers to it."""

    def __init__(self, name: object = "Ada") -> None:
        self.given = name
        self.threads = [threading.get_ident()]

    @property
    def name(self) -> object:
        """Its name, and who has asked for it."""
        self.threads.append(threading.get_ident())
        return self.given


def app_with(endpoint: Callable[..., Any], **options: Any) -> FastAPI:
    app = FastAPI()
    app.router.route_class = Route
    app.get("/row", **options)(endpoint)
    return app


@pytest.mark.parametrize("number", [1, 3])
def test_an_answer_is_made_in_the_thread_of_its_endpoint(number: int) -> None:
    rows: list[Row] = []
    loops: list[int] = []

    def read() -> Any:
        rows[:] = [Row() for _ in range(number)]
        return rows if number > 1 else rows[0]

    app = app_with(read, response_model=list[Read] if number > 1 else Read)

    @app.get("/loop")
    async def loop() -> None:
        loops.append(threading.get_ident())

    with TestClient(app) as client:
        client.get("/loop")
        answer = client.get("/row").json()
    assert answer == ([{"name": "Ada"}] * number if number > 1 else {"name": "Ada"})
    for row in rows:
        assert len(row.threads) == 2  # read once
        assert set(row.threads) == {rows[0].threads[0]}
        assert row.threads[0] != loops[0]


def test_a_wrong_answer_is_reported_as_ever() -> None:
    client = TestClient(app_with(lambda: Row(name=1), response_model=Read))
    with pytest.raises(ResponseValidationError, match="Input should be a valid string"):
        client.get("/row")


def test_what_the_model_leaves_out() -> None:
    class Optional(Read):
        note: str | None = None
        secret: str = "x"

    def read() -> dict[str, str]:
        return {"name": "Ada"}

    options = {"response_model": Optional, "response_model_exclude_unset": True}
    assert TestClient(app_with(read, **options)).get("/row").json() == {"name": "Ada"}


async def coroutine() -> dict[str, str]:
    asyncio.get_running_loop()
    return {"name": "Ada"}


@wraps(coroutine)
def decorated() -> Any:
    return coroutine()


class Caller:
    """An object that is called as an endpoint."""

    async def __call__(self) -> dict[str, str]:
        """Return a row."""
        return await coroutine()


def lines() -> Iterator[Read]:
    yield Read(name="Ada")


async def async_lines() -> AsyncIterator[Read]:
    yield Read(name="Ada")


@pytest.mark.parametrize("endpoint", [coroutine, decorated, Caller(), lines, async_lines])
def test_other_endpoints_run_as_ever(endpoint: Callable[..., Any]) -> None:
    answer = TestClient(app_with(endpoint)).get("/row")
    assert answer.text.strip() == '{"name":"Ada"}'


def test_a_response_of_ones_own_stays_as_it_is() -> None:
    def read(request: Request) -> Response:
        endpoint = request.scope["endpoint"]
        assert not is_async(endpoint)  # for the queues it is what it is
        return Response(endpoint.__name__)

    assert TestClient(app_with(read)).get("/row").text == "read"
