"""What a collector of OpenTelemetry receives, from a server that only the environment tells to."""

import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.clients import assert_unavailable, locked_table, new_user, wait_until
from tests.processes import copy_app
from tests.server import ROOT, Call, Server

PAGE = (ROOT / "docs" / "production.md").read_text()


class Collector:
    """Receives metrics and traces over HTTP."""

    def __init__(self) -> None:
        self.peaks: dict[str, float] = defaultdict(float)  # by metric, and queue or error
        self.spans: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.receive(self.rfile.read(int(self.headers["Content-Length"])), self.path)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def receive(self, body: bytes, path: str) -> None:
        """Note what a server sends."""
        if path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        kind = str(metric.WhichOneof("data"))
                        for point in getattr(metric, kind).data_points:
                            about = strings(point.attributes)
                            which = about.get("db.client.connection.pool.name")
                            name = f"{metric.name} {which or about.get('error.type')}"
                            value = point.count if kind == "histogram" else point.as_int
                            self.peaks[name] = max(self.peaks[name], value)
        elif path == "/v1/traces":
            for traced in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scoped in traced.scope_spans:
                    self.spans += [
                        strings(span.attributes) | {"name": span.name} for span in scoped.spans
                    ]

    def span(self, path: str) -> dict[str, str]:
        """Return what was sent about a request, as soon as it is here."""
        wait_until(lambda: any(span.get("url.path") == path for span in self.spans))
        return next(span for span in self.spans if span.get("url.path") == path)


def strings(attributes: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in attributes}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Run a collector, and let the servers of this test send to it, several times a second."""
    collector = Collector()
    threading.Thread(target=collector.server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{collector.server.server_address[1]}"
    (told,) = re.findall(r"```sh telemetry\n(.*?)```", PAGE, re.DOTALL)
    for name, value in re.findall(r"export (\w+)=(.*)", told):
        monkeypatch.setenv(name, value.replace("http://localhost:4318", address))
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


def test_who_waits_and_why_it_failed(url: str, collector: Collector) -> None:
    """A table is locked: some have a session, the others wait, and all get a 503."""
    sqlite = url.startswith("sqlite")
    short = (
        f"{url}?timeout=4" if sqlite else url.replace("options=", "options=-clock_timeout%3D4s+")
    )
    assert short != url
    with Server(short, app="tests.live.hurried:app") as server:
        server.client.get("/users")
        with locked_table(url):
            writes: list[Call] = [("POST", "/users", new_user("n", n)) for n in range(30)]
            for answer in server.at_once(writes):
                assert_unavailable(answer)
        limit = 2 if sqlite else 10
        busy = "SQLITE_BUSY" if sqlite else "LockNotAvailable"
        expected = {
            "db.client.connection.max write": limit,
            "db.client.connection.count write": limit,
            "db.client.connection.pending_requests write": 30 - limit,
            "db.client.connection.timeouts write": 30 - limit,
            "db.client.connection.wait_time write": 30 - limit,
            "database.unavailable BusyError": 30 - limit,
            f"database.unavailable {busy}": limit,
        }
        wait_until(lambda: {**collector.peaks, **expected} == collector.peaks)


def test_what_is_told_of_a_request(url: str, collector: Collector) -> None:
    """Also what was searched for; and nothing of what probes ask."""
    with Server(url) as server:
        for path in ("/livez", "/health", "/users?query=ada%40example.com", "/users/7"):
            server.client.get(path)
        assert collector.span("/users")["url.query"] == "query=ada%40example.com"
        assert collector.span("/users/7")["http.route"] == "/users/{user_id}"
    paths = {span.get("url.path") for span in collector.spans}
    assert not paths & {"/livez", "/health"}


def test_what_was_searched_for_is_left_out(tmp_path: Path, collector: Collector) -> None:
    """By the file of docs/production.md, or by sending no traces at all."""
    (private,) = re.findall(r"```python private.py\n(.*?)```", PAGE, re.DOTALL)
    copy_app(tmp_path)
    (tmp_path / "private.py").write_text(private)
    with Server(f"sqlite:///{tmp_path}/app.db", app="private:app", folder=tmp_path) as server:
        server.client.get("/users?query=ada%40example.com")
        assert collector.span("/users")["url.query"] == ""


def test_metrics_without_traces(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    with Server(f"sqlite:///{tmp_path}/app.db") as server:
        server.client.get("/users?query=ada%40example.com")
        wait_until(lambda: "db.client.connection.max write" in collector.peaks)
    assert collector.spans == []


def test_every_metric_is_documented() -> None:
    names = set(re.findall(r'^    "([a-z_.]+)",$', (ROOT / "core/telemetry.py").read_text(), re.M))
    (page,) = re.findall(r"\| metric \|.*?\n\n", PAGE, re.DOTALL)
    page = page.replace("`.max`", "`db.client.connection.max`")
    assert names == set(re.findall(r"`((?:db\.client|database)\.[a-z_.]+)`", page))
