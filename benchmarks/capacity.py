"""What ends first on the way to many requests and many users: arithmetic with measured figures.

`python -m benchmarks.capacity` needs Linux and Debian's PostgreSQL. It measures what one process
answers on one core, what PostgreSQL works for each call, what a create writes to its log, and how
large 100,000 users are; says from that how large ten times as many would be, and looks whether they
are; and prints what 10,000 requests per second and a billion users would need.

It assumes: the calls of MIX; 32 clients; that twice as many requests take twice the cores, of the
app and of PostgreSQL; that reads can be spread over replicas; that an index that is asked at random
should fit into memory; that to build an index, which sorts, takes n log n.
"""

import math
import time
from typing import Annotated, NamedTuple

import psutil
import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, NullPool, create_engine, text

from benchmarks.growth import load
from benchmarks.load import CALLS, measure, on_core
from core.engines import POOL_SIZE
from core.settings import check_url
from tests.processes import debian_postgresql
from tests.server import Server

MIX = {"GET /user": 0.8, "GET /users": 0.15, "POST /user": 0.05}
CLIENTS = 32
CONNECTIONS = 2 * POOL_SIZE + 1  # of a process
PAGE = 8192  # bytes


class Cost(NamedTuple):
    """What a call costs."""

    rate: float  # per second, of a process on one core
    database: float  # seconds of a core of PostgreSQL
    log: float  # bytes of its write-ahead log


def seconds_of(postmaster: psutil.Process) -> float:
    """Return how long PostgreSQL and all its processes have worked."""
    times = [process.cpu_times() for process in (postmaster, *postmaster.children())]
    return sum(time.user + time.system for time in times)


def cost_of(call: str, server: Server, connection: Connection, seconds: int) -> Cost:
    """Measure a call."""
    backend: int = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    postmaster = psutil.Process(psutil.Process(backend).ppid())
    position = text("SELECT pg_current_wal_lsn() - '0/0'")
    log, worked = connection.execute(position).scalar_one(), seconds_of(postmaster)
    rate = measure(call, server.address + CALLS[call], CLIENTS, seconds).rate
    answered = rate * seconds
    log = float(connection.execute(position).scalar_one() - log)
    return Cost(rate, (seconds_of(postmaster) - worked) / answered, log / answered)


def sizes(connection: Connection) -> dict[str, int]:
    """Return the bytes of the table and of each of its indexes."""
    query = (
        "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE oid = '\"user\"'::regclass"
        " UNION ALL SELECT indexrelid::regclass::text, pg_relation_size(indexrelid)"
        " FROM pg_index WHERE indrelid = '\"user\"'::regclass ORDER BY 2 DESC"
    )
    return {str(name): int(found) for name, found in connection.exec_driver_sql(query)}


def seconds_to_build(connection: Connection) -> float:
    """Measure how long an index on the names takes."""
    started = time.monotonic()
    connection.exec_driver_sql('CREATE INDEX of_names ON "user" (name, id)')
    taken = time.monotonic() - started
    connection.exec_driver_sql("DROP INDEX of_names")
    return taken


def size(number: float) -> str:
    """Return a number of bytes as people write it."""
    return f"{number / 1e6:,.1f} MB" if number < 1e9 else f"{number / 1e9:,.0f} GB"


def main(
    requests: Annotated[int, typer.Option(help="How many a second")] = 10_000,
    users: Annotated[int, typer.Option(help="How many there are to be")] = 1_000_000_000,
    seconds: Annotated[int, typer.Option(help="How long each call is measured")] = 5,
) -> None:
    """Measure, and print what it comes to."""
    few, many = 100_000, 1_000_000
    with debian_postgresql() as url:
        engine = create_engine(check_url(url), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with Server(url, prefix=on_core(0)) as server, engine.connect() as connection:
            load(check_url(url), few)
            before, built = sizes(connection), seconds_to_build(connection)
            connection.exec_driver_sql('TRUNCATE "user" RESTART IDENTITY')
            load(check_url(url), many)
            after, built_many = sizes(connection), seconds_to_build(connection)
            costs = {call: cost_of(call, server, connection, seconds) for call in MIX}
        engine.dispose()

    console = Console(width=120)
    measured = Table("", "per second", "ms of PostgreSQL", "bytes of log", title="One call")
    for call, cost in costs.items():
        measured.add_row(
            call, f"{cost.rate:,.0f}", f"{cost.database * 1e3:.2f}", f"{cost.log:,.0f}"
        )
    console.print(measured)

    check = Table("", f"of {few:,}", f"so of {many:,}", "measured", "ratio", title="The arithmetic")
    for name, found in before.items():
        told = found * many / few
        check.add_row(name, size(found), size(told), size(after[name]), f"{after[name] / told:.2f}")
    told = built * many / few * math.log(many) / math.log(few)
    check.add_row(
        "seconds for an index",
        f"{built:.2f}",
        f"{told:.1f}",
        f"{built_many:.1f}",
        f"{built_many / told:.2f}",
    )
    console.print(check)

    cores = requests * sum(share / costs[call].rate for call, share in MIX.items())
    processes = math.ceil(cores)
    reads = requests * sum(MIX[call] * costs[call].database for call in MIX if "GET" in call)
    writes = requests * MIX["POST /user"] * costs["POST /user"].database
    log = requests * MIX["POST /user"] * costs["POST /user"].log
    whole = sum(after.values()) * users / many
    largest = max((name for name in after if name != "user"), key=lambda name: after[name])
    rows_of_page = PAGE * many / after["pk_user"]
    build = built_many * users / many * math.log(users) / math.log(many)
    plan = Table("what", "needs", "grows with", title=f"{requests:,} per second, {users:,} users")
    for row in (
        ("cores of the app", f"{cores:.1f}", "requests"),
        ("connections", f"{CONNECTIONS} x {processes} = {CONNECTIONS * processes}", "processes"),
        ("cores of PostgreSQL that read", f"{reads:.1f}", "requests; replicas share them"),
        ("cores of PostgreSQL that write", f"{writes:.2f}", "creates; on each replica again"),
        ("log", f"{log / 1e6:.1f} MB/s, {size(log * 86400)} a day", "creates"),
        ("table and indexes", size(whole), "users"),
        (f"the largest, {largest}", size(after[largest] * users / many), "users"),
        ("memory for the index of ids", size(after["pk_user"] * users / many), "users"),
        (
            f"its levels, of {rows_of_page:.0f} rows a page",
            f"{math.ceil(math.log(users) / math.log(rows_of_page))}",
            "the logarithm of users",
        ),
        ("a migration that builds an index", f"{build / 3600:.1f} h", "users, and a little more"),
    ):
        plan.add_row(*row)
    console.print(plan)


if __name__ == "__main__":
    typer.run(main)
