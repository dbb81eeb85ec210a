"""What docs/migrations.md says works, step by step."""

import re
import shutil
import time
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from benchmarks.server import ROOT, Server
from core.settings import check_url
from tests.docs.reader import Reader
from tests.processes import copy_app, debian_postgresql

PAGE = (ROOT / "docs" / "migrations.md").read_text()
ADD, RENAME, SEARCH = (
    PAGE[PAGE.index(title) :].split("\n## ")[0]
    for title in ("Add a column", "Rename a column", "Make search fast")
)


@pytest.fixture
def reader(tmp_path: Path, url: str) -> Reader:
    copy_app(tmp_path / "app")
    return Reader(tmp_path / "app", url)


def test_add_a_column_and_rename_it_without_stopping(reader: Reader, tmp_path: Path) -> None:
    """The code before and the code after each step answer on the same tables, side by side."""
    reader.follow(ADD)
    _, *steps = re.split(r"^(?=\*\*\d\.)", RENAME, flags=re.MULTILINE)
    assert len(steps) == 4
    names = ["phone", "phone", "mobile", "mobile", "mobile"]
    with Server(reader.url, folder=reader.folder) as server:
        server.client.patch("/users/1", json={"phone": "0"})
    for number, step in enumerate(steps):
        before = tmp_path / f"before{number}"
        shutil.copytree(reader.folder, before)
        with Server(reader.url, folder=before) as old:
            reader.follow(step)
            with Server(reader.url, folder=reader.folder) as new:
                servers = [(old, names[number]), (new, names[number + 1])]
                for server, name in servers:  # what is there from the step before
                    assert server.client.get("/users/1").json()[name] == str(number)
                for writer, written in servers:
                    body = {"name": "Bob", "email": "bob@example.com", written: "one"}
                    path = writer.client.post("/users", json=body).headers["Location"]
                    for server, name in servers:
                        assert server.client.get(path).json()[name] == "one"
                    writer.client.patch(path, json={written: "two"})
                    for server, name in servers:
                        assert server.client.get(path).json()[name] == "two"
                    assert writer.client.delete(path).status_code == 200
                # Old code has the last word, which must not be forgotten in the next step.
                new.client.patch("/users/1", json={names[number + 1]: "new"})
                old.client.patch("/users/1", json={names[number]: str(number + 1)})


def write_search(reader: Reader) -> tuple[str, str]:
    """Write the migration; return what the command prints with the extension and without."""
    _, success, failure = re.findall(r"```console\n(.*?)```", SEARCH, re.DOTALL)
    reader.follow(SEARCH.split("```console\n" + success)[0])
    path = reader.newest_migration()
    path.write_text(
        path.read_text().replace("import sqlalchemy", "import sys\n\nimport sqlalchemy")
    )
    return success, failure


def test_search_without_the_extension(reader: Reader) -> None:
    """SQLite needs none, and the PostgreSQL that comes along has none."""
    reader.run("$ python -m examples.manage init-db\nThe tables are there.\n")
    success, failure = write_search(reader)
    reader.run(success if reader.url.startswith("sqlite") else failure)


def test_search_with_the_extension(tmp_path: Path) -> None:
    """The statement of the app uses the indexes."""
    with debian_postgresql() as url:
        copy_app(tmp_path / "app")
        reader = Reader(tmp_path / "app", check_url(url))
        reader.run("$ python -m examples.manage init-db\nThe tables are there.\n")
        success, _ = write_search(reader)
        reader.run(success)
        reader.run("$ alembic check\nNo new upgrade operations detected.\n")
        engine = create_engine(reader.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection, Server(url, folder=reader.folder) as server:
            many = """
                INSERT INTO "user" (name, email, is_active)
                SELECT md5(n::text), md5(n::text) || '@example.com', true
                FROM generate_series(1, 20000) AS n
            """
            connection.execute(text(many))
            connection.execute(text("VACUUM ANALYZE"))
            assert server.client.get("/users?query=C4CA4238A0B9").json()[0]["id"] == 1
            used = "SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE indexrelname ~ 'trgm'"
            deadline = time.monotonic() + 10
            while connection.scalar(text(used)) != 2:
                assert time.monotonic() < deadline, "the indexes were not used"
                time.sleep(0.1)
        reader.run(
            success.replace("upgrade head", "downgrade -1").replace(
                "upgrade 8e52f3c6d741 -> 3fa91c60de27", "downgrade 3fa91c60de27 -> 8e52f3c6d741"
            )
        )
