"""What docs/with.md says works, with the versions that it names."""

import os
import re
import subprocess
import sys
import sysconfig
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients import reading
from tests.docs.reader import blocks
from tests.processes import run_python
from tests.server import ROOT, Server
from tests.users import ADA, BOB

PAGE = (ROOT / "docs" / "with.md").read_text()
FILES = {name: block for kind, name, block in blocks(PAGE) if kind == "python"}
VERSIONS = dict(re.findall(r"^\| ([a-z-]+)(?:, sqlakeyset)? \| ([\d.]+)", PAGE, re.MULTILINE))
INSTALLED = ["factory-boy", "fastapi-filter", "fastapi-pagination", "fastmcp", "slowapi"]
INSTALLED += ["sqladmin", "sse-starlette", "strawberry-graphql"]


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the libraries of the page, beside all that is installed here."""
    folder = tmp_path_factory.mktemp("with")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "ours.pth").write_text(sysconfig.get_path("purelib"))
    wanted = ["sqlakeyset", *(f"{name}=={VERSIONS[name]}" for name in INSTALLED)]
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "-q"]
    subprocess.run([*pip, "install", *wanted], check=True)
    return site


@pytest.fixture
def folder(tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the files of the page, which may import its libraries."""
    for name, block in FILES.items():
        (tmp_path / name).write_text(block)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{packages}")
    return tmp_path


@pytest.mark.parametrize(
    ("app", "path", "found"),
    [
        ("pages:app", "/pages?size=1", '"total":2'),
        ("pages:app", "/cursor?size=1", '"name":"Ada"'),
        ("filtered:app", "/filtered?name__ilike=%25ob%25&order_by=-name", '"name":"Bob"'),
        ("page:app", "/admin/user/list?search=Ada", "ada@example.com"),
        ("beside:app", "/users", '"name":"Ada"'),
    ],
)
def test_100_clients(url: str, folder: Path, app: str, path: str, found: str) -> None:
    with Server(url, app=app) as server:
        for body in (ADA, BOB):
            assert server.client.post("/users", json=body).status_code == 201
        answers = server.at_once([("GET", path, None)] * 100)
        assert {answer.status_code for answer in answers} == {200}
        assert all(found in answer.text for answer in answers)


def test_a_column_that_is_none(url: str, folder: Path) -> None:
    with Server(url, app="filtered:app") as server:
        assert server.client.get("/filtered?order_by=metadata").status_code == 422


def test_graphql(url: str, folder: Path) -> None:
    with Server(url, app="graph:app") as server:
        server.client.post("/users", json=ADA)
        asked = {"query": "{ users { id name } }"}
        answers = server.at_once([("POST", "/graphql", asked)] * 100)
        data = {"users": [{"id": 1, "name": "Ada"}]}
        assert [answer.json() for answer in answers] == [{"data": data}] * 100


TOOLS = """
import asyncio, sys
from fastmcp import Client

async def main():
    async with Client(sys.argv[1]) as client:
        print(*sorted(tool.name for tool in await client.list_tools()))
        calls = [client.call_tool("read_user", {"user_id": 1}) for _ in range(50)]
        print({answer.structured_content["name"] for answer in await asyncio.gather(*calls)})

asyncio.run(main())
"""


def test_tools(url: str, folder: Path) -> None:
    with Server(url, app="tools:app") as server:
        server.client.post("/users", json=ADA)
        path = os.environ["PYTHONPATH"]
        done = run_python("-c", TOOLS, f"{server.address}/mcp/", folder=ROOT, PYTHONPATH=path)
    tools = "change_user create_user create_users delete_user export_users list_users read_user"
    tools += " replace_user"
    assert done.stdout == f"{tools}\n{{'Ada'}}\n", done.stderr


def test_a_limit(url: str, folder: Path) -> None:
    with Server(url, app="limited:app") as server:
        answers = server.at_once([("GET", f"/users/{n}", None) for n in range(1, 121)])
        assert sorted(answer.status_code for answer in answers) == [404] * 100 + [429] * 20
        assert server.client.get("/users/1").json()["detail"].startswith("Rate limit exceeded")


def test_events(url: str, folder: Path) -> None:
    """100 readers hold up nobody."""
    with Server(url, app="counted:app") as server, ExitStack() as stack:
        clients = [stack.enter_context(reading(server, "/count")) for _ in range(100)]
        assert server.client.post("/users", json=ADA).status_code == 201
        for client in clients:
            while b"data: 1" not in (heard := client.recv(4096)):
                assert heard


FACTORY = """
from factories import Session, UserFactory
from fastapi.testclient import TestClient
from main import app

with TestClient(app) as client:
    made = UserFactory(name="Ada")
    assert client.get(f"/users/{made.id}").json()["name"] == "Ada"
    client.patch(f"/users/{made.id}", json={"name": "Grace"})
    Session.remove()
    UserFactory.create_batch(3)
    Session.remove()
    users = client.get("/users").json()
    print(users[0]["name"], len(users))
"""


def test_users_for_tests(url: str, folder: Path) -> None:
    path = f"{os.environ['PYTHONPATH']}:{ROOT}"
    done = run_python("-c", FACTORY, folder=ROOT, DATABASE_URL=url, PYTHONPATH=path)
    assert done.stdout == "Grace 4\n", done.stderr


@pytest.mark.parametrize(
    ("app", "before"),
    [("beside:app", ""), ("beside:main.app", "/part"), ("beside:outer", "/api")],
)
def test_another_app(url: str, folder: Path, app: str, before: str) -> None:
    with Server(url, app=app) as server:
        server.client.post(f"{before}/users", json=ADA)
        again = server.client.post(f"{before}/users", json=ADA)
        assert (again.status_code, again.json()) == (409, {"detail": "Email already registered"})
