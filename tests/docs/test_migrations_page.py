"""What docs/migrations.md says works, step by step."""

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.reader import Reader
from tests.processes import copy_app, run_python
from tests.server import ROOT, Server

PAGE = (ROOT / "docs" / "migrations.md").read_text()
ADD, RENAME = (
    PAGE[PAGE.index(title) :].split("\n## ")[0] for title in ("Add a column", "Rename a column")
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
    ada = {"name": "Ada Lovelace", "email": "ada@example.com"}
    with Server(reader.url, folder=reader.folder) as server:
        server.client.patch("/users/1", json={"phone": "0"})
        # A client of the days before the column.
        assert server.client.put("/users/1", json=ada).json()["phone"] == "0"
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
                    writer.client.put(path, json=body | {written: "three"})
                    writer.client.put(path, json={"name": "Bob", "email": "bob@example.com"})
                    for server, name in servers:
                        assert server.client.get(path).json()[name] == "three"
                    assert writer.client.delete(path).status_code == 200
                # Old code has the last word, which must not be forgotten in the next step.
                new.client.patch("/users/1", json={names[number + 1]: "new"})
                old.client.patch("/users/1", json={names[number]: str(number + 1)})


def test_people_from_a_file(url: str, tmp_path: Path) -> None:
    """The commands print what stands below them."""
    section = PAGE[PAGE.index("Bring people from a file") :].split("\n## ")[0]
    (people,) = re.findall(r"```csv\n(.*?)```", section, re.DOTALL)
    (console,) = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    copy_app(tmp_path / "app")
    (tmp_path / "app" / "people.csv").write_text(people)
    *steps, last = re.findall(r"^\$ (.+)\n((?:[^$].*\n)*)", console, re.MULTILINE)
    assert len(steps) == 2
    assert last == ("uvicorn main:app", "")
    for command, expected in steps:
        done = run_python(*command.split()[1:], folder=tmp_path / "app", DATABASE_URL=url)
        assert done.stdout == expected
    with Server(url, folder=tmp_path / "app") as server:
        names = [user["name"] for user in server.client.get("/users").json()]
        assert names == ["Éric Blanc", "Zoé Noir"]
        sent = server.client.get(re.findall(r"<http://localhost:8000(/.*?)>", section)[0])
        assert sent.text == (tmp_path / "app" / "everybody.csv").read_text("utf-8")
    rejected = (tmp_path / "app" / "rejected.csv").read_text("utf-8-sig").splitlines()
    assert [line.partition(";4;")[0] for line in rejected[1:2]] == ["Zoé;Noir;zoe@example"]
