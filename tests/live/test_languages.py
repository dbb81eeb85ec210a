"""The app in databases of many languages: the same calls have the answers that SQLite gives.

Where a search of PostgreSQL finds something else, that is named here.
"""

# ruff: noqa: RUF001, RUF003

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, make_url
from sqlalchemy.exc import IntegrityError

import database
import main
from core.engines import new_engine, read_engine
from core.searches import COLLATIONS, language_of
from tests.languages import EMAILS, NAMES, SEARCHES
from tests.processes import copy_app, debian_postgresql, npm_postgresql, run_python
from tests.server import ROOT

LIBC = ("tr_TR.UTF-8", "az_AZ.UTF-8", "lt_LT.UTF-8", "fr_FR.UTF-8", "fr_FR.ISO-8859-1")
ICU = "LOCALE_PROVIDER icu ICU_LOCALE"
BUILTIN = "LOCALE_PROVIDER builtin BUILTIN_LOCALE"
BOTH = [
    *("LOCALE 'C'", "LOCALE 'C.UTF-8'", *(f"LOCALE '{name}'" for name in LIBC[:4])),
    *(f"{ICU} 'und' LOCALE 'C.UTF-8'", f"{ICU} 'und' LOCALE 'C'", f"{ICU} 'lt' LOCALE 'C.UTF-8'"),
    f"{ICU} 'el' LOCALE 'C.UTF-8'",
    f"{ICU} 'tr' LOCALE 'tr_TR.UTF-8'",
]
LANGUAGES = [("debian", each) for each in BOTH] + [
    ("npm", each)
    for each in (
        *BOTH,
        f"{BUILTIN} 'C' LOCALE 'C'",
        f"{BUILTIN} 'C.UTF-8' LOCALE 'C.UTF-8'",
        f"{BUILTIN} 'PG_UNICODE_FAST' LOCALE 'C.UTF-8'",
        f"{BUILTIN} 'PG_UNICODE_FAST' LOCALE 'C'",
    )
]

# What another kind of PostgreSQL finds, or does not find. In each: ı has the capital I and ſ has S,
# but LIKE of SQLite, for texts in ASCII, knows ASCII only.
IN_EACH = {"INFO", "info", "IRMAK", "stephen"}
# The capitals of ß and of ﬁ are two letters, which only ICU and PG_UNICODE_FAST know.
TWO_LETTERS = {"straße", "STRASSE", "strasse", "ß", "finn"}
# In Lithuanian, a small i keeps its dot below an accent, and a capital one has none.
LITHUANIAN = {"į̇́"}
# Capitals that are younger than the ICU of npm's PostgreSQL; and than this Python.
GEORGIAN = {"გიორგი", "ᲒᲘᲝ"}
NEW = {"\u1c8a"} if "\u1c8a".upper() == "\u1c8a" else set()


def exceptions(server: str, language: str, kind: str) -> set[str]:
    found = set(IN_EACH)
    own = kind == "upper"
    if kind == "upper_icu" or (own and ("icu" in language or "FAST" in language)):
        found |= TWO_LETTERS
    if kind == "upper_builtin" or (own and "builtin" in language):
        found |= NEW
    if own and "'lt'" in language:
        found |= LITHUANIAN
    if own and "icu" in language and server == "npm":
        found |= GEORGIAN
    return found


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    with debian_postgresql(*LIBC) as debian, npm_postgresql(*LIBC) as npm:
        yield {"debian": debian, "npm": npm}


@contextmanager
def database_of(server: str, language: str) -> Iterator[str]:
    """Create a database; yield its URL."""
    name = f"test_{uuid4().hex}"
    encoding = "" if "ENCODING" in language else "ENCODING 'UTF8'"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 {encoding} {language}")
        yield make_url(server).set(database=name).render_as_string()
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def app_on(url: str, options: str = "") -> Iterator[tuple[TestClient, Engine]]:
    """Let the app use a database, of which connections have these `options`."""
    query = {"options": options} if options else {}
    engine = new_engine(make_url(url).update_query_dict(query).render_as_string())
    database.init_db(engine)
    database.SessionLocal.configure(bind=engine)
    yield TestClient(main.app), engine
    database.SessionLocal.configure(bind=database.engine)
    read_engine(engine).dispose()
    engine.dispose()


def sent(client: TestClient) -> list[tuple[int, str]]:
    """Send all emails, and then all names; return what became of the emails."""
    answers = [client.post("/user", json={"name": "N", "email": email}) for email in EMAILS]
    bodies = [{"name": name, "email": f"{i}@0.de"} for i, name in enumerate(NAMES)]
    assert client.post("/users/bulk", json=bodies).status_code == 201
    return [(answer.status_code, answer.json().get("email", "")) for answer in answers]


def found(client: TestClient) -> dict[str, set[str]]:
    """Return whom each search finds."""
    answers = {
        query: client.get("/users", params={"query": query, "page_size": 1000})
        for query in SEARCHES
    }
    return {
        query: {f"{user['name']} {user['email']}" for user in answer.json()}
        for query, answer in answers.items()
    }


def check_walks(client: TestClient, users: int) -> None:
    """Walk through all users, in each order, with each filter: each is there once."""
    for order in ("id", "-id", "name", "-name", "email", "-email"):
        for active in ("", "true", "false"):
            path = f"/users?after=0&page_size=25&order_by={order}&is_active={active}"
            ids: list[int] = []
            while path:
                answer = client.get(path)
                ids += [user["id"] for user in answer.json()]
                path = answer.links["next"]["url"] if "next" in answer.links else ""
            assert len(ids) == len(set(ids)) == (0 if active == "false" else users), order


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, set[str]]]:
    with app_on(f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/test.db") as (client, _):
        return sent(client), found(client)


# Longer than a scan is worth; none of them is searched for.
FILL = """
    INSERT INTO "user" (name, email, is_active)
    SELECT repeat('0', 90) || n, n || repeat('0', 200) || '@1.2', true
    FROM generate_series(1, 10000) AS n
"""


@pytest.mark.parametrize(("server", "language"), LANGUAGES)
def test_each_language(
    servers: dict[str, str],
    on_sqlite: tuple[Any, dict[str, set[str]]],
    server: str,
    language: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with database_of(servers[server], language) as url:
        with app_on(url, "-cenable_bitmapscan=off") as (client, engine):
            assert sent(client) == on_sqlite[0]
            check_walks(client, len(client.get("/users?page_size=1000").json()))
            check_rule(engine)
            by_scan = found(client)
            with engine.connect() as connection:
                kind = language_of(connection, "user").kind
        with app_on(url, "-cenable_seqscan=off -cenable_indexscan=off") as (client, _):
            assert found(client) == by_scan
        differs = {query for query in SEARCHES if by_scan[query] != on_sqlite[1][query]}
        assert differs == exceptions(server, language, kind)

        # What is not looked at is said. Otherwise the index is taken as soon as there is enough.
        knows_letters = language.rpartition("LOCALE ")[2] != "'C'"
        assert ("look at every row" in caplog.text) != knows_letters
        assert "only as they are written" not in caplog.text
        with app_on(url) as (client, engine):
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql(FILL)
                connection.exec_driver_sql("VACUUM ANALYZE")
                collation = COLLATIONS[kind]
                plan = connection.exec_driver_sql(
                    f'EXPLAIN SELECT id FROM "user" WHERE upper(name COLLATE "{collation}")'
                    f" LIKE upper('%%αναστ%%' COLLATE \"{collation}\")"
                ).all()
            assert ("ix_user_search" in str(plan)) == knows_letters
            assert found(client) == by_scan


def check_rule(engine: Engine) -> None:
    """Write emails without the app."""
    insert = "INSERT INTO \"user\" (name, email, is_active) VALUES ('N', %s, true)"
    with engine.connect() as connection:
        for email in ("É@x.de", "İ@x.de", "ı@x.de"):
            connection.exec_driver_sql(insert, (email,))
        connection.rollback()
        for email in ("I@x.de", "éX@x.de"):
            with pytest.raises(IntegrityError, match="ck_user_email_lower"):
                connection.exec_driver_sql(insert, (email,))
            connection.rollback()


def test_a_column_that_takes_small_letters_for_capitals(servers: dict[str, str]) -> None:
    """Its owner has given it a collation; LIKE cannot do that before PostgreSQL 18."""
    nocase = "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    for server in servers.values():
        with database_of(server, "LOCALE 'C.UTF-8'") as url, app_on(url) as (client, engine):
            client.post("/user", json={"name": "Éric", "email": "a@x.de"})
            with engine.begin() as connection:
                connection.exec_driver_sql(f"CREATE COLLATION nocase {nocase}")
                change = 'ALTER TABLE "user" ALTER name TYPE VARCHAR(100) COLLATE nocase'
                connection.exec_driver_sql(change)
            answer = client.get("/users?query=éRIC&order_by=name")
            assert (answer.status_code, len(answer.json())) == (200, 1)


@pytest.mark.parametrize("more", ["", "?client_encoding=utf8"])
def test_what_latin1_cannot_store(servers: dict[str, str], more: str) -> None:
    """Nobody has it, so nobody is found; and nobody can get it."""
    latin1 = "ENCODING 'LATIN1' LOCALE 'fr_FR.ISO-8859-1'"
    with database_of(servers["debian"], latin1) as url, app_on(url + more) as (client, _):
        assert client.post("/user", json={"name": "Éric", "email": "a@x.de"}).status_code == 200
        assert len(client.get("/users?query=éRIC").json()) == 1
        for path in ("/users?query=Ł", "/users?query=ŁŁŁ&after=0", "/users?query=Ł&page=3"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()) == (200, [])
        body = {"name": "Łukasz", "email": "l@x.de"}
        calls = [
            ("POST", "/user", body),
            ("POST", "/users/bulk", [{"name": "B", "email": "b@x.de"}, body]),
            ("PUT", "/users/1", body),
        ]
        for method, path, sent in [*calls, ("PATCH", "/users/1", {"name": "Łukasz"})]:
            answer = client.request(method, path, json=sent)
            assert answer.status_code == 422
            message = "The encoding of this database has no Ł"
            mistake = {"type": "value_error", "loc": ["body", "name"], "msg": message}
            assert answer.json() == {"detail": [mistake]}
        assert [user["name"] for user in client.get("/users").json()] == ["Éric"]


def test_no_other_language_on_the_server(
    servers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """As on PostgreSQL 15 without ICU: an email is found, and a start says what is not."""
    with database_of(servers["debian"], "LOCALE 'tr_TR.UTF-8'") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DELETE FROM pg_collation WHERE collprovider = 'i'")
        with app_on(url) as (client, _):
            client.post("/user", json={"name": "ÉRIC", "email": "INFO@x.de"})
            found = {
                query: len(client.get(f"/users?query={query}").json())
                for query in ("info", "INFO", "éric")
            }
            assert found == {"info": 1, "INFO": 1, "éric": 0}
        assert "only as they are written" in caplog.text


def test_an_index_of_another_language(
    servers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A backup has come from elsewhere. The start says what mends it; and that does."""
    with database_of(servers["debian"], "LOCALE 'tr_TR.UTF-8'") as url:
        with app_on(url):
            pass
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP INDEX ix_user_search")
            plain = "(upper(name) gin_trgm_ops, upper(email) gin_trgm_ops)"
            connection.execute(f'CREATE INDEX ix_user_search ON "user" USING gin {plain}')
            with app_on(url):
                pass
            said = caplog.messages[-1].partition("Run this: ")[2]
            connection.execute(said.encode())
            caplog.clear()
            with app_on(url):
                pass
            assert caplog.messages == []


def test_an_index_of_that_name_for_something_else(
    servers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with database_of(servers["debian"], "LOCALE 'C.UTF-8'") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE user_search (q text)")
            connection.execute("CREATE INDEX ix_user_search ON user_search (q)")
        assert "ix_user_search is another index" in upgrade(url)
        with app_on(url) as (client, _), psycopg.connect(url) as connection:
            assert client.get("/users?query=abc").json() == []
            assert connection.execute("SELECT 'ix_user_search'::regclass").fetchone()


# ---- A table that is there already

TURKISH = ["LOCALE 'tr_TR.UTF-8'", f"{ICU} 'tr' LOCALE 'tr_TR.UTF-8'", "LOCALE 'C'"]
TABLE = 'CREATE TABLE "user" (id SERIAL PRIMARY KEY, name {}, email {} UNIQUE, is_active {})'
PLAIN = TABLE.format("TEXT", "TEXT", "BOOLEAN DEFAULT true")
NOCASE = "CREATE COLLATION nocase (provider=icu, locale='und-u-ks-level2', deterministic=false)"
NOTHING = "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"


def upgrade(url: str, folder: Path = ROOT) -> str:
    """Run `alembic upgrade head`; return what it says, but for the revisions."""
    done = run_python("-m", "alembic", "upgrade", "head", folder=folder, DATABASE_URL=url)
    lines = [each for each in (done.stdout + done.stderr).splitlines() if each]
    return "\n".join(each for each in lines if not each.startswith("Running upgrade "))


def emails(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        found = connection.execute('SELECT email FROM "user" ORDER BY id')
        return [str(email) for (email,) in found]


@pytest.mark.parametrize("language", TURKISH)
def test_a_takeover(servers: dict[str, str], language: str) -> None:
    """Nobody gets another address, and nobody is there twice."""
    with database_of(servers["debian"], language) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(PLAIN)
            users = (
                "INFO@Example.com",
                "ırmak@x.de",
                "ÉRIC@x.de",
                "éric@x.de",
                "İ@x.de",
                "info@x.de",
            )
            for email in (*users, "info@example.com"):
                connection.execute("INSERT INTO \"user\" (name, email) VALUES ('N', %s)", (email,))
            twice = "users 1 (INFO@Example.com) and 7 (info@example.com) have the same email"
            assert twice in upgrade(url)
            assert emails(url) == [*users, "info@example.com"]
            connection.execute('DELETE FROM "user" WHERE id = 7')
        assert upgrade(url) == ""
        stored = ["info@example.com", "ırmak@x.de", "Éric@x.de", "éric@x.de", "İ@x.de", "info@x.de"]
        assert emails(url) == stored
        with app_on(url) as (client, _):
            for email in ("Info@example.com", "INFO@X.DE", "ÉRIC@x.de"):
                body = {"name": "N", "email": email}
                assert client.post("/user", json=body).status_code == 409
            body = {"name": "N", "email": "IRMAK@x.de"}  # is not ırmak
            assert client.post("/user", json=body).json()["email"] == "irmak@x.de"


@pytest.mark.parametrize("language", [*TURKISH, "LOCALE 'C.UTF-8'"])
def test_a_database_of_yesterday(servers: dict[str, str], language: str, tmp_path: Path) -> None:
    """What its app has stored stays; its rule and its indexes become those of today."""
    copy_app(tmp_path / "app")
    versions = tmp_path / "app" / "migrations" / "versions"
    (newest,) = versions.glob("*_7d40c92be5a1.py")
    newest.write_text(newest.read_text().replace('"c05d1e7b8a42"', '"aaaaaaaaaaaa"'))
    own = 'revision = "aaaaaaaaaaaa"\ndown_revision = "c05d1e7b8a42"\n'
    own += 'def upgrade():\n    op.create_search_index("product", "name")\n'
    (versions / "own.py").write_text(f"from alembic import op\n{own}")
    with database_of(servers["debian"], language) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pg_trgm")
            for statement in YESTERDAY.split(";"):
                connection.execute(statement)
            before = emails(url)
            assert upgrade(url, tmp_path / "app") == ""
            assert emails(url) == before
            for index in ("ix_user_search", "ix_product_search"):
                (made,) = (
                    connection.execute("SELECT pg_get_indexdef(%s::regclass)", (index,)).fetchone()
                    or ()
                )
                assert ("und-x-icu" in made) == (language in TURKISH)
            connection.execute("UPDATE alembic_version SET version_num = '7d40c92be5a1'")
        with app_on(url) as (client, engine):
            check_rule(engine)
            for email, status in (("ÉRIC@x.de", 200), ("Éric@x.de", 409), ("éRIC@x.de", 409)):
                answer = client.post("/user", json={"name": "N", "email": email})
                assert answer.status_code == status
            assert len(client.get("/users?query=INFO").json()) == 1


YESTERDAY = """
    CREATE TABLE "user" (
        id BIGSERIAL NOT NULL CONSTRAINT pk_user PRIMARY KEY,
        name VARCHAR(100) NOT NULL, email VARCHAR(254) NOT NULL, is_active BOOLEAN NOT NULL,
        CONSTRAINT uq_user_email UNIQUE (email),
        CONSTRAINT ck_user_name_length CHECK (length(name) BETWEEN 1 AND 100),
        CONSTRAINT ck_user_email_length CHECK (length(email) <= 254),
        CONSTRAINT ck_user_email_lower CHECK (email = lower(email)),
        CONSTRAINT ck_user_is_active CHECK (is_active IN (true, false))
    );
    CREATE INDEX ix_user_search ON "user" USING gin
        (upper(name) gin_trgm_ops, upper(email) gin_trgm_ops);
    CREATE TABLE product (id SERIAL PRIMARY KEY, name TEXT);
    CREATE INDEX ix_product_search ON product USING gin (upper(name) gin_trgm_ops);
    CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
    INSERT INTO alembic_version VALUES ('c05d1e7b8a42');
    INSERT INTO "user" (name, email, is_active) VALUES
        ('N', 'info@x.de', true), ('N', 'éric@x.de', true), ('N', 'ırmak@x.de', true)
"""

# What a table has, and what the command says of it.
TABLES = {
    "collation": (
        [TABLE.format('TEXT COLLATE "tr-x-icu"', 'TEXT COLLATE "C"', "INT DEFAULT 1")],
        'Left out: TEXT COLLATE "tr-x-icu" of user.name\n'
        'Left out: TEXT COLLATE "C" of user.email\nLeft out: DEFAULT 1 of user.is_active',
    ),
    "nocase": (
        [NOCASE, TABLE.format("TEXT", "TEXT COLLATE nocase", "BOOLEAN DEFAULT true")],
        "Left out: TEXT COLLATE nocase of user.email",
    ),
    "citext": (
        ["CREATE EXTENSION citext", TABLE.format("TEXT", "CITEXT", "BOOLEAN DEFAULT true")],
        "Left out: CITEXT of user.email",
    ),
    "domain": (
        [
            "CREATE DOMAIN mail AS TEXT CHECK (value LIKE '%@%')",
            TABLE.format("TEXT", "mail", "BOOLEAN DEFAULT true"),
        ],
        "Left out: mail of user.email",
    ),
    "not enforced": (
        [
            PLAIN,
            'ALTER TABLE "user" ADD CONSTRAINT ck_user_name_length CHECK (length(name) > 9)'
            " NOT ENFORCED",
        ],
        "",
    ),
    "deferred": (
        [
            PLAIN,
            NOTHING,
            'CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON "user" DEFERRABLE INITIALLY DEFERRED'
            " FOR EACH ROW EXECUTE FUNCTION nothing()",
        ],
        "",
    ),
    "row level security": (
        [PLAIN, 'ALTER TABLE "user" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', "OWNER"],
        "FAILED: row level security hides users from this role",
    ),
    "generated": (
        [PLAIN, 'ALTER TABLE "user" ADD big TEXT GENERATED ALWAYS AS (upper(email)) STORED'],
        'generated column: Column "email" is used by generated column "big"',
    ),
    "generated name": (
        [
            'CREATE TABLE "user" (id SERIAL PRIMARY KEY, email TEXT UNIQUE, is_active BOOLEAN'
            " DEFAULT true, name TEXT GENERATED ALWAYS AS (upper(email)) STORED)"
        ],
        "user.name is generated, and this app writes it",
    ),
    "policy": (
        [PLAIN, "CREATE POLICY own ON \"user\" USING (email <> '')"],
        'policy own on table "user" depends on column "email"',
    ),
    "trigger": (
        [
            PLAIN,
            NOTHING,
            'CREATE TRIGGER noted AFTER UPDATE OF email ON "user" FOR EACH ROW'
            " EXECUTE FUNCTION nothing()",
        ],
        'trigger noted on table "user" depends on column "email"',
    ),
    "view": (
        [PLAIN, 'CREATE VIEW people AS SELECT * FROM "user"'],
        "rule _RETURN on view people depends on column",
    ),
}


@pytest.mark.parametrize("table", TABLES)
def test_what_a_table_may_have(servers: dict[str, str], table: str) -> None:
    """It stays, or is said to be lost, or is what stops it; all or nothing."""
    statements, said = TABLES[table]
    with database_of(servers["npm"], "LOCALE 'tr_TR.UTF-8'") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements[:-1] if "OWNER" in statements else statements:
                connection.execute(statement)
            columns = "(email)" if "generated name" in table else "(email, name)"
            for row in ("('INFO@Example.com', 'Ada')", "('ÉRIC@x.de', 'Eve')"):
                values = row.partition(",")[0] + ")" if columns == "(email)" else row
                connection.execute(f'INSERT INTO "user" {columns} VALUES {values}'.encode())
            as_owner = url
            if "OWNER" in statements:
                role = f"role_{uuid4().hex}"
                connection.execute(f"CREATE ROLE {role} LOGIN")
                connection.execute(f'ALTER TABLE "user" OWNER TO {role}')
                connection.execute(f"GRANT ALL ON SCHEMA public TO {role}")
                as_owner = make_url(url).set(username=role).render_as_string()
            printed = upgrade(as_owner)
        if "nothing has changed" in printed:
            assert said
            assert said in printed
            assert emails(url) == ["INFO@Example.com", "ÉRIC@x.de"]
            return
        assert printed == said
        assert emails(url) == ["info@example.com", "Éric@x.de"]
        with app_on(url) as (client, engine):
            check_rule(engine)
            body = {"name": "N", "email": "INFO@example.com"}
            assert client.post("/user", json=body).status_code == 409
            assert client.post("/user", json={"name": "", "email": "a@x.de"}).status_code == 422
