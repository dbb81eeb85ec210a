"""Tables change without losing data."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import NullPool, create_engine, inspect, text

from database import Base, init_db
from migrations import TABLES, revisions
from tests.server import ROOT, Server, copy_app, run_python

FIRST, SECOND = "4c1d7a90b2e3", "8e52f3c6d741"
HEAD = ScriptDirectory(str(ROOT / "migrations")).get_current_head()
Alembic = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def alembic(url: str) -> Alembic:
    """Run `alembic` on an empty database."""

    def run(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=folder,
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


def execute(url: str, *statements: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


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


def test_a_new_database_is_up_to_date(alembic: Alembic, url: str) -> None:
    """Also if several processes start on it at the same time."""
    script = "from database import init_db; init_db()"

    def start(_: int) -> subprocess.CompletedProcess[str]:
        return run_python("-c", script, folder=ROOT, DATABASE_URL=url)

    with ThreadPoolExecutor() as pool:
        assert [done.stderr for done in pool.map(start, range(4))] == [""] * 4
    before = tables(url)
    assert alembic("current").stdout == f"{HEAD} (head)\n"
    assert alembic("upgrade", "head").stdout == ""
    assert alembic("check").stdout == "No new upgrade operations detected.\n"
    assert tables(url) == before


def test_a_database_that_create_all_has_made(alembic: Alembic, url: str) -> None:
    """As the lessons do it, and as this app did before there were migrations."""
    engine = create_engine(url, poolclass=NullPool)
    Base.metadata.create_all(engine, tables=TABLES)
    add_users(url, "ada@example.com")
    with Server(url) as server:
        assert len(server.client.get("/users").json()) == 1
    assert alembic("current").stdout == f"{HEAD} (head)\n"
    assert emails_in(url) == [(1, "ada@example.com")]


@pytest.mark.parametrize(
    ("statements", "complaint"),
    [
        (
            [f"UPDATE alembic_version SET version_num = '{FIRST}'"],
            "it is older than this code (not every migration has been run): run alembic upgrade",
        ),
        (
            ["UPDATE alembic_version SET version_num = 'abcdefabcdef'"],
            "it is newer than this code (abcdefabcdef): update the code",
        ),
        (
            ['ALTER TABLE "user" DROP COLUMN is_active'],
            "it is older than this code (no column user.is_active): run alembic revision"
            ' --autogenerate -m "say what has changed", read the file that it writes, then run'
            " alembic upgrade head",
        ),
        (
            ['DELETE FROM "user"', "ALTER TABLE \"user\" ADD city VARCHAR NOT NULL DEFAULT 'x'"],
            "",  # a column that the code does not know does no harm
        ),
        (
            ['ALTER TABLE "user" RENAME is_active TO active'],
            "it is older than this code (no column user.is_active, a value is needed for"
            " user.active, which the code does not know): run alembic revision",
        ),
        (
            ['ALTER TABLE "user" RENAME TO former'],
            "it is older than this code (no table user): run alembic revision",
        ),
        (
            ["DROP TABLE alembic_version", 'ALTER TABLE "user" DROP COLUMN is_active'],
            "it is older than this code (no column user.is_active): run alembic upgrade head",
        ),
    ],
)
def test_what_is_not_of_the_same_age_does_not_start(
    url: str, statements: list[str], complaint: str
) -> None:
    engine = create_engine(url, poolclass=NullPool)
    init_db(engine)
    execute(url, *statements)
    before = tables(url)
    for command in ("from database import init_db; init_db()", "import uvicorn; uvicorn.main()"):
        arguments = ["main:app", "--port=0"] if "uvicorn" in command else []
        if arguments and not complaint:
            continue  # it would go on and on
        done = run_python("-c", command, *arguments, folder=ROOT, DATABASE_URL=url)
        assert (done.returncode == 0) == (complaint == "")
        assert complaint in done.stderr
        assert done.stderr.count("Database error: cannot use ") == (complaint != "")
        assert "Traceback" not in done.stderr
    assert tables(url) == before


def test_there_and_back_with_data(alembic: Alembic, url: str) -> None:
    """Also if the app has created the first tables, before there were migrations."""
    run(alembic, "upgrade", FIRST)
    execute(url, "DROP TABLE alembic_version")
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
    run(alembic, "downgrade", FIRST)
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


def add_migration(folder: Path, upgrade: str) -> None:
    """Write a copy of the app with one migration more."""
    copy_app(folder)
    text = f"""
import sqlalchemy as sa
from alembic import op

revision = "aaaaaaaaaaaa"
down_revision = "{HEAD}"


def upgrade():
    {upgrade}
"""
    (folder / "migrations" / "versions" / "2026-12-01_more.py").write_text(text)


@pytest.mark.parametrize(
    ("last", "complaint"),
    [
        ('op.execute("SELECT nonsense")', "nonsense"),
        ("raise RuntimeError('half-way')", "half-way"),
        # Foreign keys are off while SQLite copies tables, and looked at afterwards.
        (
            """op.execute('DELETE FROM "user" WHERE id = 1')""",
            "own would refer to a row of user that is not there",
        ),
    ],
)
def test_half_a_migration_changes_nothing(
    alembic: Alembic, url: str, tmp_path: Path, last: str, complaint: str
) -> None:
    run(alembic, "upgrade", "head")
    add_users(url, "ada@example.com")
    reference = 'user_id BIGINT NOT NULL REFERENCES "user" (id)'
    execute(url, f"CREATE TABLE own ({reference})", "INSERT INTO own VALUES (1)")
    before = (tables(url), emails_in(url))
    phone = 'op.add_column("user", sa.Column("phone", sa.String()))'
    email = """op.execute("UPDATE \\"user\\" SET email = 'other@example.com'")"""
    batch = 'with op.batch_alter_table("user") as batch: batch.drop_index("ix_user_name")'
    steps = [phone, email, batch, last]
    add_migration(tmp_path / "app", "\n    ".join(steps))
    done = alembic("upgrade", "head", folder=tmp_path / "app")
    assert done.returncode != 0
    if "own would" not in complaint or url.startswith("sqlite"):
        assert complaint in done.stdout + done.stderr
    assert (tables(url), emails_in(url)) == before
    assert alembic("current").stdout == f"{HEAD} (head)\n"


def test_what_a_database_refuses_is_said_in_one_line(
    alembic: Alembic, url: str, tmp_path: Path
) -> None:
    run(alembic, "upgrade", "head")
    add_users(url, "ada@example.com")
    column = 'op.add_column("user", sa.Column("vip", sa.Boolean(), nullable=False))'
    add_migration(tmp_path / "app", column)
    done = alembic("upgrade", "head", folder=tmp_path / "app")
    assert done.returncode == 1
    assert done.stderr.startswith("Failed, nothing has changed: ")
    assert "ALTER TABLE" in done.stderr
    assert done.stderr.count("\n") == 1


def test_two_that_follow_the_same_one(alembic: Alembic, url: str, tmp_path: Path) -> None:
    """As when two people have each written one; the advice of the app works."""
    run(alembic, "upgrade", "head")
    folder = tmp_path / "app"
    add_migration(folder, "pass")
    first = folder / "migrations" / "versions" / "2026-12-01_more.py"
    (first.parent / "2026-12-02_more.py").write_text(first.read_text().replace("a" * 12, "b" * 12))
    command = "from database import init_db; init_db()"
    done = run_python("-c", command, folder=folder, DATABASE_URL=url, PYTHONPATH=str(folder))
    assert "run alembic merge heads -m merge, then alembic upgrade head" in done.stderr
    for arguments in (("merge", "heads", "-m", "merge"), ("upgrade", "head")):
        assert alembic(*arguments, folder=folder).returncode == 0
    done = run_python("-c", command, folder=folder, DATABASE_URL=url, PYTHONPATH=str(folder))
    assert done.stderr == ""
    first.unlink()
    done = run_python("-c", command, folder=folder, DATABASE_URL=url, PYTHONPATH=str(folder))
    assert "migrations/versions lacks aaaaaaaaaaaa, which others follow" in done.stderr


def test_what_autogenerate_writes_works(alembic: Alembic, url: str, tmp_path: Path) -> None:
    """An indexed column goes with its index; a second file does not replace the first."""
    folder = tmp_path / "app"
    copy_app(folder)
    models = folder / "models.py"
    before = models.read_text()
    city = "    city: Mapped[str | None] = mapped_column(String(50), index=True)\n"
    for code in (before.replace("\n    __table_args__", f"{city}\n    __table_args__"), before):
        models.write_text(code)
        arguments = ("revision", "--autogenerate", "-m", "say what has changed")
        for each in (("upgrade", "head"), arguments, ("upgrade", "head"), ("check",)):
            done = alembic(*each, folder=folder)
            assert (done.returncode, done.stderr) == (0, "")
    assert len(list((folder / "migrations" / "versions").glob("*say_what*"))) == 2
    for each in (("downgrade", "-1"), ("downgrade", "-1"), ("upgrade", "head")):
        assert alembic(*each, folder=folder).returncode == 0


def test_a_start_waits_for_a_migration(new_postgresql: str, tmp_path: Path) -> None:
    """Longer than a request waits for a lock."""
    engine = create_engine(new_postgresql, poolclass=NullPool)
    with engine.connect() as connection, ThreadPoolExecutor() as pool:
        connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
        command = "from database import init_db; init_db()"
        starting = pool.submit(
            run_python, "-c", command, folder=tmp_path, DATABASE_URL=new_postgresql
        )
        time.sleep(6.5)
        assert not starting.done()
        connection.rollback()
        assert starting.result().stderr == ""


def test_a_migration_may_take_its_time(new_postgresql: str, tmp_path: Path) -> None:
    """The limits are for requests."""
    impatient = new_postgresql.replace("options=", "options=-cstatement_timeout%3D500+")
    add_migration(tmp_path / "app", 'op.execute("SELECT pg_sleep(1)")')
    arguments = ("-m", "alembic", "upgrade", "head")
    done = run_python(*arguments, folder=tmp_path / "app", DATABASE_URL=impatient)
    assert (done.returncode, done.stderr) == (0, "")


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


def test_the_revisions_of_the_code() -> None:
    """The start tells them without Alembic, which takes its time to load."""
    script = ScriptDirectory(str(ROOT / "migrations"))
    known = {migration.revision for migration in script.walk_revisions()}
    assert revisions() == (known, set(script.get_heads()))
    assert {FIRST, SECOND} <= known


def test_files_are_named_by_date_and_subject() -> None:
    """And by the revision: two of a day and a subject are two files."""
    names = [path.name for path in Path(ROOT / "migrations" / "versions").glob("*.py")]
    assert f"2026-11-01_users_{FIRST}.py" in names
    for name in names:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d_[a-z0-9_]+_[0-9a-f]{12}\.py", name)
