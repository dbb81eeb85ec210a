"""Tables change without losing data."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, NullPool, create_engine, inspect, text

from database import init_db
from tests.server import ROOT, Server

FIRST = "4c1d7a90b2e3"
Alembic = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def alembic(url: str) -> Alembic:
    """Run `alembic` on an empty database."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=ROOT,
            env=os.environ | {"DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def run(alembic: Alembic, *arguments: str) -> None:
    done = alembic(*arguments)
    assert (done.returncode, done.stderr) == (0, "")


def add_users(url: str, *emails: str) -> None:
    """Write users without the app, and delete the last one."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        insert = text("INSERT INTO \"user\" (name, email, is_active) VALUES ('N', :email, true)")
        for email in (*emails, "last@example.com"):
            connection.execute(insert, {"email": email})
        connection.execute(text("DELETE FROM \"user\" WHERE email = 'last@example.com'"))


def emails_in(url: str) -> list[tuple[int, str]]:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        rows = connection.execute(text('SELECT id, email FROM "user" ORDER BY id'))
        return [(user_id, email) for user_id, email in rows]


def tables(url: str) -> dict[str, object]:
    """Return all that can be told about the tables of a database, in an order of its own."""
    engine = create_engine(url, poolclass=NullPool)
    inspector = inspect(engine)
    return {
        name: (
            [{**column, "type": str(column["type"])} for column in inspector.get_columns(name)],
            sorted(str(each) for each in inspector.get_check_constraints(name)),
            sorted(str(each) for each in inspector.get_unique_constraints(name)),
            sorted(str(each["name"]) for each in inspector.get_indexes(name)),
        )
        for name in inspector.get_table_names()
        if name != "alembic_version"
    }


def test_from_nothing_to_the_models(alembic: Alembic, url: str) -> None:
    run(alembic, "upgrade", "head")
    run(alembic, "check")
    migrated = tables(url)
    run(alembic, "downgrade", "base")
    assert tables(url) == {}
    engine = create_engine(url, poolclass=NullPool)
    init_db(engine)
    created = tables(url)
    assert created["user"] == migrated["user"]


def test_a_database_that_the_app_has_created(alembic: Alembic, url: str, engine: Engine) -> None:
    before = tables(url)
    add_users(url, "ada@example.com")
    run(alembic, "upgrade", "head")
    run(alembic, "check")
    assert tables(url) == before
    assert emails_in(url) == [(1, "ada@example.com")]


def test_there_and_back_with_data(alembic: Alembic, url: str) -> None:
    """Also if the app has created the first tables, before there were migrations."""
    run(alembic, "upgrade", FIRST)
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    add_users(url, "Ada@example.com", "ZOÉ@example.com", "bob@example.com")
    run(alembic, "upgrade", "head")
    lower = [(1, "ada@example.com"), (2, "zoé@example.com"), (3, "bob@example.com")]
    assert emails_in(url) == lower
    with Server(url) as server:
        body = {"name": "Eve", "email": "ADA@example.com"}
        assert server.client.post("/user", json=body).status_code == 409
        body["email"] = "eve@example.com"
        # Number 4 has been somebody's; nobody gets it again.
        assert server.client.post("/user", json=body).json()["id"] in (5, 6)
        assert len(server.client.get("/users?query=example").json()) == 4
    run(alembic, "downgrade", "-1")
    assert emails_in(url)[:3] == lower
    run(alembic, "upgrade", "head")
    run(alembic, "check")
    assert emails_in(url)[:3] == lower


def test_emails_that_clash_stop_it(alembic: Alembic, url: str) -> None:
    """Nothing has changed then: not the emails before them, either."""
    run(alembic, "upgrade", FIRST)
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX uq_user_email_lower"))
    add_users(url, "Bob@example.com", "Ada@example.com", "ada@example.com")
    before = (tables(url), emails_in(url))
    done = alembic("upgrade", "head")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "users 2 (Ada@example.com) and 3 (ada@example.com) have the same email" in said
    assert "Traceback" not in said
    assert (tables(url), emails_in(url)) == before
    assert FIRST in alembic("current").stdout


def test_what_refers_to_users_stays(alembic: Alembic, url: str) -> None:
    """SQLite copies the table and drops the old one, and must not delete posts with it."""
    run(alembic, "upgrade", FIRST)
    add_users(url, "Ada@example.com")
    engine = create_engine(url, poolclass=NullPool)
    reference = 'REFERENCES "user" (id) ON DELETE CASCADE'
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE own (user_id BIGINT NOT NULL {reference})"))
        connection.execute(text("INSERT INTO own VALUES (1)"))
    run(alembic, "upgrade", "head")
    run(alembic, "check")  # a table that is not in the models is somebody's, and no difference
    run(alembic, "downgrade", "-1")
    with engine.begin() as connection:
        assert connection.execute(text("SELECT user_id FROM own")).fetchall() == [(1,)]
        connection.execute(text('DELETE FROM "user"'))
        assert connection.execute(text("SELECT user_id FROM own")).fetchall() == []


def test_two_upgrades_at_once(alembic: Alembic, url: str) -> None:
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _: alembic("upgrade", "head"), range(2)))
    assert [(each.returncode, each.stderr) for each in done] == [(0, ""), (0, "")]
    run(alembic, "check")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("mysql://u:secret@localhost/x", "DATABASE_URL: only sqlite:// and postgresql://"),
        ("postgresql://u:secret@127.0.0.1:1/x", "Database error: cannot use "),
        ("sqlite:////no/such/folder/app.db", "Database error: cannot use "),
    ],
)
def test_settings_are_those_of_the_app(alembic: Alembic, url: str, complaint: str) -> None:
    done = alembic("upgrade", "head")
    assert done.returncode == 1
    assert done.stderr.startswith(complaint)
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_files_are_named_by_date_and_subject() -> None:
    names = [path.name for path in Path(ROOT / "migrations" / "versions").glob("*.py")]
    assert sorted(names) == ["2026-11-01_users.py", "2026-11-21_emails_in_lower_case.py"]
