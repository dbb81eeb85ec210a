"""`alembic upgrade head` takes a database along that somebody else's code has made."""

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import (
    CheckConstraint,
    Column,
    Engine,
    Index,
    NullPool,
    String,
    UniqueConstraint,
    create_engine,
    inspect,
    text,
)
from sqlalchemy.orm import Session, declarative_base

import main
from core import revisions
from tests.project import HEAD, Project
from tests.server import ROOT

# As lessons write it; each is run as it stands.
FASTAPI_TUTORIAL = """
class User(Base):
    __tablename__ = "user"
    id = Column(Integer, primary_key=True, index=True)
    name = Column(String, index=True)
    email = Column(String, unique=True, index=True)
    is_active = Column(Boolean, default=True)
    posts = relationship("Post", back_populates="author")

class Post(Base):
    __tablename__ = "post"
    id = Column(Integer, primary_key=True)
    title = Column(String)
    author_id = Column(Integer, ForeignKey("user.id"))
    author = relationship("User", back_populates="posts")
"""
NO_RULES = """
class User(Base):
    __tablename__ = "user"
    id = Column(Integer, primary_key=True)
    name = Column(String(50))
    email = Column(String(100))
"""
UNIQUE = """
class User(Base):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)
"""
MORE_COLUMNS = """
class Town(Base):
    __tablename__ = "town"
    id = Column(Integer, primary_key=True)
    name = Column(String, unique=True)

class User(Base):
    __tablename__ = "user"
    id = Column(Integer, primary_key=True, autoincrement=True)
    name = Column(Text, nullable=False)
    email = Column(Text, nullable=False, unique=True)
    phone = Column(String(20), unique=True)
    age = Column(Integer, CheckConstraint("age > 0"), index=True)
    town_id = Column(Integer, ForeignKey("town.id"))
    created_at = Column(DateTime, nullable=False, server_default=func.now())
    __table_args__ = (UniqueConstraint("name", "town_id", name="one_of_a_name_in_a_town"),)
"""
LESSONS = {
    "FastAPI's old tutorial": FASTAPI_TUTORIAL,
    "no rules": NO_RULES,
    "unique": UNIQUE,
    "more columns": MORE_COLUMNS,
    "our tutorial": (ROOT / "docs/steps/11/models.py").read_text().replace("from database", "# "),
}


def run_lesson(code: str, engine: Engine) -> dict[str, Any]:
    """Create the tables of a lesson as a lesson does; return its classes."""
    names: dict[str, Any] = {"Base": declarative_base()}
    exec("from sqlalchemy import *\nfrom sqlalchemy.orm import *\n" + code, names)
    names["Base"].metadata.create_all(engine)
    return names


def rows(engine: Engine, table: str) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        found = connection.execute(text(f'SELECT * FROM "{table}" ORDER BY id'))
        return [dict(row) for row in found.mappings()]


@pytest.fixture
def plain(project: Project) -> Engine:
    """Engine as a lesson makes it."""
    return create_engine(project.engine.url, poolclass=NullPool)


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_database_of_a_lesson(project: Project, plain: Engine, lesson: str) -> None:
    names = run_lesson(LESSONS[lesson], plain)
    user = names["User"]
    with Session(plain) as db:
        db.add_all([user(name="Ada", email="Ada@Example.com"), user(name="Éva", email="eva@x.de")])
        db.flush()
        db.add(user(id=7, name="Bob", email="bob@example.com"))  # an id of one's own choice
        if "Post" in names:
            db.add(names["Post"](title="Hello", author_id=7))
        db.commit()
    before = rows(plain, "user")
    assert "run alembic upgrade head" in project.start()

    project.alembic("upgrade", "head")
    assert project.start() == ""
    assert project.alembic("check") == "No new upgrade operations detected.\n"
    for row in before:
        row["email"] = row["email"].lower()
        row.setdefault("is_active", True)
    after = rows(project.engine, "user")
    assert [{**row, "is_active": bool(row["is_active"])} for row in after] == before

    client = TestClient(main.app)
    everybody = client.get("/users").json()
    assert [user["name"] for user in everybody] == ["Ada", "Éva", "Bob"]
    assert all(user["is_active"] for user in everybody)
    body = {"name": "Ada", "email": "ADA@example.com"}
    assert client.post("/user", json=body).status_code == 409
    assert client.post("/user", json=body | {"email": "x@x.de"}).json()["id"] in (8, 9)
    assert client.delete("/users/7").status_code == (409 if "Post" in names else 200)
    assert [user["name"] for user in client.get("/users?query=éva").json()] == ["Éva"]


def test_it_is_what_a_new_database_is(project: Project, plain: Engine) -> None:
    """In columns, rules and indexes; the rest of PostgreSQL's defaults may differ."""
    run_lesson(FASTAPI_TUTORIAL.split("    posts =")[0], plain)
    project.alembic("upgrade", "head")
    taken = project.tables()["user"]
    project.drop_all()
    assert project.start() == ""
    new = project.tables()["user"]
    for columns, *_ in (taken, new):
        for column in columns:
            column.pop("default")
            column.pop("autoincrement", None)
    assert taken == new


def test_what_belongs_to_other_columns_stays(project: Project, plain: Engine) -> None:
    names = run_lesson(MORE_COLUMNS, plain)
    with Session(plain) as db:
        db.add(names["Town"](id=1, name="London"))
        db.add(names["User"](name="Ada", email="ada@example.com", phone="1", age=36, town_id=1))
        db.commit()
    project.alembic("upgrade", "head")
    inspector = inspect(project.engine)
    assert "ix_user_age" in {index["name"] for index in inspector.get_indexes("user")}
    assert [key["referred_table"] for key in inspector.get_foreign_keys("user")] == ["town"]
    bad = ("'1', 2, 1", "'2', 0, 1", "'2', 2, 9")  # the phone is taken, no age, no such town
    for values in (*bad, "'3', 3, 1"):
        insert = (
            'INSERT INTO "user" (name, email, is_active, phone, age, town_id)'
            f" VALUES ('N', 'new@example.com', true, {values})"
        )
        if values in bad:
            with pytest.raises(Exception, match=r"(?i)constraint"):
                project.execute(insert)
        else:
            project.execute(insert)
    assert rows(project.engine, "user")[-1]["created_at"] is not None
    project.alembic("revision", "--autogenerate", "-m", "nothing")
    (path,) = (project.folder / "versions").glob("*nothing*")
    assert "drop" not in path.read_text()


WARE = """
def upgrade():
    op.create_table(
        "item", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("name", sa.String())
    )
    op.add_column("item", sa.Column("created_at", sa.DateTime()))
    op.rename_table("item", "ware")
    with op.batch_alter_table("ware") as batch_op:
        batch_op.add_column(sa.Column("phone", sa.String()))
        batch_op.add_column(sa.Column("age", sa.Integer()))
    with op.batch_alter_table("ware") as batch_op:
        batch_op.alter_column("age", new_column_name="town_id")
    with op.batch_alter_table("user") as batch_op:
        batch_op.add_column(sa.Column("note", sa.String()))
"""


def test_a_column_of_another_table_is_not_taken_for_ours(project: Project, plain: Engine) -> None:
    """Somebody's table has columns of the same names as those that a course has left here."""
    run_lesson(MORE_COLUMNS.replace('CheckConstraint("age > 0"), ', ""), plain)
    project.alembic("upgrade", "head")
    project.add_users("ada@example.com")
    path = project.add_migration("pass")
    path.write_text(path.read_text().partition("def upgrade")[0] + WARE)
    project.alembic("upgrade", "head")
    project.alembic("revision", "--autogenerate", "-m", "anything")
    (path,) = (project.folder / "versions").glob("*anything*")
    # Of the columns that are not in models.py, it may drop the one that a migration has made there.
    dropped = re.findall(r"drop_column\('(\w+)'\)", path.read_text())
    assert dropped == ["note"]
    project.alembic("upgrade", "head")
    (ada,) = rows(plain, "user")
    assert ada["created_at"] is not None
    assert {"phone", "age", "town_id"} <= ada.keys()
    # In a table of ours, too, what a migration has made there is found, under each name of it.
    assert revisions.columns()["ware"] == {"id", "name", "created_at", "phone", "age", "town_id"}


# A table as SQL makes it, and what has to be in it afterwards as well; on which database.
OTHERS = [
    ("type TEXT DEFAULT 'admin', active INTEGER, options TEXT", "'admin'", "both"),
    ('settings TEXT NOT NULL DEFAULT \'{"n":1,"dark":false}\'', '{"n":1,"dark":false}', "both"),
    ("m TEXT DEFAULT ':x' CHECK (m IN (':x', ':y'))", "(':x', ':y')", "sqlite"),
    ("up TEXT GENERATED ALWAYS AS (upper(name)) STORED", "upper(name)", "sqlite"),
    ("zip, who TEXT DEFAULT ('a' || 'b')", "('a' || 'b')", "sqlite"),
    ('boss INTEGER REFERENCES "user" (id) ON DELETE SET NULL', "ON DELETE SET NULL", "sqlite"),
    ("city TEXT COLLATE NOCASE UNIQUE ON CONFLICT REPLACE", "COLLATE NOCASE UNIQUE", "sqlite"),
    ("nick TEXT, is_active INTEGER NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1))", "nick", "both"),
    ("nick TEXT, -- a name, or so\n age INT /* in years, or less */", "age", "both"),
    ("nick TEXT, CHECK (length(name) > length(nick))", "length(nick)", "both"),
    ("\"Group\" TEXT DEFAULT 'a, b) c'", "a, b) c", "both"),
]


@pytest.mark.parametrize(
    ("url", "more", "stays"),
    [("sqlite", more, stays) for more, stays, _ in OTHERS]
    + [("postgresql", more, stays) for more, stays, where in OTHERS if where == "both"],
    indirect=["url"],
)
def test_what_somebody_else_has_written_stays_as_it_is(
    project: Project, more: str, stays: str
) -> None:
    sqlite = project.engine.name == "sqlite"
    key = "INTEGER PRIMARY KEY" if sqlite else "SERIAL PRIMARY KEY"
    email = "TEXT COLLATE NOCASE" if sqlite else "TEXT"
    table = f'CREATE TABLE "user" (id {key}, name TEXT NOT NULL, email {email} UNIQUE, {more})'
    with project.engine.begin() as connection:
        connection.exec_driver_sql(table)
        connection.exec_driver_sql("INSERT INTO \"user\" (name, email) VALUES ('Ada', 'A@x.de')")
        if "nick" in more:
            for index in (
                'UNIQUE INDEX nick_lower ON "user" (lower(nick))',
                'UNIQUE INDEX live ON "user" (name) WHERE nick IS NULL',
            ):
                connection.exec_driver_sql(f"CREATE {index}")
    before = rows(project.engine, "user")
    project.alembic("upgrade", "head")
    assert project.start() == ""
    assert project.alembic("check") == "No new upgrade operations detected.\n"
    after = rows(project.engine, "user")
    assert after == [before[0] | {"email": "a@x.de", "is_active": True}]
    if sqlite:
        with project.engine.connect() as connection:
            sql = "SELECT group_concat(sql) FROM sqlite_master WHERE tbl_name = 'user'"
            made = str(connection.exec_driver_sql(sql).scalar())
        assert stays in made
        assert ("nick_lower" in made and "live" in made) == ("nick" in more)
    body = {"name": "Bob", "email": "bob@example.com"}
    assert TestClient(main.app).post("/user", json=body).status_code == 200
    assert [row["name"] for row in rows(project.engine, "user")] == ["Ada", "Bob"]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_views_and_triggers_stay(project: Project, plain: Engine) -> None:
    run_lesson(MORE_COLUMNS, plain)
    trigger = 'AFTER INSERT ON "user" BEGIN INSERT INTO log (id) VALUES (NULL); END'
    project.execute(
        "CREATE TABLE log (id INTEGER PRIMARY KEY)",
        f"CREATE TRIGGER noted {trigger}",
        'CREATE VIEW people AS SELECT * FROM "user"',
    )
    project.alembic("upgrade", "head")
    project.add_users("ada@example.com")
    assert len(rows(plain, "log")) == 2
    assert len(rows(plain, "people")) == 1


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_what_a_column_of_ours_loses_is_said(project: Project) -> None:
    project.execute(
        "CREATE TABLE \"user\" (id INTEGER PRIMARY KEY, name TEXT DEFAULT ('a' || 'b'),"
        " email TEXT COLLATE NOCASE UNIQUE, is_active INTEGER DEFAULT 1)"
    )
    printed = project.alembic("upgrade", "head")
    assert re.findall("Left out: (.*)", printed) == [
        "DEFAULT ('a' || 'b') of user.name",
        "COLLATE NOCASE of user.email",
        "DEFAULT 1 of user.is_active",
    ]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_what_only_postgresql_has(project: Project) -> None:
    """A sequence of nobody's, an index that another table needs, a name that is taken."""
    project.execute(
        "CREATE SEQUENCE user_id_seq",
        "CREATE TABLE \"user\" (id INT PRIMARY KEY DEFAULT nextval('user_id_seq'), name TEXT,"
        " email TEXT, age INT)",
        'CREATE UNIQUE INDEX ix_user_email ON "user" (email)',
        'CREATE INDEX ix_user_name_id ON "user" (age)',
        'CREATE TABLE login (id INT PRIMARY KEY, email TEXT REFERENCES "user" (email)'
        " ON UPDATE CASCADE)",
        "INSERT INTO \"user\" (name, email) VALUES ('Ada', 'ADA@x.de')",
        "INSERT INTO login VALUES (1, 'ADA@x.de')",
    )
    project.alembic("upgrade", "head")
    assert project.alembic("check") == "No new upgrade operations detected.\n"
    assert rows(project.engine, "login") == [{"id": 1, "email": "ada@x.de"}]
    assert TestClient(main.app).get("/users?order_by=name").json()[0]["email"] == "ada@x.de"


EARLIER = {
    "4c1d7a90b2e3": ['CREATE UNIQUE INDEX uq_user_email_lower ON "user" (lower(email))'],
    "8e52f3c6d741": [
        'CREATE INDEX ix_user_name ON "user" (name)',
    ],
    "c05d1e7b8a42": ['CREATE INDEX ix_user_name_id ON "user" (name, id)'],
}


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("revision", EARLIER)
def test_earlier_versions_of_this_app(project: Project, revision: str, stamped: bool) -> None:
    sqlite = project.engine.name == "sqlite"
    key = "INTEGER NOT NULL" if sqlite else "BIGSERIAL NOT NULL"
    primary = "PRIMARY KEY AUTOINCREMENT" if sqlite else "CONSTRAINT pk_user PRIMARY KEY"
    rules = ""
    if revision != "4c1d7a90b2e3":
        rules = """,
            CONSTRAINT ck_user_email_lower CHECK (email = lower(email)),
            CONSTRAINT uq_user_email UNIQUE (email)"""
    table = f"""
        CREATE TABLE "user" (
            id {key} {primary}, name VARCHAR(100) NOT NULL, email VARCHAR(254) NOT NULL,
            is_active BOOLEAN NOT NULL,
            CONSTRAINT ck_user_name_length CHECK (length(name) BETWEEN 1 AND 100),
            CONSTRAINT ck_user_email_length CHECK (length(email) <= 254){rules}
        )"""
    project.execute(table, *EARLIER[revision])
    if stamped:
        project.execute(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
            f"INSERT INTO alembic_version VALUES ('{revision}')",
        )
    lower = revision != "4c1d7a90b2e3"
    project.add_users("ada@x.de" if lower else "Ada@x.de", "zoé@x.de" if lower else "ZOÉ@x.de")
    assert "run alembic upgrade head" in project.start()
    project.alembic("upgrade", "head")
    assert project.alembic("check") == "No new upgrade operations detected.\n"
    assert project.alembic("current") == f"{HEAD} (head)\n"
    assert project.emails() == [(1, "ada@x.de"), (2, "zoé@x.de" if lower else "zoÉ@x.de")]
    assert project.start() == ""
    # Number 3 has been somebody's; nobody gets it again. An É is not é any more, in an address.
    body = {"name": "Eve", "email": "ZOÉ@x.de" if lower else "eve@example.com"}
    assert TestClient(main.app).post("/user", json=body).json()["id"] == 4


def test_migrations_of_ones_own_after_ours(project: Project, plain: Engine) -> None:
    """What others have changed since an earlier version stays; only what is new is added."""
    user = project.metadata.tables["user"]
    for rule in [each for each in user.constraints if isinstance(each, CheckConstraint)]:
        if rule.name in ("ck_user_is_active", "ck_user_name_length"):
            user.constraints.remove(rule)
    length = CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length")
    user.append_constraint(length)
    user.c.name.type = String(200)
    user.append_constraint(UniqueConstraint("name", "is_active", name="uq_own"))
    user.append_column(Column("team", String(20), nullable=False))
    ours = set(user.indexes)
    user.indexes.clear()
    Index("ix_own", user.c.email, user.c.name)
    Index("ix_user_inactive_name", user.c.name, user.c.id)  # of an earlier version
    user.create(plain)
    project.alembic("stamp", "b7d2e0964f15")
    insert = f"INSERT INTO \"user\" VALUES (7, '{'x' * 150}', 'ada@x.de', true, 'a')"
    project.execute(insert)
    before = project.tables()["user"]
    project.alembic("upgrade", "head")
    columns, checks, uniques, indexes = project.tables()["user"]
    assert (columns, uniques) == (before[0], before[2])
    user.indexes.update(ours)
    user.indexes = {index for index in user.indexes if index.name != "ix_user_inactive_name"}
    expected = {str(index.name) for index in user.indexes}
    assert set(indexes) - {"ix_user_search", "uq_own", "uq_user_email"} == expected
    assert len(checks) == len(before[1]) + 1
    assert any("ck_user_is_active" in check for check in checks)
    assert project.alembic("check") == "No new upgrade operations detected.\n"
    assert rows(plain, "user")[0]["name"] == "x" * 150


PROBLEMS = [
    (
        ["INSERT INTO \"user\" (name, email) VALUES ('A', 'Ada@x.de'), ('B', 'ada@x.de')"],
        "users 1 (Ada@x.de) and 2 (ada@x.de) have the same email in lower case: change one of them",
    ),
    (
        ["INSERT INTO \"user\" (name, email) VALUES (NULL, 'a@x.de'), ('B', 'b@x.de')"],
        "user 1 has NULL for a name: change that, or delete them; nothing has changed",
    ),
    (["INSERT INTO \"user\" (name) VALUES ('A'), ('B')"], "users 1, 2 have NULL for an email"),
    (
        [f"INSERT INTO \"user\" (name, email) VALUES ('', '{i}@x.de')" for i in range(7)],
        "users 1, 2, 3, 4, 5 and others have a name that is empty, or longer than 100",
    ),
    (
        [f"INSERT INTO \"user\" (name, email) VALUES ('{'x' * 101}', 'a@x.de')"],
        "user 1 has a name that is empty, or longer than 100",
    ),
    (
        [f"INSERT INTO \"user\" (name, email) VALUES ('A', '{'x' * 255}')"],
        "user 1 has an email that is longer than 254",
    ),
    (
        [
            'ALTER TABLE "user" ADD is_active BOOLEAN',
            "INSERT INTO \"user\" (name, email) VALUES ('A', 'a@x.de')",
        ],
        "user 1 has NULL for is_active",
    ),
    (
        ["ALTER TABLE \"user\" ADD city VARCHAR NOT NULL DEFAULT ''", "DEFAULT"],
        "user.city needs a value, and this migration does not know it",
    ),
    (['ALTER TABLE "user" RENAME email TO mail'], "there is no user.email"),
]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("value", ["2", "'true'"])
def test_what_only_sqlite_stores(project: Project, plain: Engine, value: str) -> None:
    run_lesson(FASTAPI_TUTORIAL, plain)
    project.execute(f"INSERT INTO \"user\" VALUES (1, 'A', 'a@x.de', {value})")
    with pytest.raises(SystemExit, match="user 1 has an is_active that is neither 0 nor 1"):
        project.alembic("upgrade", "head")


@pytest.mark.parametrize(("statements", "complaint"), PROBLEMS)
def test_what_does_not_fit_changes_nothing(
    project: Project, plain: Engine, statements: list[str], complaint: str
) -> None:
    code = FASTAPI_TUTORIAL.split("    is_active")[0].replace("unique=True, ", "")
    run_lesson(code, plain)
    if statements[-1] == "DEFAULT":
        project.execute('DROP TABLE "user"')
        run_lesson(code + "    city = Column(String, nullable=False)\n", plain)
    else:
        project.execute(*statements)
    before = project.tables(), rows(plain, "user")
    with pytest.raises(SystemExit) as failed:
        project.alembic("upgrade", "head")
    assert complaint in str(failed.value)
    assert (project.tables(), rows(plain, "user")) == before
    assert "alembic_version" not in inspect(plain).get_table_names() or not project.alembic(
        "current"
    )
