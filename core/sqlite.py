"""SQLite: what a connection is told first, and the file that it belongs to."""

import math
import os
import sqlite3
import time
from typing import Any

from sqlalchemy import URL, BindParameter, Connection, Engine, FromClause, event, exc
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.pool import ConnectionPoolEntry

from core.columns import as_stored

OTHER_FILE = (
    "{} is not the file that this app has opened: it was deleted, or another one was put in its "
    "place. Stop the app; to restore a backup, run python -m core.backup restore FILE"
)

File = tuple[int, int] | None
LOCK_LIMIT = "lock_limit"  # in the info of a connection, in milliseconds
SWITCH_LIMIT = 2  # seconds that a connection waits for others to make a new file one with a WAL

# ---- What each connection is told


@event.listens_for(Engine, "connect")
def prepare_sqlite(connection: Any, record: Any) -> None:
    """Give each new connection to SQLite what PostgreSQL has from the start."""
    if not hasattr(connection, "create_function"):
        return  # not SQLite
    connection.cursor().execute("PRAGMA foreign_keys = ON")
    # SQLite's own lower() knows only A to Z; a search for "éric" has to find "Éric".
    connection.create_function("lower", 1, lambda text: text and text.lower(), deterministic=True)


def use_wal(connection: Any, record: Any) -> None:
    """Let readers and the writer of an SQLite file not block each other."""
    deadline = time.monotonic() + SWITCH_LIMIT
    while True:
        try:
            connection.cursor().execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # Of several that start with a new file, one switches. SQLite does not let the others
            # wait for that, whatever their timeout.
            if kind_of_error(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def only_read(engine: Engine, limit: float) -> None:
    """Make the connections of an engine read-only, and end what takes longer than `limit` s."""

    @event.listens_for(engine, "connect")
    def make_read_only(connection: Any, record: ConnectionPoolEntry) -> None:
        connection.execute("PRAGMA query_only = ON")
        # SQLite asks each 10 ms or so whether to give up.
        record.info["deadline"] = math.inf
        too_late = lambda: time.monotonic() > record.info["deadline"]  # noqa: E731
        connection.set_progress_handler(too_late, 1_000_000)

    execute = engine.dialect.do_execute

    def execute_in_time(cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
        if context:
            context.root_connection.info["deadline"] = time.monotonic() + limit
        execute(cursor, statement, parameters, context)

    # Not by an event: SQLAlchemy is slower with each statement as soon as somebody listens.
    vars(engine.dialect)["do_execute"] = execute_in_time


def wait_for_lock(connection: Any, limit: int | None) -> None:
    """Let a connection of a pool wait that many milliseconds for a lock, None: as its URL says."""
    info, driver = connection.info, connection.driver_connection
    if info.get(LOCK_LIMIT) != limit:
        if "timeout" not in info:
            info["timeout"] = driver.execute("PRAGMA busy_timeout").fetchone()[0]
        info[LOCK_LIMIT] = limit
        driver.execute(f"PRAGMA busy_timeout = {info['timeout'] if limit is None else limit}")


def lock_for_writing(connection: Connection) -> None:
    """Let nobody else write to SQLite before the transaction ends; raises OperationalError if busy.

    What is read from now on is what the writes find. (PostgreSQL has `SELECT ... FOR UPDATE`.)
    """
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        if not driver.in_transaction:
            connection.exec_driver_sql("BEGIN IMMEDIATE")


class OwnCompiler(SQLiteCompiler):
    """Writes hints, and knows which values are stored and which are compared."""

    def get_from_hint_text(self, table: FromClause, text: str | None) -> str | None:
        """Return what follows a table, as `select(...).with_hint(table, ..., "sqlite")` says it.

        https://www.sqlite.org/lang_indexedby.html
        """
        return text

    def visit_bindparam(self, bindparam: BindParameter[Any], *args: Any, **more: Any) -> str:
        """Let a value in VALUES or SET have the type of what is stored."""
        if bindparam._is_crud:
            bindparam.type = as_stored(bindparam.type)
        return str(super().visit_bindparam(bindparam, *args, **more))  # type: ignore[no-untyped-call]


def kind_of_error(error: BaseException | None) -> int | None:
    """Return the kind of an error of SQLite, None: it is none. The lowest byte of a code is that.

    https://www.sqlite.org/rescode.html
    """
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


# ---- Which database it is


def in_memory(url: URL) -> bool:
    """Tell whether the database at `url` is an SQLite database without a file.

    SQLite has several names for that: https://www.sqlite.org/inmemorydb.html
    """
    nameless = url.database in (None, "", ":memory:", "file::memory:")
    return url.get_backend_name() == "sqlite" and (nameless or url.query.get("mode") == "memory")


opened: dict[str, File] = {}  # by path, which file it was when it was opened first


def keep_to_file(engine: Engine) -> None:
    """Raise an OperationalError as soon as the path of a database leads to another file, or none.

    Whoever has opened a file goes on with it after it was deleted: what is written then is gone.
    """
    path = path_of(engine.url)
    if path is None:
        return

    def look(*_: object) -> None:
        if path in opened and file_at(path) != opened[path]:
            raise exc.OperationalError("", None, sqlite3.OperationalError(OTHER_FILE.format(path)))

    @event.listens_for(engine, "connect")
    def note(connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["file"] = opened.setdefault(path, file_at(path))

    @event.listens_for(engine, "checkout")
    def look_again(connection: Any, record: ConnectionPoolEntry, proxy: Any) -> None:
        look()
        if record.info["file"] != opened.get(path):  # of before another start
            raise exc.DisconnectionError

    event.listen(engine, "do_connect", look)


def forget_file(url: URL) -> None:
    """Let the path of a database lead to another file from now on, as at a start."""
    opened.pop(path_of(url) or "", None)


def path_of(url: URL) -> str | None:
    """Return the whole path of a database, if it is a plain one."""
    plain = url.get_backend_name() == "sqlite" and not in_memory(url)
    name = url.database or ""
    return os.path.abspath(name) if plain and not name.startswith("file:") else None


def folder_that_is_closed(url: URL) -> str | None:
    """Return the folder of a database, if nobody here may write in it."""
    folder = os.path.dirname(path_of(url) or "")
    return folder if os.path.isdir(folder) and not os.access(folder, os.W_OK) else None


def file_at(path: str) -> File:
    """Return what tells a file from all others, if there is one at `path`."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
