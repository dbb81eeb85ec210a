"""The app on PGlite, a PostgreSQL for Node: one session, which all connections share."""

import re
from collections import Counter
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.clients import Writers, all_emails, one_of_each, serving
from tests.processes import NODE, needs, run_python
from tests.server import ROOT, Server, free_port
from tests.users import ADA


def pglite(*options: str, port: int = 0) -> AbstractContextManager[str]:
    """Run the server that comes with PGlite, and have its URL."""
    port = port or free_port()
    programs = NODE / "node_modules" / ".bin"
    needs((programs / "pglite-server").exists(), "`npm install --prefix tests/node`")
    url = f"postgresql://postgres:postgres@127.0.0.1:{port}/postgres"
    command = (programs / "node", programs / "pglite-server")
    return serving(url, *command, f"--port={port}", *options)


# As docs/production.md starts it.
(COMMAND,) = re.findall(
    r"npx (pglite-server --db=data .*)", (ROOT / "docs/production.md").read_text()
)
MANY = COMMAND.split()[2:]


def test_twenty_clients() -> None:
    """Nothing has to be said in the URL; what one connection sets is not found by another."""
    with pglite(*MANY) as url, Server(url) as server:
        server.client.post("/users", json=ADA)
        for number in range(5):
            calls = one_of_each(range(number * 4, number * 4 + 4), "/users.csv")
            statuses = Counter(answer.status_code for answer in server.at_once(calls))
            assert statuses == {200: 20, 201: 4}
        assert server.client.post("/users", json=ADA).status_code == 409
        with psycopg.connect(url, autocommit=True) as other:
            for name, value in {
                "default_transaction_read_only": "off",
                "lock_timeout": "0",
            }.items():
                assert other.execute(f"SHOW {name}").fetchone() == (value,)


def test_people_from_a_file(tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("name,email\n" + "".join(f"N,{n}@example.com\n" for n in range(300)))
    with pglite(*MANY) as url:
        for created in (300, 0):
            done = run_python(
                "-m", "examples.manage", "import", str(people), folder=ROOT, DATABASE_URL=url
            )
            assert done.stdout.splitlines()[-1].startswith(f"{created} created"), done.stderr
        done = run_python("-m", "examples.manage", "list-users", folder=ROOT, DATABASE_URL=url)
        assert len(done.stdout.splitlines()) == 300


def test_a_word_that_is_wrong() -> None:
    """It is not PgBouncer in session mode, whatever the URL says."""
    with pglite(*MANY) as url, Server(f"{url}?pgbouncer=false") as server:
        for _ in range(3):
            assert server.client.get("/users").status_code == 200
            assert server.client.post("/users", json=ADA).status_code in (201, 409)


def test_pglite_is_restarted(tmp_path: Path) -> None:
    port = free_port()
    options = (*MANY, f"--db={tmp_path}/data")
    with ExitStack() as stack:
        with pglite(*options, port=port) as url:
            server = stack.enter_context(Server(url))
            writers = stack.enter_context(Writers(server, 4, patience=40))
            writers.wait_for(50)
        stack.enter_context(pglite(*options, port=port))
        writers.wait_for(50)
        assert set(writers.acknowledged[:100]) <= all_emails(server.client)
    assert {answer.status_code for answer in writers.refused} <= {503}


def test_one_connection_is_not_enough(capfd: pytest.CaptureFixture[str]) -> None:
    """And the log says what to do."""
    with pglite() as url, Server(url) as server:
        assert server.client.get("/users").status_code == 503
    said = capfd.readouterr().err
    assert "start it with more: pglite-server --max-connections=30" in said
