"""A cluster of three servers, as docs/production.md describes it, and what happens to leaders."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import httpx2
import psutil
import psycopg
import pytest

from tests.clients import Writers, assert_unavailable, wait_until
from tests.processes import needs
from tests.server import ROOT, Server, free_port

CONFIGURATION = (ROOT / "examples" / "patroni.yml").read_text()
PASSWORD = "change-this"


class Member:
    """A PostgreSQL and the Patroni that looks after it."""

    def __init__(self, name: str, folder: Path, etcd: str, programs: Path) -> None:
        self.name = name
        self.data = folder / name
        self.port, self.api = free_port(), free_port()
        text = CONFIGURATION
        for said, here in {
            "name: db1": f"name: {name}",
            "listen: 0.0.0.0:8008": f"listen: 127.0.0.1:{self.api}",
            "db1:8008": f"127.0.0.1:{self.api}",
            "etcd1:2379,etcd2:2379,etcd3:2379": etcd,
            "listen: 0.0.0.0:5432": f"listen: 127.0.0.1:{self.port}",
            "db1:5432": f"127.0.0.1:{self.port}",
            "mode: required": "mode: 'off'",  # the test itself does what a watchdog would
            "/var/lib/postgresql/15/users": str(self.data),
            "/usr/lib/postgresql/15/bin": str(programs),
            # What each machine has once, and this one three times.
            "  pg_hba:": f"  parameters: {{unix_socket_directories: {folder}}}\n"
            f"  pgpass: {folder}/{name}.pgpass\n  pg_hba:",
        }.items():
            assert text.count(said) == 1
            text = text.replace(said, here)
        self.file = folder / f"{name}.yml"
        self.file.write_text(text)
        self.log = (folder / f"{name}.log").open("w")

    def start(self) -> None:
        """Start Patroni, which starts PostgreSQL."""
        as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        self.patroni = subprocess.Popen(
            [*as_user, "patroni", str(self.file)], stdout=self.log, stderr=self.log
        )

    def processes(self) -> list[psutil.Process]:
        """Return all of its processes, as if it were a machine."""
        found = [self.patroni.pid]
        pid_file = self.data / "postmaster.pid"
        if pid_file.exists():
            found.append(int(pid_file.read_text().split()[0]))
        tops = [psutil.Process(pid) for pid in found if psutil.pid_exists(pid)]
        # The file stays behind after a kill, and its number may be somebody else's by now.
        ours = [top for top in tops if top.name() in ("patroni", "postgres", "runuser")]
        return [each for top in ours for each in (top, *top.children(recursive=True))]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def role(self) -> str:
        """Return what Patroni says that it is: leader, sync_standby, replica."""
        try:
            cluster = httpx2.get(f"http://127.0.0.1:{self.api}/cluster", timeout=2).json()
        except (httpx2.HTTPError, ValueError):
            return ""
        for member in cluster.get("members", ()):
            if member["name"] == self.name and member["state"] in ("running", "streaming"):
                return str(member["role"])
        return ""


class Cluster:
    """Three members."""

    def __init__(self, folder: Path) -> None:
        for program in ("etcd", "patroni"):
            needs(shutil.which(program), "Patroni and etcd: apt-get install patroni etcd-server")
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.etcd = subprocess.Popen(
            [
                "etcd",
                f"--data-dir={folder}/etcd",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        etcd = client.removeprefix("http://")
        self.members = [Member(f"db{n}", folder, etcd, programs) for n in (1, 2, 3)]

    def leader(self) -> Member | None:
        """Return the member that takes writes, if there is just one."""
        leaders = [member for member in self.members if member.role() == "leader"]
        return leaders[0] if len(leaders) == 1 else None

    def wait(self) -> Member:
        """Wait until all are there, one of them a synchronous standby; return the leader."""
        roles = ["leader", "replica", "sync_standby"]
        wait_until(lambda: sorted(member.role() for member in self.members) == roles)
        leader = self.leader()
        assert leader
        return leader

    def stop(self) -> None:
        """End all processes."""
        for member in self.members:
            member.signal(signal.SIGKILL)
            member.patroni.wait()
            member.log.close()
        self.etcd.kill()
        self.etcd.wait()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Start a cluster; a test that fails shows what Patroni said."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
        cluster = Cluster(Path(folder))
        try:
            cluster.members[0].start()
            wait_until(lambda: cluster.members[0].role() == "leader")
            for member in cluster.members[1:]:
                member.start()
            cluster.wait()
            yield cluster
        finally:
            cluster.stop()
            for member in cluster.members:
                print(member.name, Path(member.log.name).read_text()[-3000:], sep="\n")


@pytest.mark.timeout(600)
def test_leaders_come_and_go(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing that was acknowledged is lost, and every answer is a 200 or a 503."""
    hosts = "&".join(f"host=127.0.0.1:{member.port}" for member in cluster.members)
    url = f"postgresql://postgres:{PASSWORD}@/postgres?{hosts}&target_session_attrs=read-write"
    with Server(url, "--workers=2") as server:
        wait_until(lambda: server.client.get("/health").status_code == 200)
        with Writers(server, 8, patience=60) as writers:
            writers.wait_for(100)

            leader = cluster.wait()
            start = time.monotonic()
            said = {"leader": leader.name}
            answer = httpx2.post(f"http://127.0.0.1:{leader.api}/switchover", json=said, timeout=60)
            assert answer.status_code == 200, answer.text
            report(capsys, writers, "a switchover", start)

            leader = cluster.wait()
            start = time.monotonic()
            leader.signal(signal.SIGKILL)
            wait_until(lambda: cluster.leader() not in (leader, None))
            report(capsys, writers, "kill -9 of the leader", start)
            leader.patroni.wait()
            leader.start()

            leader = cluster.wait()
            start = time.monotonic()
            leader.signal(signal.SIGSTOP)
            wait_until(lambda: cluster.leader() not in (leader, None))
            report(capsys, writers, "a frozen leader", start)
            leader.signal(signal.SIGKILL)  # as the watchdog of a machine would
            leader.patroni.wait()
            leader.start()
            leader = cluster.wait()
            writers.wait_for(100)
    for answer in writers.refused:
        assert_unavailable(answer)
    where = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{leader.port}/postgres"
    with psycopg.connect(where) as connection:
        emails = connection.execute('SELECT email FROM "user"').fetchall()
    lost = set(writers.acknowledged) - {email for (email,) in emails}
    assert len(writers.acknowledged) > 300
    assert not lost


def report(capsys: pytest.CaptureFixture[str], writers: Writers, what: str, start: float) -> None:
    """Wait until users are created again, and say how long nobody was."""
    writers.wait_for(200)
    times = [start, *(each for each in list(writers.times) if each > start)]
    longest = max(later - earlier for earlier, later in pairwise(times))
    with capsys.disabled():
        print(f"\n{what}: {longest:.1f} s without a write", end="")
