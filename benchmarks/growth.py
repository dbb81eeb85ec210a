"""What a call costs with 1,000 users and with 1,000,000, on SQLite and on PostgreSQL.

`python -m benchmarks.growth` fills a table, then measures one call after the other: one user,
pages at the start and at the end of the list, in another order, and searches. The PostgreSQL that
comes along lacks the extension pg_trgm; on a server that has it (`--postgresql-url`), all is
measured once more with the indexes of docs/migrations.md.
"""

import re
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median
from typing import Annotated

import typer
from httpx2 import Client, Response
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import NullPool, create_engine, text

from benchmarks.server import ROOT, Server, postgresql_over_tcp
from core.settings import check_url

CHUNK = 10_000
INSERT = """
    INSERT INTO "user" (name, email, is_active)
    WITH RECURSIVE numbers (n) AS (
        SELECT CAST(:first AS int) UNION ALL SELECT n + 1 FROM numbers WHERE n < :last
    )
    SELECT 'User ' || n, n || '@example.com', true FROM numbers
"""


def load(url: str, first: int, last: int) -> None:
    """Create the users from number `first` to number `last`."""
    engine = create_engine(url, poolclass=NullPool)
    for start in track(range(first, last + 1, CHUNK), f"Loading {last:,} users"):
        with engine.begin() as connection:
            rows = {"first": start, "last": min(start + CHUNK - 1, last)}
            connection.execute(text(INSERT), rows)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE" if engine.name == "sqlite" else "VACUUM ANALYZE"))


def add_trigrams(url: str) -> bool:
    """Run the SQL of docs/migrations.md; return False on a server that has no pg_trgm."""
    page = (ROOT / "docs" / "migrations.md").read_text()
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        if connection.scalar(text("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'")):
            for statement in re.findall(r'CREATE (?:EXTENSION|INDEX).*?(?="\)|\n)', page):
                start = time.perf_counter()
                connection.execute(text(statement))
                print(f"{time.perf_counter() - start:.1f} s: {statement}")
            return True
    return False


def milliseconds(call: Callable[[int], Response], repeats: int) -> float:
    """Return the median of what a call takes, made `repeats` times or for five seconds."""
    times: list[float] = []
    while len(times) < repeats and sum(times) < 5000:
        start = time.perf_counter()
        answer = call(len(times))
        times.append((time.perf_counter() - start) * 1000)
        answer.raise_for_status()
    return median(times)


def measure(client: Client, users: int, repeats: int) -> dict[str, float]:
    """Return the milliseconds of each kind of call with that many users in the table."""

    def create(number: int) -> Response:
        email = f"{users}.{time.time_ns()}.{number}@example.com"
        return client.post("/user", json={"name": "Ada", "email": email})

    def page(question: str) -> Callable[[int], Response]:
        return lambda number: client.get(f"/users?{question}")

    calls: dict[str, Callable[[int], Response]] = {
        "GET /user": lambda number: client.get(f"/user?user_id={number * 7919 % users + 1}"),
        "POST /user": create,
        "after=, first page": page("after=0"),
        "after=, last page": page(f"after={users - 100}"),
        "page=, first page": page("page=1"),
        "page=, last page": page(f"page={users // 100}"),
        "order_by=name, first page": page("order_by=name"),
        "order_by=email, first page": page("order_by=email"),
        "order_by=-name, middle page": page(f"order_by=-name&page={users // 200}"),
        "query=, all match": page("query=USER"),
        "query=, one matches": page(f"query=USER {users - 1}"),
        "query=, none matches": page("query=nobody"),
        "query=, none, after=": page("query=nobody&after=0"),
    }
    return {name: milliseconds(call, repeats) for name, call in calls.items()}


def walk(client: Client) -> tuple[float, float]:
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
    postgresql_url: Annotated[str, typer.Option(help="An empty database, in place of ours")] = "",
) -> None:
    """Measure both sizes on both databases and print a table."""
    small = 1000
    table = Table("GET /users, or as named; ms")
    rows: dict[str, list[str]] = {}
    server_of_ours = nullcontext(postgresql_url) if postgresql_url else postgresql_over_tcp()
    with tempfile.TemporaryDirectory() as folder, server_of_ours as postgresql:
        databases = {"SQLite": f"sqlite:///{folder}/app.db", "PostgreSQL": postgresql}
        for database, url in databases.items():
            results = []
            url = check_url(url)
            with Server(url) as server:
                for first, users in ((1, small), (small + 1, large)):
                    load(url, first, users)
                    measure(server.client, users, 5)  # warms both servers up
                    results.append(measure(server.client, users, repeats))
                start, end = walk(server.client)
                columns = [f"{database} {small:,}", f"{large:,}"]
                if database == "PostgreSQL" and add_trigrams(url):
                    results.append(measure(server.client, large, repeats))
                    columns.append("with pg_trgm")
            for column in (*columns, "ratio"):
                table.add_column(column, justify="right")
            for call, before in results[0].items():
                row = rows.setdefault(call, [])
                row += [f"{result[call]:.2f}" for result in results]
                row.append(f"{results[1][call] / before:.2f}")
            walked = f"{start:.1f} ms in the first tenth, {end:.1f} in the last"
            print(f"{database}: walking all users, a page of 1000 takes {walked}")
    for call, cells in rows.items():
        table.add_row(call, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
