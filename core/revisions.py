"""What the files in migrations/versions say. They are read as text: Alembic takes 70 ms to load."""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

MIGRATIONS = Path(__file__).parent.parent / "migrations"


class OutdatedError(SQLAlchemyError):
    """The tables are not those that the code needs; the text says what to do."""


def files() -> Iterator[ast.Module]:
    """Read each revision."""
    for path in sorted((MIGRATIONS / "versions").glob("*.py")):
        yield ast.parse(path.read_text(encoding="utf-8"))


def revision_in(file: ast.Module) -> tuple[str, set[str]]:
    """Return the revision of a file, and those that it follows."""
    values = {}
    for line in file.body:
        match line:  # as revision = "..." or as revision: str = "..."
            case (
                ast.Assign(targets=[ast.Name(name)], value=ast.expr() as value)
                | ast.AnnAssign(target=ast.Name(name), value=ast.expr() as value)
            ) if name in ("revision", "down_revision"):
                values[name] = ast.literal_eval(value)
    before = values["down_revision"] or ()  # None for the first one, two after a merge
    return values["revision"], {before} if isinstance(before, str) else set(before)


def followed() -> dict[str, set[str]]:
    """Return the revisions that this code knows, each with those that it follows.

    Raises OutdatedError if a file is missing.
    """
    found = dict(map(revision_in, files()))
    lost = set().union(*found.values()) - found.keys()
    if lost:
        missing = f"migrations/versions lacks {min(lost)}, which others follow"
        raise OutdatedError(f"{missing}: get it back")
    return found


def newest(followed: Mapping[str, set[str]]) -> set[str]:
    """Return the revisions that no other follows: one, or several until they are merged."""
    return followed.keys() - set().union(*followed.values())


def repeatable() -> dict[str, str]:
    """Return the tables that a revision makes right whatever they look like, with that revision.

    Its file says `repeatable = True`.
    """
    found: dict[str, str] = {}
    for file in files():
        values = {
            target.id: ast.literal_eval(line.value)
            for line in file.body
            if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant)
            for target in line.targets
            if isinstance(target, ast.Name)
        }
        if values.get("repeatable"):
            tables = (call for call in calls_in(file) if name_of(call) == "Table")
            found |= {texts(call)[0]: values["revision"] for call in tables}
    return found


def columns() -> dict[str, set[str]]:
    """Return the columns that revisions have created in each table, by all names of it."""
    found: dict[str, set[str]] = defaultdict(set)
    for node in (node for file in files() for node in ast.walk(file)):
        match node:
            case ast.With(items=[ast.withitem(ast.Call() as batch, ast.Name(name))]):
                # with op.batch_alter_table("user") as batch_op: batch_op.add_column(...)
                for call in calls_in(node):
                    match call.func:
                        case ast.Attribute(value=ast.Name(id)) if id == name:
                            note(call, texts(batch) + texts(call), found)
            case ast.Call():
                note(node, texts(node), found)
    return found


def searches(kind: str = "search") -> dict[str, tuple[str, ...]]:
    """Return the tables for which revisions have created an index of a search, with its columns.

    `kind` is "search" for that of PostgreSQL, "fts" for that of SQLite.
    """
    found: dict[str, tuple[str, ...]] = {}
    by_revision = {revision_in(file)[0]: file for file in files()}
    # As they follow each other, and not by the names of their files.
    in_order = TopologicalSorter(followed()).static_order()
    upgrades = (
        part
        for revision in in_order
        for part in by_revision[revision].body
        if isinstance(part, ast.FunctionDef) and part.name == "upgrade"
    )
    for call in (call for upgrade in upgrades for call in calls_in(upgrade)):
        what, _, about = name_of(call).partition("_")
        match what, texts(call):
            case "create", [table, *columns] if about == f"{kind}_index":
                found[table] = tuple(columns)
            case "drop", [table, *_] if about == f"{kind}_index":
                found.pop(table, None)
    return found


def note(call: ast.Call, words: list[str], found: dict[str, set[str]]) -> None:
    """Enter in `found` the columns that a call creates; `words` begin with the table's name."""
    match name_of(call), words:
        case "Table" | "create_table" | "add_column", [table, *_]:
            columns = (each for each in calls_in(call) if name_of(each) == "Column")
            found[table] |= {texts(column)[0] for column in columns if texts(column)}
        case "alter_column", [table, *_]:
            new = (key.value for key in call.keywords if key.arg == "new_column_name")
            found[table] |= {str(name.value) for name in new if isinstance(name, ast.Constant)}
        case "rename_table", [old, new_name]:  # one set, for what comes later as well
            found[old] = found[new_name] = found[old] | found[new_name]


def calls_in(node: ast.AST) -> Iterator[ast.Call]:
    """Find each call within a piece of code."""
    return (each for each in ast.walk(node) if isinstance(each, ast.Call))


def name_of(call: ast.Call) -> str:
    """Return the name of what is called, without what stands before the last dot."""
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def texts(call: ast.Call) -> list[str]:
    """Return the arguments of a call that are plain texts, in their order."""
    arguments = (*call.args, *(key.value for key in call.keywords))
    return [
        each.value
        for each in arguments
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    ]
