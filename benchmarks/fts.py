"""What the index of FTS5 brings to searches of SQLite, and what it costs.

`python -m benchmarks.fts` fills two files with a million users, indexes the texts of one, and
prints for each search the answers per second of both, and the milliseconds of a call of a single
client; then the rate at which users are created, and the sizes of the files.
"""

import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import NullPool, create_engine

from benchmarks.growth import ALSO_SEARCHED, CLIENTS, SEARCHES, load
from benchmarks.load import Result, measure, on_core
from core.fts import create_fts_index
from tests.server import Server

MORE = ("query=ser+7777&order_by=name", "query=us%C3%A9r", "query=ab")
OTHERS = {"GET /user": "/user?user_id=50", "POST /user": "/user"}


def file_with(users: int, path: Path, *, fts: bool) -> str:
    """Fill a file; return its URL."""
    url = f"sqlite:///{path}"
    with Server(url):  # creates the tables
        load(url, users)
    if fts:
        with create_engine(url, poolclass=NullPool).begin() as connection:
            create_fts_index(connection, "user", "name", "email")
    return url


def main(
    users: Annotated[int, typer.Option(help="How many users there are")] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="How often everything is measured")] = 3,
    seconds: Annotated[int, typer.Option(help="How long each measurement takes")] = 2,
    clients: Annotated[int, typer.Option(help="How many ask at once")] = CLIENTS,
) -> None:
    """Measure both files, side by side, and print a table."""
    calls = {query: f"/users?{query}" for query in (*SEARCHES, *ALSO_SEARCHED, *MORE)} | OTHERS
    table = Table("SQLite", "scan: per s", "FTS5: per s", "ratio", "ms", "ms")
    with tempfile.TemporaryDirectory() as folder:
        files = {fts: Path(folder) / f"{fts}.db" for fts in (False, True)}
        urls = {fts: file_with(users, path, fts=fts) for fts, path in files.items()}
        sizes = " and ".join(f"{path.stat().st_size / 1e6:.0f}" for path in files.values())
        for call, path in track(calls.items(), "Measuring"):
            found = defaultdict[bool, list[Result]](list)
            for number in range(rounds):
                for fts in (False, True) if number % 2 else (True, False):
                    # A new one each time: none has a search left whose clients have hung up.
                    with Server(urls[fts], prefix=on_core(0)) as server:
                        address = server.address + path
                        alone = measure(call, address, 1, 1).p50
                        rate = measure(call, address, clients, seconds).rate
                        found[fts].append(Result(rate, alone, 0))
            scan, index = (
                Result(*(median(values) for values in zip(*found[fts], strict=True)))
                for fts in (False, True)
            )
            ratio = f"{index.rate / scan.rate:.2f}" if scan.rate else "-"
            row = (f"{scan.rate:.0f}", f"{index.rate:.0f}", ratio)
            table.add_row(call, *row, f"{scan.p50:.1f}", f"{index.p50:.1f}")
        Console(width=120).print(table)
        print(f"{sizes} MB")


if __name__ == "__main__":
    typer.run(main)
