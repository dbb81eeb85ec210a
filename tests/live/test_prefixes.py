"""The app at an address that has a prefix, and where something else stands for its server."""

import asyncio
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import pytest
from a2wsgi import ASGIMiddleware
from fastapi import FastAPI
from fastapi.testclient import TestClient
from mangum import Mangum
from sqlalchemy import Engine

import database
import main
from core.startup import create_app
from tests.server import Server
from tests.users import ADA, BOB, create

PREFIX = "/api/v1"
APPS = """
import database
import main
from core.startup import create_app, lifespan
from fastapi import FastAPI

prefixed = create_app(database, root_path="/api/v1/")
prefixed.include_router(main.users)

outer = FastAPI(lifespan=lifespan)  # a mount runs none
outer.state.database = database
outer.mount("/api/v1", main.app)
"""


@pytest.mark.parametrize(
    ("name", "options", "before"),
    [
        ("apps:prefixed", (), ""),  # a gateway takes the prefix away
        ("main:app", (f"--root-path={PREFIX}",), ""),
        ("apps:outer", (), PREFIX),
    ],
)
def test_whoever_follows_an_address_stays(
    url: str, tmp_path: Path, name: str, options: tuple[str, ...], before: str
) -> None:
    (tmp_path / "apps.py").write_text(APPS)
    with Server(url, f"--app-dir={tmp_path}", *options, app=name) as server:

        def follow(address: str) -> httpx2.Response:
            assert address.startswith(f"{PREFIX}/user")
            return server.client.get(before + address.removeprefix(PREFIX))

        server.client.post(f"{before}/users", json=ADA)
        created = server.client.post(f"{before}/users", json=BOB)
        assert follow(created.headers["Location"]).json()["name"] == "Bob"
        for walk in ("page_size=1", "after=0&page_size=1"):
            page = follow(f"{PREFIX}/users?{walk}")
            assert [user["name"] for user in page.json()] == ["Ada"]
            page = follow(page.links["next"]["url"])
            assert [user["name"] for user in page.json()] == ["Bob"]
            assert "next" not in page.links


def ask_gateway(app: FastAPI, method: str, path: str, **query: str) -> dict[str, Any]:
    """Call the app as API Gateway does, with a stage `prod` in the addresses that clients have."""
    event: dict[str, Any] = {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": {"Host": "abc.execute-api.eu-west-3.amazonaws.com"},
        "multiValueHeaders": {},
        "queryStringParameters": query,
        "multiValueQueryStringParameters": {key: [value] for key, value in query.items()},
        "requestContext": {"stage": "prod", "path": f"/prod{path}"},
        "body": None,
        "isBase64Encoded": False,
    }
    context: Any = None
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # Mangum would make one, and not close it
    answer: dict[str, Any] = Mangum(app, lifespan="off")(event, context)
    loop.close()
    asyncio.set_event_loop(None)
    return answer


@pytest.mark.filterwarnings("ignore:The `root_path` parameter")  # where no server says it
def test_a_stage_of_a_gateway(engine: Engine) -> None:
    """`Mangum`, as on AWS Lambda; it takes no body off the answer to a HEAD."""
    app = create_app(database, root_path="/prod")
    app.include_router(main.users)
    app.include_router(main.lessons)
    create(TestClient(app), ADA, BOB)
    page = ask_gateway(app, "GET", "/users", after="0", page_size="1")
    assert [user["name"] for user in json.loads(page["body"])] == ["Ada"]
    assert page["headers"]["link"] == '</prod/users?page_size=1&after=1>; rel="next"'
    head = ask_gateway(app, "HEAD", "/users", after="0", page_size="1")
    assert (head["statusCode"], head["body"]) == (200, "")
    assert head["headers"] == page["headers"]


def test_a_server_of_wsgi(engine: Engine) -> None:
    """`a2wsgi`, as on hosts that know WSGI only."""
    create(TestClient(main.app), ADA)
    serve: Any = ASGIMiddleware(main.app)  # type: ignore[arg-type]
    told: list[Any] = []

    def ask(method: str) -> tuple[str, bytes]:
        environ: dict[str, object] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": "/users",
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(),
        }
        body = b"".join(serve(environ, lambda *answer: told.append(answer)))
        return told[-1][0], body

    status, body = ask("GET")
    assert (status, json.loads(body)[0]["name"]) == ("200 OK", "Ada")
    assert ask("HEAD") == ("200 OK", b"")
    assert told[0][1] == told[1][1]
