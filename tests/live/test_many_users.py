"""Lists and searches of many users, beside each other."""

import re
import time

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from core.settings import check_url
from tests.processes import debian_postgresql, run_python
from tests.server import ROOT, Server

USERS = """
    INSERT INTO "user" (name, email, is_active)
    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100000)
    SELECT 'User ' || n * 7919, n || '@example.com', n % 10 > 0 FROM n
"""


def test_20_clients_search_while_others_read(url: str) -> None:
    """Everybody is answered."""
    with Server(url) as server:
        engine = create_engine(check_url(url), poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text(USERS))
        searches = [f"/users?query={query}" for query in ("zzzz", "example", "77", "%C3%A9")] * 5
        reads = ["/users?after=0", "/users?order_by=-name", "/user?user_id=50"] * 20
        calls = [("GET", path, None) for path in (*searches, *reads)]
        answers = server.at_once(calls)
        assert [answer.status_code for answer in answers] == [200] * len(calls)
        assert [len(answer.json()) for answer in answers[:4]] == [0, 100, 100, 0]
        assert answers[1].headers["X-Total-Count"] == "10000"
        assert "last" not in answers[1].links


@pytest.mark.parametrize("start", ["created by the app", "migrated"])
def test_postgresql_finds_texts_by_an_index(start: str) -> None:
    with debian_postgresql() as url:
        upgrade = ("-m", "alembic", "upgrade")
        if start == "migrated":
            for revision in ("8e52f3c6d741", "head"):
                assert run_python(*upgrade, revision, folder=ROOT, DATABASE_URL=url).stderr == ""
        engine = create_engine(check_url(url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with Server(url) as server, engine.connect() as connection:
            connection.execute(text(USERS))
            connection.execute(text("VACUUM ANALYZE"))
            for query, found in (("USER 7919", 7), ("4321@EXAMPLE", 10), ("nobody", 0)):
                answer = server.client.get("/users", params={"query": query})
                assert answer.headers["X-Total-Count"] == str(found), query
            used = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'ix_user_search'"
            deadline = time.monotonic() + 10
            while connection.scalar(text(used)) < 2:  # one for the email and one for the name
                assert time.monotonic() < deadline, "the index was not used"
                time.sleep(0.5)
                server.client.get("/users?query=nobody")  # tells the statistics, each second
        checked = run_python("-m", "alembic", "check", folder=ROOT, DATABASE_URL=url)
        assert "No new upgrade operations detected." in checked.stdout


def test_a_role_that_may_not_install_extensions() -> None:
    """It gets its tables, and is told what they lack."""
    with debian_postgresql() as url:
        engine = create_engine(check_url(url), poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text("CREATE ROLE app LOGIN"))
            connection.execute(text("GRANT ALL ON SCHEMA public TO app"))
        app = make_url(url).set(username="app").render_as_string()
        init = ("-m", "examples.manage", "init-db")
        for printed in ("Searches will look at every row, without pg_trgm: .*permission.*", ""):
            done = run_python(*init, folder=ROOT, DATABASE_URL=app)
            assert done.stdout == "The tables are there.\n"
            assert re.fullmatch(printed, done.stderr.strip())
        with Server(app) as server:
            assert server.client.get("/users?query=nobody").json() == []
