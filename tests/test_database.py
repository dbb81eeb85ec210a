"""Settings, engine and sessions."""

import logging
import re
import sqlite3
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, create_engine, inspect, make_url, text
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

import core.startup
import database
import main
from core import engines, postgresql, sqlite
from core.engines import new_engine
from core.sessions import MAX_WAIT
from core.settings import check_url
from models import User
from tests.processes import BARE_CLIENT, run_python
from tests.server import ROOT


def test_a_bare_client_in_an_empty_folder(tmp_path: Path) -> None:
    done = run_python("-c", BARE_CLIENT, folder=tmp_path)
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert (tmp_path / "app.db").exists()


def test_init_db_in_an_empty_folder(tmp_path: Path) -> None:
    assert run_python("-c", "from database import init_db; init_db()", folder=tmp_path).stderr == ""
    with sqlite3.connect(tmp_path / "app.db") as connection:
        assert connection.execute("SELECT count(*) FROM user").fetchone() == (0,)
    connection.close()


UNUSABLE = [
    "sqlite:////no/such/folder/app.db",
    "postgresql://127.0.0.1:1/x?nonsense=secret",
]
AWAY = ["postgresql://u:secret@127.0.0.1:1/x", "postgres://127.0.0.1:1/x?password=secret"]


@pytest.mark.parametrize("url", UNUSABLE + AWAY)
def test_a_script_without_a_database_says_why(url: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        database.init_db(new_engine(check_url(url)))
    said = str(stopped.value.code)
    assert said.startswith("Database error: cannot use ")
    assert "\n" not in said
    assert "secret" not in said


@pytest.mark.parametrize("url", UNUSABLE)
def test_a_start_without_a_database_says_why(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "engine", new_engine(check_url(url)))
    monkeypatch.setattr(core.startup, "leave_out_next", id)  # there is no server to say it
    with pytest.raises(RuntimeError, match="the database cannot be used"), TestClient(main.app):
        pass
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert errors[0].startswith("Database error: cannot use ")
    assert "secret" not in caplog.text


def test_one_message_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """The traceback of a start that fails, which uvicorn writes after the line that says why."""
    log = logging.getLogger("one")
    core.startup.leave_out_next(log)
    for message in ("first", "second"):
        log.error(message)
    assert caplog.messages == ["second"]


def test_an_import_touches_no_database(tmp_path: Path) -> None:
    done = run_python("-c", "import main", folder=tmp_path, DATABASE_URL=AWAY[0])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_other_databases_are_left_alone() -> None:
    """Whatever else somebody connects to in the same process: no PRAGMA is sent there."""
    connection = Mock(spec=["cursor", "execute"])  # what every driver has
    sqlite.prepare_sqlite(connection, None)
    assert connection.mock_calls == []


def test_constraints_have_predictable_names(engine: Engine) -> None:
    checks = inspect(engine).get_check_constraints("user")
    assert {check["name"] for check in checks} == {
        "ck_user_email_length",
        "ck_user_email_lower",
        "ck_user_is_active",
        "ck_user_name_length",
    }


@pytest.mark.parametrize(
    "bad",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"email": "x" * 255},
        {"email": "ADA@example.com"},
        {"name": None},
    ],
    ids=str,
)
def test_the_database_refuses_what_the_api_refuses(engine: Engine, bad: dict[str, Any]) -> None:
    """Whoever writes without the API is held to the same rules."""
    with Session(engine) as db:
        db.add(User(**({"name": "Ada", "email": "ada@example.com"} | bad)))
        with pytest.raises((IntegrityError, DataError)):
            db.commit()


def test_sqlite_is_prepared(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/test.db"
    engine = engines.new_engine(url)
    with engine.connect() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
        }
    # synchronous 2: what was committed is on the disk.
    assert pragmas == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "busy_timeout": 30_000,
        "synchronous": 2,
    }
    engine.dispose()


def test_a_statement_that_hangs_ends(new_postgresql: str) -> None:
    engine = engines.new_engine(new_postgresql)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "30s"
        connection.execute(text("SET statement_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="statement timeout"):
            connection.execute(text("SELECT pg_sleep(30)"))
    engine.dispose()


def test_the_limits_are_those_of_the_documents() -> None:
    page = (ROOT / "docs" / "production.md").read_text()
    rows = dict(re.findall(r"^\| (.*?) \| (\d+) \|", page, re.MULTILINE))
    limits = postgresql.CONNECTION_LIMITS
    assert int(rows["in the queue for a session"]) == MAX_WAIT
    assert int(rows["to connect, or to notice that the network is dead"]) == 5
    assert (limits["connect_timeout"], limits["tcp_user_timeout"]) == (5, 5000)
    # A connection on which nothing is sent: 5 s, then three questions, 2 s apart.
    alive = ("keepalives_idle", "keepalives_interval", "keepalives_count")
    assert [limits[name] for name in alive] == [5, 2, 3]
    assert int(rows["for a lock, on PostgreSQL"]) == postgresql.LOCK_LIMIT
    assert int(rows["for a statement, on PostgreSQL"]) == postgresql.STATEMENT_LIMIT
    assert int(rows["for a statement that only reads"]) == engines.READ_LIMIT
    sqlite = engines.engine_options("sqlite:///x.db")["connect_args"]
    assert sqlite == {"timeout": int(rows["for another writer, on SQLite"])}


def test_limits_in_the_url_stand(new_postgresql: str, tmp_path: Path) -> None:
    longer = f"sqlite:///{tmp_path}/test.db?timeout=60"
    own = make_url(new_postgresql).update_query_dict({"options": "-cstatement_timeout=0"})
    for url, statement, limit in [
        (longer, "PRAGMA busy_timeout", 60_000),
        (own.render_as_string(hide_password=False), "SHOW statement_timeout", "0"),
    ]:
        engine = engines.new_engine(url)
        for bind in (engine, engines.read_engine(engine)):
            with bind.connect() as connection:
                assert connection.execute(text(statement)).scalar_one() == limit
            bind.dispose()


def test_each_search_is_planned_for_itself(new_postgresql: str) -> None:
    """A plan for all texts is right for some and a thousand times too slow for others."""
    engine = engines.new_engine(new_postgresql)
    for bind, mode in ((engine, "auto"), (engines.read_engine(engine), "force_custom_plan")):
        with bind.connect() as connection:
            assert connection.execute(text("SHOW plan_cache_mode")).scalar_one() == mode
        bind.dispose()


def test_a_connection_that_died_while_idle_is_noticed(new_postgresql: str) -> None:
    engine = engines.new_engine(new_postgresql)
    connections = [engine.connect() for _ in range(5)]
    pids = [c.execute(text("SELECT pg_backend_pid()")).scalar_one() for c in connections]
    for connection in connections:
        connection.close()
    admin = create_engine(new_postgresql)
    with admin.connect() as connection:
        for pid in pids:
            # Waits until the process is gone.
            connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    admin.dispose()
    for _ in pids:
        with engine.connect() as connection:
            assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() not in pids
    engine.dispose()
