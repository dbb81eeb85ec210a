"""The app behind the reverse proxy of the README."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.processes import needs
from tests.server import ROOT, Server, free_port
from tests.users import ADA

CONFIGURATION = (ROOT / "examples" / "nginx.conf").read_text()


@contextmanager
def nginx(folder: Path, app: str) -> Iterator[tuple[str, int]]:
    """Run nginx with the configuration as it is, but for ports and times; yield its address."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    needs(program, "nginx: apt-get install nginx-light")
    assert program
    port = free_port()
    text = CONFIGURATION.replace("listen 8080", f"listen 127.0.0.1:{port}")
    text = text.replace("http://127.0.0.1:8000", app)
    for name in ("client_header_timeout", "client_body_timeout"):
        text = text.replace(f"{name} 10;", f"{name} 1;")
    (folder / "nginx.conf").write_text(text)
    command = [program, "-p", str(folder), "-c", "nginx.conf", "-g", "daemon off;"]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield "127.0.0.1", port
        process.terminate()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Host and port of nginx in front of the app."""
    with (
        Server(f"sqlite:///{tmp_path}/app.db") as server,
        nginx(tmp_path, server.address) as address,
    ):
        yield address


def answer_to(proxy: tuple[str, int], sent: bytes) -> bytes:
    """Send some bytes and return everything that comes until the connection is closed."""
    with socket.create_connection(proxy, timeout=20) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_the_api_behind_a_proxy(proxy: tuple[str, int]) -> None:
    host, port = proxy
    with httpx2.Client(base_url=f"http://{host}:{port}") as client:
        created = client.post("/users", json=ADA)
        assert created.status_code == 201
        assert client.get(created.headers["Location"]).json() == created.json()
        assert client.get("/users?page_size=1").links["first"]["url"] == "/users?page_size=1&page=1"
        # Where it sends a browser, it names the address that the browser knows.
        assert client.get("/").headers["Location"] == "/docs"
        assert client.get("/user/").headers["Location"].startswith(f"http://{host}:{port}/")
        long = client.post("/user", json={"name": "x" * 1_500_000})
        assert (long.status_code, long.json()) == (413, {"detail": "Body larger than 1 MiB"})
        longer = client.post("/user", json={"name": "x" * 3_000_000})
        assert (longer.status_code, longer.json()) == (413, long.json())


def test_clients_that_take_their_time(proxy: tuple[str, int]) -> None:
    head = b"POST /user HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    assert answer_to(proxy, b"GET /users HTTP/1.1\r\nHost: x\r\nX: ") == b""
    assert answer_to(proxy, b"") == b""
    assert answer_to(proxy, head + b"Content-Length: 100\r\n\r\n{") == b""


def test_endless_headers(proxy: tuple[str, int]) -> None:
    sent = b"GET /users HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"
    assert answer_to(proxy, sent).startswith(b"HTTP/1.1 400 ")


def test_an_app_that_is_away(tmp_path: Path) -> None:
    with nginx(tmp_path, f"http://127.0.0.1:{free_port()}") as (host, port):
        answer = httpx2.get(f"http://{host}:{port}/users")
        assert answer.status_code == 503
        assert answer.json() == {"detail": "Database unavailable, try again later"}
        assert answer.headers["Retry-After"] == "1"
        assert answer.headers["Content-Type"] == "application/json"
