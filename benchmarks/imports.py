"""A million people from a CSV: beside the fastest way, and what it leaves to others.

`python -m benchmarks.imports` needs Linux and PostgreSQL's programs. On both databases, it compares
`python -m examples.manage import` with the `copy` of psql and with an `executemany` of the same
rows; its memory for a tenth of them with that for all; and the rates of an app alone with those
while it runs.
"""

import csv
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import make_url

from benchmarks.load import CALLS, measure, on_core
from core.engines import new_engine
from database import init_db
from tests.processes import debian_postgresql
from tests.server import ROOT, Server

IMPORT = [sys.executable, "-m", "examples.manage", "import"]


def write_people(path: Path, number: int) -> None:
    """Write that many people, in no order (the modulus is a prime)."""
    with path.open("w", newline="") as file:
        people = csv.writer(file)
        people.writerow(["name", "email"])
        for n in range(number):
            name, email = n * 7919 % 10000019, n * 104729 % 10000019
            people.writerow([f"User {name}", f"{email}@example.com"])


def create_tables(url: str) -> None:
    """Create what the app creates."""
    engine = new_engine(url)
    init_db(engine)
    engine.dispose()


def run(command: Sequence[str | Path], url: str) -> float:
    """Run a command on a database; return its peak of memory in MB."""
    environment = os.environ | {"DATABASE_URL": url}
    peak = 0.0
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            if found := re.search(r"VmHWM:\s+(\d+) kB", status):
                peak = int(found[1]) / 1024
            time.sleep(0.1)
    assert process.returncode == 0
    return peak


def copy_by_psql(url: str, path: Path) -> None:
    """Bring people in without a look at them."""
    default = 'ALTER TABLE "user" ALTER is_active SET DEFAULT true'
    copy = f"\\copy \"user\" (name, email) FROM '{path}' CSV HEADER"
    command = ["psql", url, "--quiet", "-c", default, "-c", copy]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def execute_many(url: str, path: Path) -> None:
    """Bring people in without a look at them."""
    insert = "INSERT INTO user (name, email, is_active) VALUES (?, ?, 1)"
    with path.open() as file, closing(sqlite3.connect(str(make_url(url).database))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        people = csv.reader(file)
        next(people)
        with connection:
            connection.executemany(insert, people)


def beside(url: str, path: Path, seconds: int) -> list[tuple[str, float, float]]:
    """Return the rates of the app's calls alone, and while an import runs."""
    few = path.with_name("few.csv")
    write_people(few, 20_000)  # a list counts as far as 10,000
    run([*IMPORT, few], url)
    if url.startswith("postgresql"):  # which does so by itself, a minute later
        subprocess.run(["psql", url, "--quiet", "-c", "VACUUM ANALYZE"], check=True)
    with Server(url, prefix=on_core(0)) as server:

        def rates() -> list[float]:
            return [
                measure(call, server.address + target, 12, seconds).rate
                for call, target in CALLS.items()
            ]

        alone = rates()
        with subprocess.Popen(
            [*IMPORT, path],
            cwd=ROOT,
            env=os.environ | {"DATABASE_URL": url},
            stdout=subprocess.DEVNULL,
        ) as process:
            time.sleep(2)
            meanwhile = rates()
            assert process.poll() is None, "more rows are needed"
            process.kill()
    return list(zip(CALLS, alone, meanwhile, strict=True))


def main(
    number: Annotated[int, typer.Option(help="How many people")] = 1_000_000,
    seconds: Annotated[int, typer.Option(help="How long each call is measured")] = 3,
) -> None:
    """Measure on both databases and print a table for each."""
    with tempfile.TemporaryDirectory() as folder, debian_postgresql() as server:
        all_of_them, a_tenth = Path(folder, "all.csv"), Path(folder, "tenth.csv")
        write_people(all_of_them, number)
        write_people(a_tenth, number // 10)

        def new_database(kind: str, name: str) -> str:
            url = f"sqlite:///{folder}/{name}.db"
            if kind == "PostgreSQL":
                create = ["psql", server, "--quiet", "-c", f"CREATE DATABASE {name}"]
                subprocess.run(create, check=True)
                url = make_url(server).set(database=name).render_as_string()
            create_tables(url)
            return url

        for kind in ("SQLite", "PostgreSQL"):
            table = Table("", "without", "with import", "ratio", title=kind)

            def add(what: str, before: float, after: float, table: Table = table) -> None:
                table.add_row(what, f"{before:,.0f}", f"{after:,.0f}", f"{after / before:.2f}")

            bar = new_database(kind, "bar")
            started = time.monotonic()
            if kind == "SQLite":
                execute_many(bar, all_of_them)
            else:
                copy_by_psql(bar, all_of_them)
            before = number / (time.monotonic() - started)
            less = run([*IMPORT, a_tenth], new_database(kind, "tenth"))
            everybody = new_database(kind, "everybody")
            started = time.monotonic()
            more = run([*IMPORT, all_of_them], everybody)
            after = number / (time.monotonic() - started)
            add("rows per second", before, after)
            add(f"MB for {number // 10:,}, for {number:,}", less, more)
            empty = new_database(kind, "beside")
            for call, alone, meanwhile in beside(empty, all_of_them, seconds):
                add(f"{call}, per second", alone, meanwhile)
            Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
