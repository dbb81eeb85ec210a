"""The parts of docs/tutorial.md; `python -m tests.docs.tutorial` writes docs/steps."""

import re
import shutil
import tempfile
from pathlib import Path

from tests.docs.reader import Reader
from tests.processes import copy_app
from tests.server import ROOT

PAGE = ROOT / "docs" / "tutorial.md"
STEPS = ROOT / "docs" / "steps"
TYPED = 11  # the steps of the parts in which something is typed


def steps(text: str) -> dict[int, str]:
    """Return the text of each step by its number."""
    tutorial = re.split(r"^### ", text, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.split(r"^## (\d+)\. .*\n", tutorial, flags=re.MULTILINE)
    return {int(number): step for number, step in zip(found[1::2], found[2::2])}


def errors(text: str) -> list[str]:
    """Return the sections of the list of errors."""
    return re.split(r"^### ", text, flags=re.MULTILINE)[1:]


def pupil(parent: Path) -> Reader:
    """Return somebody who begins with an empty folder, and a copy of this repository beside it."""
    (parent / "lesson").mkdir()
    copy_app(parent / "repository")
    return Reader(parent / "lesson", repository=parent / "repository")


def files(folder: Path) -> dict[str, str]:
    """Return the Python files of a folder."""
    return {path.name: path.read_text() for path in sorted(folder.glob("*.py"))}


if __name__ == "__main__":
    shutil.rmtree(STEPS, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        reader = pupil(Path(name))
        for number, step in steps(PAGE.read_text()).items():
            print(number)
            if number > TYPED:
                break
            reader.follow(step)
            folder = STEPS / f"{number:02}"
            folder.mkdir(parents=True)
            for file, code in files(reader.folder).items():
                (folder / file).write_text(code)
