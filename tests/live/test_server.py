"""What only shows on a real server with many clients."""

import asyncio
import os
import runpy
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from websockets.sync.client import connect

from tests.clients import new_user
from tests.server import ROOT, Call, Server, free_port
from tests.users import ADA

KINDS = ("", "/pasted", "/alias", "/read-only", "/both", "/async", "/own")


@pytest.mark.parametrize("clients", [100, 500])
def test_what_is_pasted_holds(url: str, clients: int) -> None:
    """In every form, reading and writing at once, with the calls of the app beside it."""
    with Server(url, app="benchmarks.pasted:app") as server:
        server.client.post("/user", json=ADA)
        for kind in KINDS:
            answers = server.at_once([("GET", f"{kind}/user?user_id=1", None)] * clients)
            assert Counter(answer.status_code for answer in answers) == {200: clients}
        mixed: list[Call] = []
        for number in range(clients // 5):
            mixed += [("GET", f"{path}?user_id=1", None) for path in ("/user", "/pasted/user")]
            mixed += [("POST", path, new_user(path, number)) for path in ("/user", "/pasted/user")]
            mixed += [("GET", "/users", None)]
        answers = server.at_once(mixed)
        assert Counter(answer.status_code for answer in answers) == {200: clients}


def test_the_snippet_of_courses(url: str) -> None:
    """As lessons write it, it answers 200 clients; with a response_model, it stops."""
    with Server(url, app="benchmarks.classic:app") as server:
        calls: list[Call] = [("GET", "/users", None)] * 200
        answers = server.at_once(calls)
        assert Counter(answer.status_code for answer in answers) == {200: 200}
        checked: list[Call] = [("GET", "/checked/users", None)] * 200
        assert len(server.at_once(checked, patience=5)) < 200


def test_websockets_that_stay(url: str) -> None:
    """Thirty that have asked the database, and nobody waits for them."""
    with Server(url, app="benchmarks.pasted:app") as server, ExitStack() as stack:
        server.client.post("/user", json=ADA)
        for _ in range(30):
            address = f"{server.address.replace('http', 'ws', 1)}/websocket"
            websocket = stack.enter_context(connect(address))
            websocket.send("how many?")
            assert websocket.recv() == "1"
        calls: list[Call] = [("GET", f"{kind}/user?user_id=1", None) for kind in KINDS[:-1]]
        answers = server.at_once([*calls, ("PATCH", "/users/1", {"name": "Eve"})] * 10)
        assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize("call", [("GET", "/users", None), ("PATCH", "/users/1", {"name": "Eve"})])
def test_200_clients_at_once(url: str, call: Call) -> None:
    with Server(url) as server:
        server.client.post("/user", json=ADA)
        assert {answer.status_code for answer in server.at_once([call] * 200)} == {200}


def test_one_email_and_64_clients(url: str) -> None:
    with Server(url) as server:
        answers = server.at_once([("POST", "/user", ADA)] * 64)
        assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 63}
        assert len(server.client.get("/users").json()) == 1


def test_sixteen_clients_edit_the_same_user(url: str) -> None:
    """With the ETag that all of them have read: one changes it, and the others are told."""
    with Server(url) as server:
        server.client.post("/users", json=ADA)
        tag = server.client.get("/users/1").headers["ETag"]

        async def edit() -> list[httpx2.Response]:
            async with httpx2.AsyncClient(base_url=server.address, timeout=30) as client:
                edits = (
                    client.patch("/users/1", json={"name": f"N{n}"}, headers={"If-Match": tag})
                    for n in range(16)
                )
                return list(await asyncio.gather(*edits))

        answers = asyncio.run(edit())
        assert Counter(each.status_code for each in answers) == {200: 1, 412: 15}
        (changed,) = (each.json() for each in answers if each.status_code == 200)
        assert server.client.get("/users/1").json() == changed


def test_four_workers_start_on_an_empty_database(url: str) -> None:
    with Server(url, "--workers=4") as server:
        answers = server.at_once([("POST", "/user", new_user("n", number)) for number in range(50)])
        assert {answer.status_code for answer in answers} == {200}
        assert len(server.client.get("/users").json()) == 50


def test_a_body_of_30_mb(url: str) -> None:
    with Server(url) as server:
        json = {"Content-Type": "application/json"}
        answer = server.client.post("/user", content=b"x" * 30_000_000, headers=json)
        assert answer.status_code == 413
        assert answer.json() == {"detail": "Body larger than 1 MiB"}
        assert server.client.post("/user", json=ADA).status_code == 200


def test_the_command_of_the_readme(tmp_path: Path) -> None:
    with Server(f"sqlite:///{tmp_path}/app.db", "--reload") as server:
        assert server.client.get("/users").json() == []
        assert "swagger-ui" in server.client.get("/", follow_redirects=True).text


@pytest.mark.parametrize("command", ["dev", "run"])
def test_the_command_of_fastapis_tutorial(tmp_path: Path, command: str) -> None:
    """Without a word of which app it is."""
    port = free_port()
    fastapi = Path(sys.executable).with_name("fastapi")
    with subprocess.Popen(
        [fastapi, command, "--host=127.0.0.1", f"--port={port}"],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": f"sqlite:///{tmp_path}/app.db"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        printed = ""
        while "Application startup complete" not in printed:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        assert httpx2.get(f"http://127.0.0.1:{port}/users").json() == []
        process.terminate()
        process.stdout.read()


@pytest.mark.parametrize("memory", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory(memory: str) -> None:
    with Server(memory) as server:
        calls: list[Call] = [("POST", "/user", new_user("n", number)) for number in range(50)]
        assert {answer.status_code for answer in server.at_once(calls)} == {200}
        assert len(server.client.get("/users").json()) == 50


def test_python_main_py_runs_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `uvicorn main:app` does, on port 8000, which may be in use here."""
    served: list[FastAPI] = []
    monkeypatch.setattr(uvicorn, "run", served.append)
    names = runpy.run_path(str(ROOT / "main.py"), run_name="__main__")
    assert served == [names["app"]]


def test_a_server_names_its_database(tmp_path: Path) -> None:
    environment = os.environ | {"DATABASE_URL": f"sqlite:///{tmp_path}/app.db"}
    with subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "main:app", f"--port={free_port()}"],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        lines = [process.stderr.readline() for _ in range(3)]
        process.terminate()
    assert f"INFO:     Database: sqlite:///{tmp_path}/app.db\n" in lines


def test_a_front_end_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An origin that is listed may read the answers, also those of errors; others may not."""
    monkeypatch.setenv("CORS_ORIGINS", "http://localhost:5173, https://app.example.com")
    with Server(f"sqlite:///{tmp_path}/app.db") as server:
        for origin in ("http://localhost:5173", "https://app.example.com"):
            for path in ("/users", "/users/7", "/users/x"):
                headers = server.client.get(path, headers={"Origin": origin}).headers
                assert headers["Access-Control-Allow-Origin"] == origin
                assert "X-Total-Count" in headers["Access-Control-Expose-Headers"]
            asked = {
                "Origin": origin,
                "Access-Control-Request-Method": "PATCH",
                "Access-Control-Request-Headers": "content-type",
            }
            answer = server.client.options("/users/1", headers=asked)
            assert answer.status_code == 200
            assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
        headers = server.client.get("/users", headers={"Origin": "http://evil.example"}).headers
        assert "Access-Control-Allow-Origin" not in headers


def test_without_origins_no_header_is_added(tmp_path: Path) -> None:
    with Server(f"sqlite:///{tmp_path}/app.db") as server:
        headers = server.client.get("/users", headers={"Origin": "http://localhost:5173"}).headers
        assert not any(name.startswith("access-control") for name in headers)
