"""Who imports whom: the rooms of the house, downwards and in no circle."""

import ast
import re
import sys
from pathlib import Path

import pytest

from tests.processes import run_python
from tests.server import ROOT

CORE = sorted(f"core/{path.name}" for path in (ROOT / "core").glob("*.py"))
# What each may import of ours, beside core.
ROOMS = {
    "main.py": {"crud", "database", "models", "schemas"},
    "crud.py": {"models", "schemas"},
    "models.py": {"database"},
    "database.py": set(),
    "schemas.py": set(),
} | {name: set[str]() for name in CORE}


def imported(name: str, everywhere: bool = True) -> set[str]:
    """Return which of our modules a file imports: at its top, or anywhere in it."""
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module="core", names=names):
                found |= {f"core.{alias.name}" for alias in names}
            case ast.ImportFrom(module=str(module)):
                found.add(module)
    ours = {path.stem for path in ROOT.glob("*.py")} | {path.name for path in ROOT.iterdir()}
    return {module for module in found if module.partition(".")[0] in ours}


@pytest.mark.parametrize("name", [name for name in ROOMS if (ROOT / name).exists()])
def test_imports_lead_downwards(name: str) -> None:
    above = {module for module in imported(name) if not module.startswith("core")}
    if name == "database.py":
        assert "models" not in imported(name, everywhere=False)
        above.discard("models")  # inside a function only
    assert above <= ROOMS[name]


def test_core_has_no_circle() -> None:
    left = {name: imported(name) for name in CORE}
    while left:
        free = [name for name, needed in left.items() if not needed & {path(n) for n in left}]
        assert free, left
        for name in free:
            del left[name]


def path(name: str) -> str:
    """Return how the module of a file is called."""
    return name.removesuffix(".py").replace("/", ".")


# The users of a database, in what PostgreSQL says and in its URLs.
OF_DATABASES = r"(current|tcp)_user|o such \(user|enant or user|user=|user\b.*@|user name"


@pytest.mark.parametrize("name", CORE)
def test_core_knows_no_table(name: str) -> None:
    """Nothing that it says or does names a user, an email, or a path of this API."""
    nodes = list(ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))))
    docstrings = [node.value for node in nodes if isinstance(node, ast.Expr)]
    said = set()
    for node in nodes:
        match node:
            case ast.Name(id=text) | ast.Attribute(attr=text) | ast.arg(arg=text):
                said |= set(text.split("_"))
            case ast.Constant(value=str(text)) if node not in docstrings:
                said |= set(re.findall(r"[a-z]+", re.sub(OF_DATABASES, "", text).lower()))
    assert said & {"user", "users", "email", "emails"} == set()


def test_core_imports_by_itself(tmp_path: Path) -> None:
    """With nothing beside it, and whatever the environment says."""
    (tmp_path / "core").symlink_to(ROOT / "core")
    code = f"import {', '.join(map(path, CORE))}"
    done = run_python("-c", code, folder=tmp_path, DATABASE_URL="mysql://u:p@host/name")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_sessions_need_no_other_file() -> None:
    """Whoever has an app already copies this one: docs/your-app.md."""
    code = (ROOT / "core/sessions.py").read_text(encoding="utf-8")
    found = set(re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE))
    assert found - sys.stdlib_module_names == {"anyio", "fastapi", "sqlalchemy", "starlette"}
