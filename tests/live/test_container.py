"""The image of the Dockerfile, built and run; and what compose.yaml makes of it."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import httpx2
import pytest

from tests.clients import is_up, wait_until
from tests.processes import needs, node
from tests.server import ROOT, free_port, postgresql_over_tcp
from tests.users import ADA

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "compose.yaml").read_text()
PACKAGES = "python3,python3-venv,python-is-python3,ca-certificates"


# What a container may have here, where it may have no more than the machine itself.
LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
RUN = ("--network=host", "--read-only", "--no-healthcheck", *LIMITS)


def run(*command: str) -> str:
    """Run a command and return what it prints; fail if it does."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


class Engine:
    """buildah and podman, which need no service, with images and containers in a folder."""

    def __init__(self, folder: Path) -> None:
        for program in ("buildah", "podman", "runc", "debootstrap"):
            needs(shutil.which(program), f"{program}: apt-get install {program}")
        needs(os.geteuid() == 0, "root, for containers")
        self.storage = ["--root", f"{folder}/root", "--runroot", f"{folder}/run"]
        self.storage += ["--storage-driver", "vfs"]

    def buildah(self, *arguments: str) -> str:
        """Run buildah and return what it prints."""
        return run("buildah", *self.storage, *arguments)

    def podman(self, *arguments: str) -> str:
        """Run podman and return what it prints."""
        options = ("--runtime", "runc", "--cgroup-manager", "cgroupfs")
        return run("podman", *self.storage, *options, *arguments)

    def stop(self, name: str) -> None:
        """Tell a container to stop, which it does by itself, and take it away."""
        self.podman("kill", "--signal=TERM", name)
        assert self.podman("wait", name) == "0"
        self.podman("rm", name)

    def build(self, folder: Path) -> None:
        """Build the image, on Debian's Python in the place of the one that it names."""
        debian = f"{folder}/debian"
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "stable", debian)
        for unused in ("usr/share/doc", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(f"{debian}/{unused}")  # every container is a copy of all the rest
        (base,) = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
        container = self.buildah("from", "scratch")
        self.buildah("add", container, debian, "/")
        self.buildah("commit", container, f"docker.io/library/{base}")
        how = ("--isolation=chroot", "--format=docker", "--pull=never", "--tag=users")
        self.buildah("build", *how, "--volume=/etc/ssl/certs:/etc/ssl/certs:ro", ".")


@pytest.mark.timeout(600)
def test_the_image() -> None:
    """It runs not as root, on a system that cannot be written to, and stops when it is told to."""
    with tempfile.TemporaryDirectory() as folder:  # podman takes only short names
        engine = Engine(Path(folder))
        engine.build(Path(folder))
        try:
            check_image(engine)
        finally:
            engine.podman("rm", "--all", "--force", "--volumes")


def check_image(engine: Engine) -> None:
    port = free_port()
    app = ("run", "--detach", f"--env=PORT={port}", *RUN)
    address = f"http://127.0.0.1:{port}"
    client = httpx2.Client(base_url=address)
    with postgresql_over_tcp() as url, client:
        database = f"--env=DATABASE_URL={url}"
        (migrate,) = re.findall(r"command: (\[.*\])", COMPOSE)
        engine.podman("run", database, *RUN, "users", *json.loads(migrate))
        engine.podman(*app, "--name=app", database, "users")
        wait_until(lambda: is_up(address))
        assert client.get("/users").json() == []
        assert client.post("/users", json=ADA).status_code == 201
        (check,) = re.findall(r"^HEALTHCHECK CMD (.*)$", DOCKERFILE, re.MULTILINE)
        engine.podman("exec", "app", "sh", "-c", check)
        assert engine.podman("exec", "app", "id", "-u") == "10001"
        with pytest.raises(AssertionError, match="Read-only file system"):
            engine.podman("exec", "app", "touch", "/app/file")
        with pytest.raises(AssertionError, match="No module named pytest"):
            engine.podman("exec", "app", "python", "-m", "pytest")
        # Without a word about a database, the data is kept in a volume. Nobody is killed.
        engine.stop("app")
        for users in (0, 1):
            engine.podman(*app, "--name=alone", "--volume=users:/data", "users")
            wait_until(lambda: is_up(address))
            assert len(client.get("/users").json()) == users
            client.post("/users", json=ADA)
            engine.stop("alone")
    wrong = "--env=DATABASE_URL=sqlite:////no/such/folder/app.db"
    with pytest.raises(AssertionError, match="Application startup failed"):
        engine.podman("run", wrong, *RUN, "users")


def test_compose_is_well_formed() -> None:
    """By the schema of Compose, and by what the files say that it names."""
    node("dclint", "--max-warnings", "0", "-c", "dclint.yaml", "../../compose.yaml")
    for path in re.findall(r"- \./(\S+):/", COMPOSE):
        assert (ROOT / path).is_file()
    assert "listen 8080;" in (ROOT / "examples" / "nginx.conf").read_text()
    pgbouncer = (ROOT / "examples" / "pgbouncer.ini").read_text()
    assert "listen_port = 6432" in pgbouncer
    assert "auth_file = /etc/pgbouncer/userlist.txt" in pgbouncer
    assert "@database:6432/app'" in COMPOSE
