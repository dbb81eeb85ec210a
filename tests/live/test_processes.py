"""What runs as a process of its own: scripts, servers that do not start, commands of Alembic."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import NullPool, create_engine, make_url

from tests.processes import BARE_CLIENT, run_python
from tests.project import Project
from tests.server import ROOT, free_port
from tests.test_database import AWAY, UNUSABLE
from tests.test_migrations import AGES, complaints

REPLACED = """
from fastapi.testclient import TestClient
from sqlalchemy import StaticPool, create_engine
from sqlalchemy.orm import Session
from database import Base, get_db
from main import app
threads = {"check_same_thread": False}
engine = create_engine("sqlite://", poolclass=StaticPool, connect_args=threads)
Base.metadata.create_all(engine)
app.dependency_overrides[get_db] = lambda: Session(engine)
with TestClient(app) as client:
    print(client.get("/users").json(), client.get("/health").status_code)
"""


def test_settings_from_a_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=sqlite:///./other.db\nDEBUG=true\n")
    done = run_python("-c", BARE_CLIENT, folder=tmp_path)
    assert (tmp_path / "other.db").exists()
    assert "SELECT user.id" in done.stdout
    silent = run_python(
        "-c", BARE_CLIENT, folder=tmp_path, DEBUG="false", DATABASE_URL="sqlite:///./third.db"
    )
    assert (tmp_path / "third.db").exists()
    assert silent.stdout == "[]\n"


def test_a_database_without_an_encoding(postgresql: str, tmp_path: Path) -> None:
    """What initdb makes where the machine has no locale."""
    admin = create_engine(postgresql, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    name = f"ascii_{uuid4().hex}"
    with admin.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'"
        )
    url = make_url(postgresql).set(database=name).render_as_string(hide_password=False)
    server = ("-m", "uvicorn", "main:app", f"--port={free_port()}")
    done = run_python(*server, folder=ROOT, DATABASE_URL=url)
    assert done.returncode == 3
    assert "its encoding is SQL_ASCII" in done.stderr
    assert "ENCODING 'UTF8'" in done.stderr
    assert "Traceback" not in done.stderr
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://u:secret@localhost/x"),
        ("READ_DATABASE_URL", "postgresql://u:secret@h:x/y"),
        ("DEBUG", "maybe"),
    ],
)
def test_a_setting_that_cannot_be_used(tmp_path: Path, name: str, value: str) -> None:
    done = run_python("-c", "import database", folder=tmp_path, **{name: value})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{name}: ")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


@pytest.mark.parametrize("url", UNUSABLE)
def test_a_start_without_a_database_says_why(tmp_path: Path, url: str) -> None:
    server = ("-m", "uvicorn", "main:app", f"--port={free_port()}")
    done = run_python(*server, folder=tmp_path, DATABASE_URL=url)
    assert done.returncode == 3
    lines = [line for line in done.stderr.splitlines() if not line.startswith("INFO:")]
    assert lines[0].startswith("ERROR:    Database error: cannot use ")
    assert lines[1:] == ["ERROR:    Application startup failed. Exiting."]
    assert "secret" not in done.stdout + done.stderr


def test_an_import_touches_no_database(tmp_path: Path) -> None:
    for url in (UNUSABLE[0], AWAY[0], "sqlite:///./app.db"):
        done = run_python("-c", "import main", folder=tmp_path, DATABASE_URL=url)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_several_processes_start_at_the_same_time(url: str) -> None:
    script = "from database import init_db; init_db()"
    with ThreadPoolExecutor() as pool:
        starts = [
            pool.submit(run_python, "-c", script, folder=ROOT, DATABASE_URL=url) for _ in range(4)
        ]
        assert [complaints(start.result().stderr) for start in starts] == [""] * 4


def test_a_server_says_so_too(project: Project, url: str) -> None:
    statements, complaint = AGES[2]
    project.start()
    project.execute(*statements)
    server = ("-m", "uvicorn", "main:app", f"--port={free_port()}")
    done = run_python(*server, folder=ROOT, DATABASE_URL=url)
    assert done.returncode == 3
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_two_upgrades_at_once(project: Project, url: str) -> None:
    """By the command itself, as two people type it."""
    command = ("-m", "alembic", "upgrade", "head")
    with ThreadPoolExecutor() as pool:
        upgrades = [
            pool.submit(run_python, *command, folder=ROOT, DATABASE_URL=url) for _ in range(2)
        ]
    done = [upgrade.result() for upgrade in upgrades]
    assert [each.returncode for each in done] == [0, 0]
    assert [complaints(each.stderr) for each in done] == ["", ""]
    project.alembic("check")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("mysql://u:secret@localhost/x", "DATABASE_URL: only sqlite:// and postgresql://"),
        ("postgresql://u:secret@127.0.0.1:1/x", "Database error: cannot use "),
        ("sqlite:////no/such/folder/app.db", "Database error: cannot use "),
    ],
)
def test_settings_are_those_of_the_app(url: str, complaint: str) -> None:
    done = run_python("-m", "alembic", "upgrade", "head", folder=ROOT, DATABASE_URL=url)
    assert done.returncode == 1
    assert done.stderr.startswith(complaint)
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_a_script_of_what_looks_at_the_data() -> None:
    done = run_python("-m", "alembic", "upgrade", "head", "--sql", folder=ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Failed: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("url", ["sqlite:///./app.db", "postgresql://127.0.0.1:1/away"])
def test_the_real_database_is_not_touched(tmp_path: Path, url: str) -> None:
    """It may be away, or hold what nobody wants to lose: a test that replaces it can start."""
    done = run_python("-c", REPLACED, folder=tmp_path, DATABASE_URL=url)
    assert (done.stdout, done.stderr) == ("[] 200\n", "")
    assert list(tmp_path.iterdir()) == []


def test_the_tests_to_copy(tmp_path: Path) -> None:
    tests = ROOT / "examples" / "test_users.py"
    done = run_python("-m", "pytest", "-p", "no:cacheprovider", str(tests), folder=tmp_path)
    assert "2 passed" in done.stdout
    assert list(tmp_path.iterdir()) == []
