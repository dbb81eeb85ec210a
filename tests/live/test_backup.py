"""An SQLite database is backed up and restored, by the command, beside a server or after it."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.clients import assert_nothing_is_acknowledged, new_user
from tests.processes import run_python
from tests.server import ROOT, Server
from tests.users import ADA, BOB


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the file is going to be."""
    return tmp_path / "app.db"


@pytest.fixture
def server(database: Path) -> Iterator[Server]:
    with Server(f"sqlite:///{database}") as server:
        yield server


def backup(database: Path, *arguments: str) -> str:
    """Run the command; return what it prints, or the one line with which it fails."""
    done = run_python(
        "-m", "core.backup", *arguments, folder=database.parent, DATABASE_URL="sqlite:///app.db"
    )
    assert (done.stdout + done.stderr).count("\n") == 1, done.stderr
    assert (done.returncode == 0) == (done.stderr == "")
    return (done.stdout or f"failed: {done.stderr}").replace(f"{database.parent}/", "").strip()


def emails(client: httpx2.Client) -> list[str]:
    return [user["email"] for user in client.get("/users?page_size=1000").json()]


def many(server: Server, kind: str) -> None:
    bodies = [new_user(kind, number) for number in range(1000)]
    server.client.post("/users/bulk", json=bodies).raise_for_status()


def test_a_killed_app(database: Path, server: Server) -> None:
    """What it left behind in app.db-wal does not win over the backup."""
    server.client.post("/users", json=ADA)
    said = backup(database, "create", "backup.db")
    assert said.startswith("app.db -> backup.db: 1 in user, ")
    assert "1 in alembic_version" in said
    many(server, "later")
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    assert database.with_name("app.db-wal").stat().st_size > 0
    assert backup(database, "restore", "backup.db").startswith("backup.db -> app.db: 1 in user")
    with Server(server.url) as again:
        assert emails(again.client) == [ADA["email"]]
        assert again.client.post("/users", json=BOB).status_code == 201


def test_a_running_app(database: Path, server: Server) -> None:
    """It goes on with what the backup has; a backup has all that was acknowledged before it."""
    server.client.post("/users", json=ADA)
    backup(database, "create", "backup.db")
    many(server, "later")
    assert backup(database, "create", "second.db").startswith("app.db -> second.db: 1001 in user")
    backup(database, "restore", "backup.db")
    assert emails(server.client) == [ADA["email"]]
    assert server.client.post("/users", json=BOB).status_code == 201
    assert server.client.get("/health").status_code == 200


def test_a_database_that_is_no_file(tmp_path: Path) -> None:
    done = run_python(
        "-m", "core.backup", "create", "x", folder=ROOT, DATABASE_URL="postgresql://u@h/x"
    )
    assert done.stderr.startswith(
        "DATABASE_URL is no path of an SQLite file: see docs/production.md"
    )


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_gone_or_another_one(database: Path, server: Server, replaced: bool) -> None:
    """Nothing is acknowledged that is not there after the stop."""
    server.client.post("/users", json=ADA)
    backup(database, "create", "backup.db")
    if replaced:
        shutil.copy(database.with_name("backup.db"), database.with_name("copy.db"))
        os.replace(database.with_name("copy.db"), database)
    else:
        database.unlink()
    assert_nothing_is_acknowledged(server.client)
    assert database.exists() == replaced  # no empty one has been made
