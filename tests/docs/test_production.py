"""What docs/production.md says works."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import httpx2
import psycopg
import pytest
import yaml

from core.settings import check_url
from tests.clients import Writers, all_emails, is_up, wait_until
from tests.docs.reader import blocks, commands
from tests.processes import debian_postgresql
from tests.server import ROOT, Server, free_port, postgresql_over_tcp
from tests.users import ADA

PAGE = (ROOT / "docs" / "production.md").read_text()
# The tests of telemetry run two of them, and that of PGlite another; that of containers looks at
# compose.yaml.
TESTED = {"sh serve", "sh ", "sh port", "sql standby", "sql index", "sql language"}
TESTED |= {
    "console backup",
    "console sqlite",
    "sh telemetry",
    "python private.py",
    "python tokens.py",
    "sh compose",
    "sh pglite",
}


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


def test_a_port_of_a_platform(tmp_path: Path) -> None:
    (command,) = found("sh port")
    port = str(free_port())
    program = str(Path(sys.executable).with_name("uvicorn"))
    environment = {"DATABASE_URL": f"sqlite:///{tmp_path}/app.db", "PORT": port}
    with subprocess.Popen(
        ["sh", "-c", f"exec {command.replace('uvicorn', program).replace('0.0.0.0', '127.0.0.1')}"],
        cwd=ROOT,
        env=os.environ | environment,
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_until(lambda: is_up(f"http://127.0.0.1:{port}"))
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM  # its graceful end


@pytest.mark.parametrize(
    ("options", "scheme"), [((), "http"), (("--forwarded-allow-ips=*",), "https")]
)
def test_a_socket_in_a_file(tmp_path: Path, options: tuple[str, ...], scheme: str) -> None:
    """Behind one, uvicorn has to be told to believe the proxy."""
    code = (
        "@app.get('/scheme')\ndef scheme(request: Request) -> str:\n    return request.url.scheme\n"
    )
    (tmp_path / "own.py").write_text(f"from fastapi import Request\nfrom main import app\n{code}")
    path = f"{tmp_path}/app.sock"
    command = [sys.executable, "-m", "uvicorn", "own:app", f"--app-dir={tmp_path}"]
    with subprocess.Popen(
        [*command, f"--uds={path}", *options],
        cwd=ROOT,
        env=os.environ | {"DATABASE_URL": f"sqlite:///{tmp_path}/app.db"},
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_until(lambda: Path(path).exists())
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=path)) as client:
            answer = client.get("http://app/scheme", headers={"X-Forwarded-Proto": "https"})
        assert answer.json() == scheme
        process.terminate()


@pytest.mark.parametrize("end", ["", "\n"])
def test_kubernetes(end: str) -> None:
    """By its schemas; and what a pod runs, with a secret as it is, or made with `echo`."""
    path = ROOT / "examples" / "kubernetes.yaml"
    secret, deployment, service = yaml.safe_load_all(path.read_text())
    program = Path(sys.executable).with_name("kubernetes-validate")
    subprocess.run([program, "--strict", "--quiet", path], check=True)
    pod = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    (migrations,), (app,) = pod["spec"]["initContainers"], pod["spec"]["containers"]
    assert migrations["envFrom"] == app["envFrom"] == [{"secretRef": secret["metadata"]}]
    (variable,) = secret["stringData"]
    (listens,) = app["ports"]
    assert f"PORT={listens['containerPort']}" in (ROOT / "Dockerfile").read_text()
    with postgresql_over_tcp() as url:
        # Two pods begin at once.
        command = [sys.executable, "-m", *migrations["command"]]
        environment = os.environ | {variable: url + end}
        pods = [subprocess.Popen(command, cwd=ROOT, env=environment) for _ in range(2)]
        assert [each.wait(60) for each in pods] == [0, 0]
        with Server(url + end) as server:
            for probe in ("livenessProbe", "readinessProbe"):
                assert server.client.get(app[probe]["httpGet"]["path"]).status_code == 200
            assert server.client.get("/users").json() == []
            server.process.terminate()
            assert server.process.wait(20) == -signal.SIGTERM  # its graceful end


def test_sql() -> None:
    with debian_postgresql() as url, psycopg.connect(url, autocommit=True) as connection:
        for statement in found("sql language"):
            connection.execute(statement.encode())
        with psycopg.connect(url.removesuffix("postgres") + "app") as app:
            assert app.execute("SELECT upper('é'), 'é' < 'z'").fetchone() == ("É", False)
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
