"""Back up the SQLite database of the app, and restore it; both also while the app runs.

    python -m core.backup create backup.db
    python -m core.backup restore backup.db

The database is the one that DATABASE_URL names. A copy of app.db by `cp` is none: what was written
last is in app.db-wal, and an app.db-wal that was left behind wins over an app.db put beside it.
"""

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url

from core.settings import Settings, load
from core.sqlite import path_of

USAGE = "usage: python -m core.backup create FILE | restore FILE"


def create(database: Path, backup: Path) -> str:
    """Write a backup to a new file; return what it holds. Raises SystemExit, with why it cannot."""
    if backup.exists():
        sys.exit(f"{backup} is there already: take another name")
    if not database.is_file():
        sys.exit(f"there is no {database} (in {Path.cwd()})")
    part = backup.with_name(f"{backup.name}.part")  # what is called `backup` is whole
    part.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(database)) as source:
            source.execute("VACUUM INTO ?", [str(part)])  # as of one moment
        found = look_at(part, database)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(backup)
    except (OSError, sqlite3.Error) as error:
        sys.exit(f"{database} cannot be copied to {backup}: {error}")
    finally:
        part.unlink(missing_ok=True)
    return f"{database} -> {backup}: {found}"


def restore(database: Path, backup: Path) -> str:
    """Put a backup in the place of what is there; return what it holds.

    It goes through SQLite, as one transaction, so that a killed app's app.db-wal is no danger, and
    a running app goes on with it. Raises SystemExit, with why it cannot; nothing has changed then.
    """
    found = look_at(backup, backup)
    version = version_of(backup)
    if version is None:
        sys.exit(f"{backup} is no backup of this app: see docs/migrations.md")
    if database.is_file() and version_of(database) not in (None, version):
        found += "; of another version: start the app again, it says what to do"
    try:
        with (
            closing(sqlite3.connect(backup)) as source,
            closing(sqlite3.connect(database)) as target,
        ):
            source.backup(target)
            target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        beside = ", ".join(f"{database}{end}" for end in ("", "-wal", "-shm"))
        sys.exit(
            f"{database} cannot be written ({error}): stop the app, remove {beside}; try again"
        )
    return f"{backup} -> {database}: {found}"


def look_at(path: Path, name: Path) -> str:
    """Return how many rows a database has; raises SystemExit if it is none, or not whole.

    `name` is what it is called there.
    """
    if not path.is_file():
        sys.exit(f"there is no {name} (in {Path.cwd()})")
    try:
        with closing(sqlite3.connect(path)) as connection:
            # A row that no rule allows is no damage.
            connection.execute("PRAGMA ignore_check_constraints = ON")
            broken = connection.execute("PRAGMA integrity_check").fetchone()[0]
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            # Without what SQLite and an index of FTS5 have for themselves.
            names = [name for (name,) in tables if not name.startswith(("sqlite_", "ix_"))]
            count = 'SELECT count(*) FROM "{}"'
            rows = [connection.execute(count.format(name)).fetchone()[0] for name in names]
    except sqlite3.Error as error:
        sys.exit(f"{name} cannot be read as a database: {error}")
    if broken != "ok":
        sys.exit(f"{name} is damaged: {broken}")
    if not names:
        sys.exit(f"{name} has no tables")
    return ", ".join(f"{number} in {name}" for name, number in zip(names, rows))


def version_of(path: Path) -> set[str] | None:
    """Return what migrations have been run on a database, or None if it has never had any."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            return {name for (name,) in connection.execute("SELECT * FROM alembic_version")}
    except sqlite3.Error:
        return None


def main(arguments: list[str]) -> None:
    """Do what the command line asks for."""
    match arguments:
        case ["create" | "restore" as what, file]:
            path = path_of(make_url(load(Settings).database_url))
            if path is None:
                sys.exit("DATABASE_URL is no path of an SQLite file: see docs/production.md")
            database = Path(os.path.relpath(path))
            print((create if what == "create" else restore)(database, Path(file)))
        case _:
            sys.exit(USAGE)


if __name__ == "__main__":
    main(sys.argv[1:])
