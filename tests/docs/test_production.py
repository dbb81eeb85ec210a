"""What docs/production.md says works."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import httpx2
import psycopg
import pytest
from fastapi.testclient import TestClient

from core.settings import check_url
from main import app
from tests.clients import Writers, all_emails, wait_until
from tests.docs.reader import blocks, commands
from tests.processes import debian_postgresql
from tests.server import ROOT, Server, free_port
from tests.users import ADA

PAGE = (ROOT / "docs" / "production.md").read_text()
# The tests of telemetry run two of them, and that of containers looks at compose.yaml.
TESTED = {"sh serve", "sh ", "yaml probes", "sql standby", "sql index", "console backup"}
TESTED |= {"console sqlite", "sh telemetry", "python private.py", "sh compose"}


def found(kind: str) -> list[str]:
    """Return the blocks of a kind."""
    page = re.sub("^  ", "", PAGE, flags=re.MULTILINE)  # in lists, too
    return [block for language, what, block in blocks(page) if f"{language} {what}" == kind]


def test_nothing_is_left_out() -> None:
    page = re.sub("^  ", "", PAGE, flags=re.MULTILINE)
    assert {f"{language} {what}" for language, what, _ in blocks(page)} == TESTED


@pytest.mark.parametrize("command", found("sh serve"))
def test_commands_that_serve(command: str, tmp_path: Path) -> None:
    port = free_port()
    program, *options = command.split()
    with subprocess.Popen(
        [Path(sys.executable).with_name(program), *options, f"--port={port}"],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": f"sqlite:///{tmp_path}/app.db"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as process:

        def answers() -> bool:
            with suppress(httpx2.TransportError):
                return bool(httpx2.get(f"http://127.0.0.1:{port}/users").json() == [])
            return False

        wait_until(answers)
        process.terminate()


def test_urls() -> None:
    """They are understood; tests of their own connect to what they mean."""
    urls = re.findall(r"^export \w*DATABASE_URL='(.*)'$", "".join(found("sh ")), re.MULTILINE)
    assert len(urls) == len(found("sh "))
    for url in urls:
        psycopg.conninfo.conninfo_to_dict(re.sub("pgbouncer=true", "", url))
        check_url(url)


def test_probes() -> None:
    (text,) = found("yaml probes")
    client = TestClient(app)
    paths = re.findall(r"path: ([^,]+),", text)
    assert paths == ["/livez", "/health"]
    for path in paths:
        assert client.get(path).status_code == 200


def test_sql() -> None:
    with debian_postgresql() as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute('CREATE TABLE "user" (email text, name text)')
        for statement in "".join(found("sql index") + found("sql standby")).split(";"):
            connection.execute(statement.encode())
        assert connection.execute("SELECT 'ix_user_search'::regclass").fetchone()
        settings = ("synchronous_standby_names", "synchronous_commit")
        wait_until(lambda: [shown(url, name) for name in settings] == ["*", "remote_apply"])


def shown(url: str, name: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(f"SHOW {name}".encode()).fetchone()
    return row and row[0]


def test_a_backup_is_restored() -> None:
    """The user whom the app has created is there."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    with debian_postgresql() as url, tempfile.TemporaryDirectory() as folder:
        as_user = []
        if os.getuid() == 0:
            as_user = ["runuser", "-u", "postgres", "--"]
            shutil.chown(folder, "postgres")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE app")
        database = url.removesuffix("/postgres") + "/app"
        with Server(database) as server:
            assert server.client.post("/user", json=ADA).status_code == 200
        port = str(free_port())
        path = f"{programs[-1]}:{os.environ['PATH']}"
        for command, expected in commands("".join(found("console backup"))):
            done = subprocess.run(
                [*as_user, "bash", "-c", command.replace("5433", port)],
                cwd=folder,
                env={"PATH": path, "DATABASE_URL": database},
                capture_output=True,
                text=True,
            )
            assert (done.stdout, done.returncode) == (expected, 0), done.stderr


def test_a_backup_of_sqlite(tmp_path: Path) -> None:
    """Made while the app runs, and restored after it was killed."""
    inherited = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"}
    create, restore = commands("".join(found("console sqlite")))

    def run(command: tuple[str, str]) -> None:
        done = subprocess.run(
            ["bash", "-c", command[0].replace("python", sys.executable)],
            cwd=tmp_path,
            env=inherited | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert (done.stdout, done.stderr) == (command[1], "")

    url = f"sqlite:///{tmp_path}/app.db"
    with Server(url) as server:
        server.client.post("/user", json=ADA)
        run(create)
        with Writers(server, 2) as writers:
            writers.wait_for(20)
        server.process.kill()
        server.process.wait()
    run(restore)
    with Server(url) as server:
        assert all_emails(server.client) == {ADA["email"]}
