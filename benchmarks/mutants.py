"""How strong the tests are: change the code in one place at a time, and see whether a test fails.

`python -m benchmarks.mutants 100` draws that many changes from all that are possible, makes each in
a copy of this repository, runs the quick tests there, and prints those that no test has noticed.
"""

import ast
import copy
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

from tests.server import ROOT

PAIRS = {"Eq": "NotEq", "Lt": "LtE", "Gt": "GtE", "In": "NotIn", "Is": "IsNot", "And": "Or"}
SWAPPED = {getattr(ast, name): getattr(ast, twin) for name, twin in PAIRS.items()}
SWAPPED |= {twin: name for name, twin in SWAPPED.items()}
STATEMENTS = (ast.Assign, ast.AugAssign, ast.Raise, ast.Delete, ast.Expr)


def changes(node: ast.AST) -> Iterator[ast.AST | None]:
    """Yield what may stand in the place of a node; None takes it away."""
    if type(node) in SWAPPED:
        yield SWAPPED[type(node)]()
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, str)):
        yield ast.Constant(node.value * 2 or 1)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, STATEMENTS):
        yield ast.Pass()
    elif isinstance(node, ast.Return) and node.value:
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.keyword):
        yield None


def is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def mutants(code: str) -> Iterator[str]:
    """Yield the code with each of all possible changes, but for docstrings and annotations."""
    tree = ast.parse(code)
    for number, parent in enumerate(ast.walk(tree)):
        for field, value in ast.iter_fields(parent):
            nodes = value if isinstance(value, list) else [value]
            for index, node in enumerate(nodes):
                if not isinstance(node, ast.AST) or field in ("annotation", "returns"):
                    continue
                if is_docstring(parent) or is_docstring(node):
                    continue
                for change in [None] if field == "decorator_list" else changes(node):
                    changed = copy.deepcopy(tree)
                    twin = list(ast.walk(changed))[number]
                    if nodes is not value:
                        setattr(twin, field, change)
                    else:
                        getattr(twin, field)[index : index + 1] = [change] if change else []
                    yield ast.unparse(ast.fix_missing_locations(changed))


def survives(folder: str) -> bool:
    """Tell whether the quick tests pass in a folder; first some that take least time."""
    files = [f"tests/test_{name}.py" for name in ("main", "crud", "lists", "errors", "sessions")]
    command = [sys.executable, "-m", "pytest", "-x", "-n2", "-p", "no:cacheprovider"]
    tries = [*command, "-k", "not postgresql", *files], command
    return all(
        not subprocess.run(each, cwd=folder, capture_output=True).returncode for each in tries
    )


def main(number: int) -> None:
    """Print the mutants that survive, and how many were killed."""
    paths = sorted([*ROOT.glob("*.py"), *ROOT.glob("core/*.py")])
    every = [(path, code) for path in paths for code in mutants(path.read_text())]
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        copied = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__")
        shutil.copytree(ROOT, folder, dirs_exist_ok=True, ignore=copied)
        assert survives(folder), "the tests fail without any change"
        for path, code in random.Random(1).sample(every, number):
            place = Path(folder) / path.relative_to(ROOT)
            place.write_text(code)
            if survives(folder):
                survivors += 1
                before = ast.unparse(ast.parse(path.read_text())).splitlines()
                print(*unified_diff(before, code.splitlines(), path.name, n=1), sep="\n")
            shutil.copy(path, place)
    print(f"{number - survivors} of {number} killed, drawn from {len(every)}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
