"""What docs/build-on-it.md says works, word for word."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.reader import Reader
from tests.processes import copy_app, needs, run_python
from tests.server import ROOT, Server

PAGE = (ROOT / "docs" / "build-on-it.md").read_text()
CALLS, TEST, WITHOUT, SESSION, DEPENDENCY, FRONT_END = re.split(
    r"^## .*\n", PAGE, flags=re.MULTILINE
)[1:]


@pytest.fixture
def reader(tmp_path: Path, url: str) -> Reader:
    """Somebody with a copy of the app."""
    copy_app(tmp_path / "app")
    return Reader(tmp_path / "app", url)


def test_a_table_and_its_calls_in_a_new_database(reader: Reader) -> None:
    reader.follow(CALLS, leave_out=("migration",))


def test_a_table_and_its_calls_in_a_database_with_users(reader: Reader) -> None:
    reader.run("$ python -m examples.manage init-db\nThe tables are there.\n")
    reader.follow(CALLS)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_its_test(reader: Reader) -> None:
    reader.follow(CALLS, leave_out=("console",))
    reader.follow(TEST.replace("2 passed", "...2 passed..."))
    assert not (reader.folder / "app.db").exists()


TASK = '''

class Task(Base):
    """Something to do; with columns as a course's user has them."""

    __tablename__ = "task"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    phone: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("user.id"))
'''


@pytest.mark.timeout(400)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_the_tests_with_tables_of_ones_own(url: str, tmp_path: Path) -> None:
    """What the suite says of tables and migrations goes for whoever has added some."""
    leave_out = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "*.db*")
    shutil.copytree(ROOT, tmp_path / "own", ignore=leave_out)
    reader = Reader(tmp_path / "own", url)
    reader.follow(CALLS, leave_out=("console",))
    models = reader.folder / "models.py"
    imports = "from datetime import datetime\nfrom sqlalchemy import DateTime\n"
    models.write_text(f"{imports}{models.read_text()}{TASK}")
    for command in ("upgrade head", "revision --autogenerate -m own", "upgrade head", "check"):
        printed = reader.shell(f"alembic {command}", reader.folder)
    assert printed == "No new upgrade operations detected.\n"
    suite = "tests/test_takeover.py tests/test_migrations.py tests/test_backup.py"
    printed = reader.shell(f"pytest -n 2 {suite}", reader.folder, seconds=300)
    assert re.search(r"^\d+ passed in", printed, re.MULTILINE), printed


@pytest.mark.timeout(400)
def test_without_users(url: str, tmp_path: Path) -> None:
    """On what is left, a table of books; and the tests that are left pass."""
    leave_out = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "*.db*")
    shutil.copytree(ROOT, tmp_path / "library", ignore=leave_out)
    reader = Reader(tmp_path / "library", url)
    (taken_away,) = re.findall(r"```sh without\n(.*?)```", WITHOUT, re.DOTALL)
    assert reader.shell(taken_away, reader.folder) == ""
    reader.follow(WITHOUT, leave_out=("without", "suite"))
    if url.startswith("sqlite"):  # once: they run on both databases
        (suite,) = re.findall(r"```console suite\n\$ (.*)\n", WITHOUT)
        printed = reader.shell(suite, reader.folder, seconds=280)
        assert re.search(r"^\d+ passed in", printed, re.MULTILINE), printed
    left = " ".join(path.read_text() for path in reader.folder.glob("*.py"))
    assert "User" not in left


def ask(reader: Reader, module: str, path: str) -> str:
    """Return what a call of a file that the page has written prints and answers."""
    script = f"import {module}; from fastapi.testclient import TestClient\n"
    script += f"with TestClient({module}.app) as client: print(client.get('{path}').json())"
    folder = reader.folder
    done = run_python("-c", script, folder=folder, PYTHONPATH=str(folder), DATABASE_URL=reader.url)
    return reader.plain(done.stdout + done.stderr)


def test_a_session_after_the_answer(reader: Reader) -> None:
    reader.follow(SESSION)
    assert ask(reader, "report", "/report") == "0 users\n{'detail': \"Look at the server's log\"}"


def test_a_dependency_that_yields(reader: Reader) -> None:
    reader.follow(DEPENDENCY)
    printed = "0 users\n{'detail': \"Look at the server's log\"}"
    assert ask(reader, "audited", "/audited") == printed
    path = reader.folder / "audited.py"
    path.write_text(path.read_text().replace(', scope="function"', ""))
    assert "DependencyScopeError" in ask(reader, "audited", "/audited")


ADMIN = """
import { dataProvider as users } from "./dataProvider.js";
const list = (page, order = "ASC", filter = {}) => users.getList("users", {
  pagination: { page, perPage: 2 }, sort: { field: "name", order }, filter,
});
for (const name of ["Ada", "Bob", "Eve"]) {
  await users.create("users", { data: { name, email: `${name}@example.com` } });
}
const { data: eve } = await users.getOne("users", { id: 3 });
await users.update("users", { id: 3, data: { ...eve, is_active: false }, previousData: eve });
await users.delete("users", { id: 1, previousData: {} });
const taken = { name: "Bob", email: "bob@example.com" };
const refused = await users.create("users", { data: taken }).catch((error) => error.message);
await users.updateMany("users", { ids: [2, 3], data: { is_active: true } });
const names = ({ data, total }) => [total, ...data.map((user) => user.name)].join();
console.log([
  names(await list(1, "DESC")), names(await list(1, "ASC", { q: "o", is_active: true })),
  names(await list(1, "ASC", { is_active: false })), refused,
  (await users.getMany("users", { ids: [2, 3] })).data.length,
  (await users.deleteMany("users", { ids: [2, 3] })).data, names(await list(1)),
].join(" "));
"""


def test_a_data_provider_of_react_admin(reader: Reader) -> None:
    """As react-admin calls it, in Node."""
    node = shutil.which("node")
    needs(node, "Node")
    assert node
    (code,) = re.findall(r"```js dataProvider.js\n(.*?)```", FRONT_END, re.DOTALL)
    with Server(reader.url, folder=reader.folder) as server:
        code = code.replace("http://localhost:8000", server.address)
        (reader.folder / "dataProvider.js").write_text(code)
        (reader.folder / "admin.mjs").write_text(ADMIN)
        (reader.folder / "package.json").write_text('{"type": "module"}')
        done = subprocess.run(
            [node, "admin.mjs"], cwd=reader.folder, capture_output=True, text=True
        )
    assert (done.stdout, done.stderr) == (
        "2,Eve,Bob 2,Bob,Eve 0 Email already registered 2 2,3 0\n",
        "",
    )
