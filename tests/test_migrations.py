"""Tables change without losing data."""

import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from alembic.script import ScriptDirectory
from fastapi.testclient import TestClient
from sqlalchemy import (
    CheckConstraint,
    Column,
    Engine,
    ForeignKey,
    Integer,
    String,
    Table,
    UniqueConstraint,
    inspect,
    make_url,
    text,
)

import core.startup
import core.tables
import database
import main
import models
from core import postgresql, revisions
from core.engines import new_engine, read_engine
from core.fts import has_fts_index
from core.postgresql import set_patience
from core.revisions import OutdatedError
from tests.processes import needs, run_python
from tests.project import HEAD, MEND, TAKEOVER, Project
from tests.server import ROOT
from tests.users import ADA, BOB

FIRST, SECOND = "4c1d7a90b2e3", "8e52f3c6d741"


def complaints(printed: str) -> str:
    """Return what was printed, but for what a PostgreSQL lacks that has no extensions."""
    return re.sub("Searches will look at every row, without pg_trgm: .*\n", "", printed)


def test_from_nothing_to_the_models(project: Project) -> None:
    project.alembic("upgrade", "head")
    assert "No new upgrade operations detected." in project.alembic("check")
    migrated = project.tables()
    project.drop_all()
    assert project.start() == ""
    assert project.tables() == migrated


def test_a_new_database_is_up_to_date(project: Project) -> None:
    assert project.start() == ""
    before = project.tables()
    assert project.alembic("current") == f"{HEAD} (head)\n"
    assert project.alembic("upgrade", "head") == ""
    assert project.alembic("check") == "No new upgrade operations detected.\n"
    assert project.tables() == before


def run_script(project: Project, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a DBA does: with psql -f, or sqlite3 and a file."""
    url = project.engine.url
    if project.engine.name == "sqlite":
        shell = ["sqlite3", str(url.database)]
    else:
        address = url.set(drivername="postgresql").render_as_string(hide_password=False)
        shell = ["psql", "--no-psqlrc", address]
    needs(shutil.which(shell[0]), f"{shell[0]}: apt-get install sqlite3 postgresql-client")
    path = project.folder / "script.sql"
    path.write_text(script)
    with path.open() as file:
        return subprocess.run(shell, stdin=file, capture_output=True, text=True)


def test_a_script_for_a_dba(project: Project) -> None:
    """What `alembic upgrade X:head --sql` prints is one transaction, which stops at an error."""
    project.start()
    column = Column("phone", String(30), index=True)
    project.metadata.tables["user"].append_column(column)
    project.alembic("revision", "--autogenerate", "-m", "phone")
    script = project.alembic("upgrade", f"{HEAD}:head", "--sql")
    before = project.tables()
    broken = script.replace("CREATE INDEX", "SELECT nonsense;\nCREATE INDEX")
    assert broken != script
    done = run_script(project, broken)
    assert done.returncode != 0
    assert "nonsense" in done.stderr
    assert project.tables() == before
    assert project.alembic("current") == f"{HEAD}\n"
    done = run_script(project, script)
    assert (done.returncode, done.stderr) == (0, "")
    assert project.start() == ""
    assert "No new upgrade operations detected." in project.alembic("check")
    assert run_script(project, script).returncode != 0  # a second time
    assert project.start() == ""


def test_a_script_of_what_looks_at_the_data(project: Project) -> None:
    with pytest.raises(SystemExit) as failed:
        project.alembic("upgrade", "head", "--sql")
    assert str(failed.value).startswith(f"Failed: {TAKEOVER} looks at the data, and so there is no")


def test_several_start_at_the_same_time(project: Project, url: str) -> None:
    """As tests/live/test_processes.py shows for processes, which share no lock of Python's."""

    def start() -> None:
        engine = new_engine(url)
        with engine.begin() as connection:
            core.tables.create(connection, project.metadata, models)
        engine.dispose()

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(start) for _ in range(4)]:
            done.result()
    assert project.start() == ""


def test_a_server_says_so_too(
    project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(core.startup, "leave_out_next", id)  # there is no server to say it
    statements, complaint = AGES[2]
    project.start()
    project.execute(*statements)
    with pytest.raises(RuntimeError, match="cannot be used"), TestClient(main.app):
        pass
    assert complaint in caplog.text


def test_a_database_that_create_all_has_made(project: Project) -> None:
    """As the lessons do it, and as this app did before there were migrations."""
    project.metadata.create_all(project.engine)
    project.add_users("ada@example.com")
    assert project.start() == ""
    assert project.alembic("current") == f"{HEAD} (head)\n"
    assert TestClient(main.app).get("/users/1").json()["email"] == "ada@example.com"


@pytest.mark.parametrize(
    "rule",
    ["ck_user_email_lower", "ck_user_name_length", "uq_user_email", "ix_user_name_id"],
    ids=str,
)
def test_a_database_that_lacks_a_rule_is_not_stamped(project: Project, rule: str) -> None:
    """It has all columns, but not what the code relies on; a migration has to add it."""
    table = project.metadata.tables["user"]
    for rules in (table.constraints, table.indexes):
        rules.difference_update([each for each in rules if each.name == rule])
    project.metadata.create_all(project.engine)
    complaint = "it is older than this code (not every migration has been run): run alembic upgrade"
    assert complaint in project.start()
    assert "alembic_version" not in inspect(project.engine).get_table_names()


WITHOUT_IS_ACTIVE = [
    'CREATE TABLE copy AS SELECT id, name, email FROM "user"',
    'DROP TABLE "user"',
    'ALTER TABLE copy RENAME TO "user"',
]
AGES = [
    (
        [f"UPDATE alembic_version SET version_num = '{FIRST}'"],
        "it is older than this code (not every migration has been run): run alembic upgrade",
    ),
    (
        ["UPDATE alembic_version SET version_num = 'abcdefabcdef'", *WITHOUT_IS_ACTIVE],
        "it is newer than this code (no column user.is_active): update the code",
    ),
    (
        WITHOUT_IS_ACTIVE,
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
        ["DROP TABLE alembic_version", *WITHOUT_IS_ACTIVE],
        "it is older than this code (no column user.is_active): run alembic upgrade head",
    ),
]


@pytest.mark.parametrize(("statements", "complaint"), AGES)
def test_what_is_not_of_the_same_age_does_not_start(
    project: Project, statements: list[str], complaint: str
) -> None:
    project.start()
    project.execute(*statements)
    before = project.tables()
    said = project.start()
    assert complaint in said
    assert said.count("Database error: cannot use ") == (complaint != "")
    assert project.tables() == before


def test_the_code_of_before_a_migration(
    project: Project, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Put back on a database that has only gained something, it works, and loses nothing of it."""
    project.start()
    project.add_users("ada@example.com")
    path = project.add_migration(
        'op.add_column("user", sa.Column("phone", sa.String(30)))',
        'op.create_index("ix_user_phone", "user", ["phone"])',
        'op.create_table("later", sa.Column("id", sa.Integer(), primary_key=True))',
        'op.execute("UPDATE \\"user\\" SET phone = \'1\'")',
    )
    project.alembic("upgrade", "head")
    path.unlink()
    before = project.tables()
    caplog.clear()
    assert project.start() == ""
    assert "The database is newer than this code (aaaaaaaaaaaa), and goes with it" in caplog.text
    # What compose.yaml runs before the app.
    assert project.alembic("upgrade", "head") == ""
    assert project.tables() == before
    client = TestClient(main.app)
    assert client.put("/users/1", json=ADA).status_code == 200
    assert client.post("/users", json=BOB).status_code == 201
    assert [user["name"] for user in client.get("/users").json()] == ["Ada", "Bob"]
    with project.engine.connect() as connection:
        phones = text('SELECT phone FROM "user" ORDER BY id')
        assert list(connection.scalars(phones)) == ["1", None]
    project.execute('DROP INDEX "ix_user_phone"')
    project.execute('ALTER TABLE "user" RENAME name TO full_name')
    complaint = "it is newer than this code (no column user.name, a value is needed for"
    assert complaint in project.start()
    with pytest.raises(SystemExit, match=re.escape(complaint)):
        project.alembic("upgrade", "head")


COURSE = """
    CREATE TABLE "user" (
        id {key} PRIMARY KEY, name VARCHAR, email VARCHAR, is_active BOOLEAN DEFAULT true
    )
"""


@pytest.mark.parametrize("own_migrations", [False, True])
def test_a_dump_that_somebody_has_restored(project: Project, own_migrations: bool) -> None:
    """It brings its table, and alembic_version still says that all migrations have been run."""
    project.start()
    if own_migrations:
        project.add_migration('op.add_column("user", sa.Column("phone", sa.String(30)))')
        project.alembic("upgrade", "head")
    key = "INTEGER" if project.engine.name == "sqlite" else "SERIAL"
    insert = "INSERT INTO \"user\" (name, email) VALUES ('Ada', 'Ada@example.com')"
    project.execute('DROP TABLE "user"', COURSE.format(key=key), insert)
    said = project.start()
    for rule in ("user.email may be NULL", "no uq_user_email", "no ck_user_email_lower"):
        assert rule in said
    mend = said.rpartition(": run ")[2]
    more = f"alembic stamp base, then alembic upgrade {TAKEOVER}, then alembic stamp heads"
    assert mend == (more if own_migrations else MEND)
    for command in mend.split(", then "):
        project.alembic(*command.split()[1:])
    project.add_references("user")
    assert project.start() == ""
    assert project.emails() == [(1, "ada@example.com")]
    assert TestClient(main.app).post("/users", json=ADA).status_code == 409


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("dropped", "missing"),
    [
        ("DROP CONSTRAINT uq_user_email", "no uq_user_email"),
        ("DROP CONSTRAINT ck_user_name_length", "no ck_user_name_length"),
        ("ALTER name DROP NOT NULL", "user.name may be NULL"),
        (
            "DROP CONSTRAINT ck_user_name_length, ADD CONSTRAINT ck_user_name_length"
            " CHECK (length(name) BETWEEN 1 AND 100) NOT ENFORCED",
            "no ck_user_name_length",
        ),
    ],
)
def test_a_rule_that_somebody_has_dropped(project: Project, dropped: str, missing: str) -> None:
    project.start()
    project.execute(f'ALTER TABLE "user" {dropped}')
    assert f"it is older than this code ({missing}): run {MEND}" in project.start()


def test_a_rule_of_ones_own_in_our_table(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """No migration of ours would make it, so the start asks for a new one; which works."""
    project.start()
    user = project.metadata.tables["user"]
    user.append_constraint(UniqueConstraint("name", name="uq_user_name"))
    monkeypatch.setattr(models, "own", user, raising=False)
    said = project.start()
    assert "(no uq_user_name): run alembic revision --autogenerate" in said
    project.alembic("revision", "--autogenerate", "-m", "own")
    project.alembic("upgrade", "head")
    assert project.start() == ""


def test_a_rule_of_a_table_of_ones_own(project: Project) -> None:
    """By another name it is the same; without it, the start asks for a migration."""
    user = project.metadata.tables["user"]
    own = Table(
        "own",
        project.metadata,
        Column("id", Integer, primary_key=True),
        Column("user_id", ForeignKey(user.c.id)),
        Column("sku", String(20), unique=True),
        CheckConstraint("length(sku) > 1", name="sku_length"),
    )
    project.metadata.create_all(project.engine)
    project.alembic("stamp", "head")
    models.__dict__["own"] = own
    try:
        assert project.start() == ""
        unique = "CONSTRAINT other UNIQUE (sku)"
        columns = f'id INTEGER PRIMARY KEY, user_id BIGINT REFERENCES "user", sku VARCHAR, {unique}'
        rule = "CONSTRAINT ck_own_sku_length CHECK (length(sku) > 1)"
        project.execute("DROP TABLE own", f"CREATE TABLE own ({columns}, {rule})")
        assert project.start() == ""
        columns = columns.replace('REFERENCES "user"', "").replace(f", {unique}", "")
        project.execute("DROP TABLE own", f"CREATE TABLE own ({columns})")
        said = project.start()
        assert "run alembic revision --autogenerate" in said
        for rule in ("uq_own_sku", "ck_own_sku_length", "fk_own_user_id_user"):
            assert f"no {rule}" in said
    finally:
        del models.__dict__["own"]


def test_there_and_back_with_data(project: Project) -> None:
    project.alembic("upgrade", "head")
    project.add_users("ada@example.com", "bob@example.com")
    reference = 'REFERENCES "user" (id) ON DELETE CASCADE'
    project.execute(
        f"CREATE TABLE own (user_id BIGINT NOT NULL {reference})", "INSERT INTO own VALUES (1)"
    )
    before = (project.tables(), project.emails())
    steps = 'with op.batch_alter_table("user") as batch: batch.'
    upgrade = f'{steps}alter_column("name", type_=sa.String(90))'
    back = f'\n\ndef downgrade():\n    {steps}alter_column("name", type_=sa.String(100))\n'
    path = project.add_migration(upgrade)
    path.write_text(path.read_text() + back)
    project.alembic("upgrade", "head")
    assert project.tables() != before[0]
    project.alembic("downgrade", "-1")
    path.unlink()
    assert (project.tables(), project.emails()) == before
    # Number 3 has been somebody's; nobody gets it again.
    body = {"name": "Eve", "email": "eve@example.com"}
    assert TestClient(main.app).post("/user", json=body).json()["id"] == 4
    # SQLite copied the table, dropped the old one, and has not deleted what refers to it.
    with project.engine.begin() as connection:
        assert connection.execute(text("SELECT user_id FROM own")).fetchall() == [(1,)]
        connection.execute(text('DELETE FROM "user"'))
        assert connection.execute(text("SELECT user_id FROM own")).fetchall() == []


def test_migrations_of_ones_own_beside_a_new_one_of_ours(project: Project) -> None:
    """They followed our newest of then; merged, they also make a new database."""
    own = project.add_migration(
        'op.add_column("user", sa.Column("phone", sa.String(30)))',
        'op.create_index("ix_own", "user", ["phone"])',
    )
    own.write_text(own.read_text().replace(f'"{HEAD}"', '"c05d1e7b8a42"'))
    project.alembic("merge", "heads", "-m", "merge")
    project.alembic("upgrade", "head")
    assert "ix_own" in project.tables()["user"][3]
    assert project.start() == ""


def test_an_index_of_fts5(project: Project) -> None:
    """Proposed as soon as the table wants one; a copy of the table keeps it."""
    project.start()
    project.add_users("ada@example.com")
    core.tables.searched_by_fts[project.metadata.tables["user"]] = ("name", "email")
    with pytest.raises(SystemExit, match=r"\('create_fts_index', 'user', 'name', 'email'\)"):
        project.alembic("check")
    project.alembic("revision", "--autogenerate", "-m", "fts", "--rev-id", "f" * 12)
    (written,) = (project.folder / "versions").glob("*_fts_*.py")
    assert "op.create_fts_index('user', 'name', 'email')" in written.read_text()
    assert "op.drop_fts_index('user', 'name', 'email')" in written.read_text()
    script = project.alembic("upgrade", f"{HEAD}:head", "--sql")
    project.alembic("upgrade", "head")
    assert "No new upgrade operations detected." in project.alembic("check")
    assert project.start() == ""
    copy = 'with op.batch_alter_table("user") as batch_op:'
    path = project.add_migration(f'{copy}\n        batch_op.alter_column("name", nullable=False)')
    code = path.read_text().replace(f'"{HEAD}"', f'"{"f" * 12}"')
    path.write_text(f"{code}\n\ndef downgrade():\n    pass\n")
    project.alembic("upgrade", "head")
    on_sqlite = project.engine.name == "sqlite"
    assert ("CREATE VIRTUAL TABLE" in script) == on_sqlite
    with project.engine.begin() as connection:
        if on_sqlite:
            assert has_fts_index(connection, "user")
            asked = "SELECT rowid FROM ix_user_search WHERE ix_user_search MATCH 'ADA'"
            assert connection.scalars(text(asked)).all() == [1]
    project.alembic("downgrade", str(HEAD))
    with project.engine.begin() as connection:
        assert not (on_sqlite and has_fts_index(connection, "user"))
    project.add_users("bob@example.com")  # no trigger is left


def test_what_cannot_be_taken_back(project: Project) -> None:
    project.alembic("upgrade", "head")
    before = project.tables()
    with pytest.raises(SystemExit, match="restore a copy of the database"):
        project.alembic("downgrade", "base")
    assert project.tables() == before


@pytest.mark.parametrize(
    ("last", "failure", "complaint"),
    [
        ('op.execute("SELECT nonsense")', SystemExit, "nonsense"),
        ("raise RuntimeError('half-way')", RuntimeError, "half-way"),
        # Foreign keys are off while SQLite copies tables, and looked at afterwards.
        (
            """op.execute('DELETE FROM "user" WHERE id = 1')""",
            SystemExit,
            "own would refer to a row of user that is not there|violates foreign key constraint",
        ),
    ],
)
def test_half_a_migration_changes_nothing(
    project: Project, last: str, failure: type[BaseException], complaint: str
) -> None:
    project.start()
    project.add_users("ada@example.com")
    reference = 'user_id BIGINT NOT NULL REFERENCES "user" (id)'
    project.execute(f"CREATE TABLE own ({reference})", "INSERT INTO own VALUES (1)")
    before = (project.tables(), project.emails())
    phone = 'op.add_column("user", sa.Column("phone", sa.String()))'
    email = """op.execute("UPDATE \\"user\\" SET email = 'other@example.com'")"""
    batch = 'with op.batch_alter_table("user") as batch: batch.drop_index("ix_user_name_id")'
    project.add_migration(phone, email, batch, last)
    with pytest.raises(failure, match=complaint):
        project.alembic("upgrade", "head")
    assert (project.tables(), project.emails()) == before
    assert project.alembic("current") == f"{HEAD}\n"


def test_what_a_database_refuses_is_said_in_one_line(project: Project) -> None:
    project.start()
    project.add_users("ada@example.com")
    project.add_migration('op.add_column("user", sa.Column("vip", sa.Boolean(), nullable=False))')
    with pytest.raises(SystemExit) as failed:
        project.alembic("upgrade", "head")
    said = str(failed.value)
    assert said.startswith("Failed, nothing has changed: ")
    assert "ALTER TABLE" in said
    assert "\n" not in said


def test_two_that_follow_the_same_one(project: Project) -> None:
    """As when two people have each written one; the advice of the app works."""
    project.start()
    first = project.add_migration("pass")
    project.add_migration("pass", name="b" * 12)
    assert "run alembic merge heads -m merge, then alembic upgrade head" in project.start()
    project.alembic("merge", "heads", "-m", "merge")
    project.alembic("upgrade", "head")
    assert project.start() == ""
    first.unlink()
    assert "migrations/versions lacks aaaaaaaaaaaa, which others follow" in project.start()


def test_what_autogenerate_writes_works(project: Project) -> None:
    """An indexed column goes with its index; a second file does not replace the first."""
    project.start()
    table = project.metadata.tables["user"]
    write = ("revision", "--autogenerate", "-m", "say what has changed")
    table.append_column(Column("city", String(50), index=True))
    assert "no column user.city" in project.start()
    project.alembic(*write)
    project.alembic("upgrade", "head")
    project.alembic("check")
    assert project.start() == ""
    table._columns.remove(table.c.city)  # as if the line had been taken out of models.py
    (index,) = (index for index in table.indexes if index.name == "ix_user_city")
    table.indexes.remove(index)
    project.alembic(*write)
    project.alembic("upgrade", "head")
    project.alembic("check")
    assert len(list((project.folder / "versions").glob("*say_what*"))) == 2
    for each in (("downgrade", "-1"), ("downgrade", "-1"), ("upgrade", "head")):
        project.alembic(*each)


def test_an_index_without_rows_has_none_anywhere(project: Project) -> None:
    """Also where a migration makes it that has been written on another database."""
    project.start()

    def conditions() -> list[str]:
        indexes = inspect(project.engine).get_indexes("user")
        (options,) = (each["dialect_options"] for each in indexes if each["name"] == "ix_user_none")
        return [str(value).strip("()") for name, value in options.items() if "where" in name]

    assert conditions() == ["id IS NULL"]
    project.execute("DROP INDEX ix_user_none")
    project.alembic("revision", "--autogenerate", "-m", "index")
    (written,) = (project.folder / "versions").glob("*_index_*.py")
    for name in ("sqlite", "postgresql"):
        assert f"{name}_where=sa.text('id IS NULL')" in written.read_text()
    project.alembic("upgrade", "head")
    assert conditions() == ["id IS NULL"]


def impatient(url: str) -> Engine:
    """Return an engine that waits no longer than 100 ms, for a lock or for a statement."""
    options = f"{make_url(url).query['options']} -clock_timeout=100 -cstatement_timeout=100"
    return new_engine(make_url(url).update_query_dict({"options": options}))


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_role_that_may_not_number_rows(project: Project) -> None:
    """The start says which right is missing; with those of docs/migrations.md, all calls work."""
    project.start()
    page = (ROOT / "docs" / "migrations.md").read_text()
    grants = re.findall(r"^GRANT .*;$", page, re.MULTILINE)
    assert len(grants) == 3
    schema = str(project.engine.url.query["options"]).partition("=")[2]
    role = f"role_{uuid4().hex}"
    project.execute(f"CREATE ROLE {role} LOGIN", f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    project.execute(*(each.replace("TO app", f"TO {role}") for each in grants))
    project.execute(f"REVOKE ALL ON SEQUENCE user_id_seq FROM {role}")
    engine = new_engine(project.engine.url.set(username=role))
    with pytest.raises(OutdatedError, match="this role may write to user, but not number") as error:
        database.create_tables(engine)
    project.execute(str(error.value).rpartition(": ")[2])
    database.create_tables(engine)
    database.SessionLocal.configure(bind=engine)
    client = TestClient(main.app)
    assert client.post("/users", json=ADA).status_code == 201
    assert client.patch("/users/1", json=BOB).status_code == 200
    assert client.delete("/users/1").status_code == 200
    read_engine(engine).dispose()
    engine.dispose()
    project.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_start_waits_for_a_migration(
    project: Project, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a request waits for a lock, and for an answer."""
    monkeypatch.setattr(postgresql, "GRACE", 0.1)
    engine = impatient(url)
    with project.engine.connect() as connection, ThreadPoolExecutor() as pool:
        connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
        starting = pool.submit(database.create_tables, engine)
        time.sleep(0.5)
        assert not starting.done()
        connection.rollback()
        assert starting.result() is None
    # Afterwards, the limits are what they were.
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW lock_timeout")) == "100ms"
        assert set_patience(connection, None) == 0.2
    engine.dispose()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_migration_that_waits_in_vain_for_another_says_so(
    project: Project, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.tables, "MAX_MIGRATION", 0.2)
    other = impatient(url)
    with other.connect() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
        with pytest.raises(SystemExit, match="somebody else is changing the tables"):
            project.alembic("upgrade", "head")
    other.dispose()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_migration_may_take_its_time(
    project: Project, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limits are for requests."""
    monkeypatch.setattr(postgresql, "GRACE", 0.1)
    monkeypatch.setattr(database, "engine", impatient(url))
    project.add_migration('op.execute("SELECT pg_sleep(0.5)")')
    project.alembic("upgrade", "head")


def test_the_revisions_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read without Alembic, which takes its time to load; in each way to write them."""
    versions = tmp_path / "versions"
    shutil.copytree(ROOT / "migrations" / "versions", versions)
    monkeypatch.setattr(revisions, "MIGRATIONS", tmp_path)
    before = f'down_revision: str | None = (\n    "{HEAD}"\n)\nbranch_labels = None\n'
    for name in ("a" * 12, "b" * 12):
        (versions / f"{name}.py").write_text(
            f'"""After {HEAD}."""\nrevision: str = "{name}"\n{before}'
        )
    merge = f'revision = "{"c" * 12}"\ndown_revision = (\n    "{"a" * 12}",\n    "{"b" * 12}",\n)\n'
    (versions / "merge.py").write_text(merge)
    script = ScriptDirectory(str(tmp_path))
    assert revisions.followed() == {
        migration.revision: set(migration._all_down_revisions)
        for migration in script.walk_revisions()
    }
    assert {FIRST, SECOND, "c" * 12} <= revisions.followed().keys()


def test_the_last_revision_tells_which_searches_have_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they follow each other, and not as their files are named."""
    (tmp_path / "versions").mkdir()
    monkeypatch.setattr(revisions, "MIGRATIONS", tmp_path)
    create, drop = 'op.create_fts_index("note", "title")', 'op.drop_fts_index("note", "title")'
    before = None
    for number, (name, what) in enumerate([("d", create), ("b", drop), ("c", create), ("a", drop)]):
        (tmp_path / "versions" / f"{name}.py").write_text(
            f"revision = {str(number)!r}\ndown_revision = {before!r}\n\n\n"
            f"def upgrade():\n    {what}\n"
        )
        before = str(number)
        assert revisions.searches("fts") == ({"note": ("title",)} if what == create else {})


def test_a_start_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """No Alembic, and on SQLite nothing of PostgreSQL."""
    modules = {"alembic", "psycopg", "sqlalchemy.dialects.postgresql"}
    loaded = f"print({modules} & {{*sys.modules}})"
    script = f"import sys, main; main.database.init_db(); {loaded}"
    for _ in ("on a new database", "and again"):
        assert run_python("-c", script, folder=tmp_path).stdout == "set()\n"


def test_files_are_named_by_date_and_subject() -> None:
    """And by the revision: two of a day and a subject are two files."""
    names = [path.name for path in Path(ROOT / "migrations" / "versions").glob("*.py")]
    assert f"2026-11-01_users_{FIRST}.py" in names
    for name in names:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d_[a-z0-9_]+_[0-9a-f]{12}\.py", name)
