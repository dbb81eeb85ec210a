"""Requests per second and p99 of the classic snippet and of this app, side by side.

The snippet is measured as lessons write it, and with a `response_model`.
`python -m benchmarks.load` starts each of them in turn, with 1000 users in the table, on SQLite
and on a PostgreSQL that is reached over TCP, with 1 to 500 clients. It prints a table of medians
and draws the rates in benchmarks/load.svg. Server and clients run on different cores. The clients
are wrk where the machine has it, else benchmarks/clients.py.

`--baseline examples.async_app:app` measures against another app instead of the snippet,
`--baseline benchmarks.pasted:app/pasted` against what an app has below /pasted, `--only 32` with
one number of clients; they draw nothing.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from statistics import median
from typing import Annotated, NamedTuple

import typer
from matplotlib import pyplot
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import NullPool, create_engine, text

from tests.server import Server, postgresql_over_tcp

OURS = "main:app"
CLASSIC = {
    "benchmarks.classic:app": "snippet",
    "benchmarks.classic:app/checked": "snippet, response_model",
}
CALLS = {"GET /user": "/user?user_id=50", "GET /users": "/users", "POST /user": "/user"}
CLIENTS = (1, 32, 100, 500)
STYLES = ("o:", "o--", "o-")
FOLDER = Path(__file__).parent


class Result(NamedTuple):
    """Answers with a 2xx per second, and milliseconds that half and 99 % of all answers took."""

    rate: float
    p50: float
    p99: float


def on_core(core: int) -> list[str]:
    """Return the command that keeps what follows it on one core, where there is one."""
    return ["taskset", "-c", str(core)] if shutil.which("taskset") else []


def wrk(call: str, url: str, clients: int, seconds: int) -> Result:
    """Measure with wrk."""
    script = ["-s", str(FOLDER / "post.lua")] if call.startswith("POST") else []
    options = ["-t1", f"-c{clients}", f"-d{seconds}", "--timeout=10", "--latency", *script]
    report = subprocess.check_output([*on_core(1), "wrk", *options, url], text=True)
    times = {
        percent: float(value) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]
        for percent, value, unit in re.findall(r"(50|99)% +([\d.]+)(us|ms|s|m)\b", report)
    }
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
    total = re.search(r"(\d+) requests in", report)
    assert total
    answered = int(total[1]) - int(failed[1] if failed else 0)
    return Result(answered / seconds, times.get("50", 0), times.get("99", 0))


def python_clients(call: str, url: str, clients: int, seconds: int) -> Result:
    """Measure with benchmarks/clients.py."""
    command = [sys.executable, "-m", "benchmarks.clients", call, url, str(clients), str(seconds)]
    return Result(*json.loads(subprocess.check_output([*on_core(1), *command])))


def measure(call: str, url: str, clients: int, seconds: int) -> Result:
    """Measure with wrk where the machine has it."""
    tool = wrk if shutil.which("wrk") else python_clients
    return tool(call, url, clients, seconds)


@contextmanager
def seeded_server(app: str, database: str) -> Iterator[str]:
    """Start the app on a new database, put 1000 users in, and yield its address."""
    with ExitStack() as stack:
        if database.startswith("postgresql"):
            url = database
            reset = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
        else:
            url = f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/load.db"
            reset = "SELECT 1"
        engine = create_engine(url, poolclass=NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql(reset)
        server = stack.enter_context(Server(url, app=app, prefix=on_core(0)))
        users = [{"name": f"User {n}", "email": f"{n}@example.com"} for n in range(1, 1001)]
        with engine.begin() as connection:
            insert = 'INSERT INTO "user" (name, email, is_active) VALUES (:name, :email, true)'
            connection.execute(text(insert), users)
        yield server.address


def draw(results: dict[tuple[str, str, int, str], Result]) -> None:
    """Draw the rates against the number of clients in load.svg."""
    databases = ("SQLite", "PostgreSQL")
    figure, axes = pyplot.subplots(2, 3, figsize=(10, 5.5), sharex=True, layout="constrained")
    for (row, database), (column, call) in product(enumerate(databases), enumerate(CALLS)):
        axis = axes[row, column]
        for (app, label), style in zip((CLASSIC | {OURS: "ours"}).items(), STYLES, strict=True):
            rates = [results[database, call, clients, app].rate for clients in CLIENTS]
            axis.plot(CLIENTS, rates, style, label=label)
        axis.set(title=f"{call}, {database}", xscale="log", ylim=(0, None))
        axis.set_xticks(CLIENTS, [str(clients) for clients in CLIENTS])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("clients")
    for axis in axes[:, 0]:
        axis.set_ylabel("requests per second")
    lines = axes[0, 0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside upper center", ncols=len(STYLES))
    figure.savefig(FOLDER / "load.svg")


def main(
    rounds: Annotated[int, typer.Option(help="How often everything is measured")] = 3,
    seconds: Annotated[int, typer.Option(help="How long each measurement takes")] = 3,
    only: Annotated[int | None, typer.Option(help="How many clients, instead of all")] = None,
    baseline: Annotated[str, typer.Option(help="The app to compare with")] = "",
) -> None:
    """Measure, print a table and draw load.svg."""
    numbers = CLIENTS if only is None else (only,)
    apps = [*([baseline] if baseline else CLASSIC), OURS]
    measured = defaultdict[tuple[str, str, int, str], list[Result]](list)
    with postgresql_over_tcp() as url:
        databases = {"SQLite": "", "PostgreSQL": url.replace(":", "+psycopg:", 1)}
        cells = list(product(range(rounds), databases, CALLS, numbers, apps))
        for _, database, call, clients, app in track(cells, "Measuring"):
            module, slash, below = app.partition("/")
            with seeded_server(module, databases[database]) as address:
                url = f"{address}{slash}{below}{CALLS[call]}"
                # Warms the server up. With more clients, what is left of their requests and the
                # first of the next would be enough to stop the classic snippet at 32.
                measure(call, url, min(clients, 16), 1)
                measured[database, call, clients, app].append(measure(call, url, clients, seconds))

    results = {
        cell: Result(*(median(values) for values in zip(*found, strict=True)))
        for cell, found in measured.items()
    }
    table = Table("database", "call", "clients", "app", "per second", "ours", "p50, p99 in ms")
    for database, call, clients, app in product(databases, CALLS, numbers, apps):
        found = results[database, call, clients, app]
        ours = results[database, call, clients, OURS].rate
        ratio = f"{ours / found.rate:.2f} times" if found.rate else "-"
        row = [database, call, str(clients), app, f"{found.rate:.0f}", ratio]
        table.add_row(*row, f"{found.p50:.0f}, {found.p99:.0f}")
    Console(width=120).print(table)
    if not baseline and only is None:
        draw(results)


if __name__ == "__main__":
    typer.run(main)
