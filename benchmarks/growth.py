"""What the calls of the list cost with 1,000 users and with 1,000,000, under load.

`python -m benchmarks.growth` fills a table, lets 32 clients make one call after the other, and
prints answers per second for both sizes and their ratio, and the milliseconds of a call of a
single client; then the rate of 12 clients, alone and while 20 others search; and the rates of a
second table, as docs/build-on-it.md teaches one, beside those of `/users`. Server and clients run
on different cores.

The PostgreSQL that comes along lacks the extension pg_trgm, without which a search looks at
everybody: `--postgresql-url` names a server that has it, where databases may be created.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import product
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import NullPool, create_engine, make_url, text

from benchmarks.load import measure, on_core
from core.settings import check_url
from tests.server import Server, postgresql_over_tcp

CHUNK = 10_000
# Names and emails in no order (the modulus is a prime), and one user in ten inactive.
INSERT = """
    INSERT INTO "user" (name, email, is_active)
    WITH RECURSIVE numbers (n) AS (
        SELECT CAST(:first AS bigint) UNION ALL SELECT n + 1 FROM numbers WHERE n < :last
    )
    SELECT 'User ' || (n * 7919 % 10000019), (n * 104729 % 10000019) || '@example.com', n % 10 > 0
    FROM numbers
"""
CLIENTS = 32
LISTS = (
    "",
    "after=0",
    "order_by=-id&after={middle}",
    "order_by=name",
    "order_by=name&after={middle}",
    "order_by=-email",
    "order_by=-email&after={middle}",
    "is_active=true",
    "is_active=false",
    "is_active=false&order_by=-name",
    "is_active=false&order_by=email&after={middle}",
    "page=9",
    "order_by=-name&page=9",
)
SEARCHES = (
    "query=zzzz",  # nobody
    "query=example",  # everybody
    "query=ser+77",  # one in a hundred
    "query=ser+7777",  # one in ten thousand
    "query=%C3%A9",  # nobody, and a single letter, for which there is no index
)
ALSO_SEARCHED = (
    "query=zzzz&after=0",
    "query=zzzz&order_by=name",
    "query=example&order_by=name",
    "query=example&is_active=false&order_by=-email",
)
# Of the second table (benchmarks/second.py), in the same order as those of users beside them.
PRODUCTS = """
    INSERT INTO benchmark_product (name, price, category, in_stock, owner_id)
    SELECT 'Product ' || (id * 7919 % 10000019), id * 31 % 100000 / 100.0,
        CASE WHEN id % 3 = 0 THEN 'BOOK' ELSE 'GAME' END, id % 10 > 0, id
    FROM "user"
"""
PAIRS = {
    "": "",
    "after={middle}": "after={middle}",
    "is_active=true": "category=game",
    "is_active=false": "in_stock=false",
    "order_by=name": "order_by=price",
    "order_by=-name": "order_by=-name",
    "is_active=false&order_by=-name": "in_stock=false&order_by=-price",
    "order_by=name&after={middle}": "order_by=price&after={middle}",
    "query=zzzz": "query=zzzz",
    "query=ser+7777": "query=uct+7777",
}
OTHERS = ("/users?after=0", "/user?user_id=50")


def load(url: str, users: int) -> None:
    """Create users, up to this number."""
    engine = create_engine(url, poolclass=NullPool)
    for first in track(range(1, users + 1, CHUNK), f"Loading {users:,} users"):
        with engine.begin() as connection:
            rows = {"first": first, "last": min(first + CHUNK - 1, users)}
            connection.execute(text(INSERT), rows)
    if engine.name == "postgresql":  # which does so by itself, some minutes later
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
                connection.execute(text(statement))


def second_table(server: Server, large: int, rounds: int, seconds: int, table: Table) -> None:
    """Compare the lists of the second table with those of users, of which there are as many."""
    engine = create_engine(server.url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(PRODUCTS))
    if engine.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
    for users, products in track(PAIRS.items(), "Measuring the second table"):
        paths = [f"{server.address}/{path}" for path in (f"users?{users}", f"products?{products}")]
        rates = defaultdict[str, list[float]](list)
        for number in range(rounds):
            for path in paths if number % 2 else reversed(paths):
                call = path.format(middle=large // 2)
                server.client.get(f"/users?{SEARCHES[0]}")
                rates[path].append(measure("GET", call, 8, seconds).rate)
        before, after = (median(rates[path]) for path in paths)
        row = f"/users?{users} and /products?{products}, {large:,} each, 8 clients"
        table.add_row(row, f"{before:.0f}", f"{after:.0f}", f"{after / before:.2f}")


def beside_searches(address: str, path: str, seconds: int) -> float:
    """Return the rate of 12 clients while 20 others search, four for each text."""
    with ThreadPoolExecutor() as threads:
        for query in SEARCHES:
            threads.submit(measure, "GET", f"{address}/users?{query}", 4, seconds + 1)
        return measure("GET", address + path, 12, seconds).rate


@contextmanager
def databases(postgresql: str, sizes: tuple[int, int]) -> Iterator[dict[str, list[str]]]:
    """Yield the URLs of two new databases on SQLite and two on a PostgreSQL server."""
    names = [f"growth_{size}" for size in sizes]
    server = make_url(check_url(postgresql))
    admin = create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with tempfile.TemporaryDirectory() as folder, admin.connect() as connection:
        for name in names:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        yield {
            "SQLite": [f"sqlite:///{folder}/{name}.db" for name in names],
            "PostgreSQL": [
                server.set(database=name).render_as_string(hide_password=False) for name in names
            ],
        }
        for name in names:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def main(
    large: Annotated[int, typer.Option(help="How many users the large table has")] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="How often everything is measured")] = 3,
    seconds: Annotated[int, typer.Option(help="How long each measurement takes")] = 2,
    postgresql_url: Annotated[str, typer.Option(help="A server, in place of ours")] = "",
) -> None:
    """Measure both sizes on both databases and print a table for each."""
    queries = (*LISTS, *SEARCHES, *ALSO_SEARCHED)
    calls = {query: f"/users?{query}" for query in queries}
    calls |= {"GET /user": "/user?user_id=50", "POST /user": "/user"}
    sizes = (1000, large)
    with (
        nullcontext(postgresql_url) if postgresql_url else postgresql_over_tcp() as postgresql,
        databases(postgresql, sizes) as urls,
    ):
        for database in urls:
            table = Table("GET /users?..., or as named", title=database)
            for column in ("1,000: per s", f"{large:,}: per s", "ratio", "ms", "ms"):
                table.add_column(column, justify="right")
            with ExitStack() as stack:
                servers = {}
                for size, url in zip(sizes, urls[database], strict=True):
                    servers[size] = stack.enter_context(
                        Server(url, app="benchmarks.second:app", prefix=on_core(0))
                    )
                    load(url, size)
                for call, path in track(calls.items(), "Measuring"):
                    rates = defaultdict[int, list[float]](list)
                    alone = []
                    for number, (size, server) in product(range(rounds), servers.items()):
                        address = server.address + path.format(middle=size // 2)
                        for each in servers.values():
                            # A search comes after those whose clients have hung up.
                            each.client.get(f"/users?{SEARCHES[0]}")
                        if number == 0:
                            alone.append(f"{measure(call, address, 1, 1).p50:.1f}")
                        rates[size].append(measure(call, address, CLIENTS, seconds).rate)
                    before, after = (median(found) for found in rates.values())
                    ratio = f"{after / before:.2f}"
                    table.add_row(call, f"{before:.0f}", f"{after:.0f}", ratio, *alone)
                for path in OTHERS:
                    found = []
                    for _ in range(rounds):
                        server.client.get(f"/users?{SEARCHES[0]}")
                        found.append(
                            (
                                measure("GET", server.address + path, 12, seconds).rate,
                                beside_searches(server.address, path, seconds),
                            )
                        )
                    before, after = (median(rates) for rates in zip(*found, strict=True))
                    row = f"{path}: 12 clients, without and with 20 who search a million"
                    table.add_row(row, f"{before:.0f}", f"{after:.0f}", f"{after / before:.2f}")
                second_table(server, large, rounds, seconds, table)
            Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
