"""An SQLite database is backed up and restored, and the app notices if its file is another one."""

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from runpy import run_path

import pytest
from fastapi.testclient import TestClient

import core.backup
import database
import main
from core.engines import close_all, new_engine
from tests.clients import assert_nothing_is_acknowledged, new_user
from tests.users import ADA, BOB


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the file is going to be."""
    return tmp_path / "app.db"


@pytest.fixture
def client(file: Path) -> Iterator[TestClient]:
    """Client of an app with that database."""
    engine = new_engine(f"sqlite:///{file}")
    database.init_db(engine)
    database.SessionLocal.configure(bind=engine)
    yield TestClient(main.app)
    database.SessionLocal.configure(bind=database.engine)
    close_all(engine)


@pytest.fixture
def backup(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Do what the command does; return what it prints, or the line with which it fails."""
    monkeypatch.chdir(file.parent)
    monkeypatch.setenv("DATABASE_URL", "sqlite:///app.db")

    def run(*arguments: str) -> str:
        try:
            core.backup.main(list(arguments))
        except SystemExit as stopped:
            said = f"failed: {stopped.code}\n"
        else:
            said = capsys.readouterr().out
        assert said.count("\n") == 1
        return said.replace(f"{file.parent}/", "").strip()

    return run


def emails(client: TestClient) -> list[str]:
    return [user["email"] for user in client.get("/users?page_size=1000").json()]


def many(client: TestClient, kind: str) -> None:
    bodies = [new_user(kind, number) for number in range(1000)]
    client.post("/users/bulk", json=bodies).raise_for_status()


def test_a_running_app(client: TestClient, backup: Callable[..., str]) -> None:
    """It goes on with what the backup has; a backup has all that was acknowledged before it."""
    client.post("/users", json=ADA)
    backup("create", "backup.db")
    many(client, "later")
    assert backup("create", "second.db").startswith("app.db -> second.db: 1001 in user")
    backup("restore", "backup.db")
    assert emails(client) == [ADA["email"]]
    assert client.post("/users", json=BOB).status_code == 201
    assert client.get("/health").status_code == 200


def test_what_stands_in_the_way(file: Path, backup: Callable[..., str]) -> None:
    folder = file.parent
    assert backup("create", "backup.db") == f"failed: there is no app.db (in {folder})"
    assert list(folder.iterdir()) == []  # nothing has been created
    file.touch()
    assert backup("create", "backup.db") == "failed: app.db has no tables"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1")
    assert backup("create", "backup.db") == "app.db -> backup.db: 1 in t"
    taken = "failed: backup.db is there already: take another name"
    assert backup("create", "backup.db") == taken
    assert backup("create", "no/backup.db").startswith("failed: app.db cannot be copied")
    assert backup("restore", "x.db") == f"failed: there is no x.db (in {folder})"
    (folder / "x.db").write_text("not a database" * 100)
    assert backup("restore", "x.db").startswith("failed: x.db cannot be read as a")
    assert backup("nonsense").startswith("failed: usage: ")
    assert backup("restore", "backup.db").startswith("failed: backup.db is no backup of")
    with closing(sqlite3.connect(folder / "backup.db")) as connection:
        connection.execute("CREATE TABLE alembic_version AS SELECT 'a' AS version_num")
        connection.commit()
    file.write_bytes(b"not a database" * 100)
    assert backup("restore", "backup.db").startswith("failed: app.db cannot be written")
    for path in folder.glob("app.db*"):
        path.unlink()
    restored = "backup.db -> app.db: 1 in t, 1 in alembic_version"
    assert backup("restore", "backup.db") == restored
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'b'")
        connection.commit()
    said = backup("restore", "backup.db")
    assert said == f"{restored}; of another version: start the app again, it says what to do"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_gone_or_another_one(
    file: Path, client: TestClient, backup: Callable[..., str], replaced: bool
) -> None:
    """Nothing is acknowledged that is not there after the stop."""
    client.post("/users", json=ADA)
    backup("create", "backup.db")
    if replaced:
        shutil.copy(file.with_name("backup.db"), file.with_name("copy.db"))
        os.replace(file.with_name("copy.db"), file)
    else:
        file.unlink()
    assert_nothing_is_acknowledged(client)
    assert file.exists() == replaced  # no empty one has been made


def test_a_database_that_is_no_file(
    monkeypatch: pytest.MonkeyPatch, backup: Callable[..., str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@h/x")
    said = "failed: DATABASE_URL is no path of an SQLite file: see docs/production.md"
    assert backup("create", "x") == said


def test_as_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["core.backup"])
    with pytest.raises(SystemExit, match=r"core\.backup create"):
        run_path(str(core.backup.__file__), run_name="__main__")
