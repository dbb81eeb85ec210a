"""Somebody who types what docs/tutorial.md says; `python -m tests.tutorial` writes docs/steps."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.reader import change
from tests.server import ROOT, Server, copy_app
from tests.test_examples import running_postgres

PAGE = ROOT / "docs" / "tutorial.md"
HERE = "localhost:8000"
STEPS = ROOT / "docs" / "steps"
TYPED = 11  # the steps of the parts in which something is typed


def blocks(text: str) -> list[tuple[str, str, str]]:
    """Return the language, the words after it and the content of each block of code."""
    return re.findall(r"^```(\w+) ?([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def steps(text: str) -> dict[int, str]:
    """Return the text of each step by its number."""
    tutorial = re.split(r"^### ", text, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.split(r"^## (\d+)\. .*\n", tutorial, flags=re.MULTILINE)
    return {int(number): step for number, step in zip(found[1::2], found[2::2])}


def errors(text: str) -> list[str]:
    """Return the sections of the list of errors."""
    return re.split(r"^### ", text, flags=re.MULTILINE)[1:]


class Pupil:
    """Somebody who begins with an empty folder, and does what each step says.

    Beside it is a copy of this repository, for what is to be done there.
    """

    def __init__(self, parent: Path) -> None:
        self.folder = parent / "lesson"
        self.folder.mkdir()
        self.repository = parent / "repository"
        copy_app(self.repository)
        bin_folder = Path(sys.executable).parent
        self.environment = os.environ | {
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def follow(self, step: str) -> None:
        """Write and change the files, run the commands, and compare what they print."""
        talk = where = ""  # in Python, where names stay until the step ends
        self.ended = ExitStack()
        self.server: Server | None = None
        for kind, file, block in blocks(step):
            if kind == "python" and file.endswith(" +"):
                path = self.folder / file.removesuffix(" +")
                path.write_text(f"{path.read_text()}\n\n{block}")
            elif kind == "python" and file:
                (self.folder / file).write_text(block)
            elif kind == "python":  # shown, not typed
                assert any(block in path.read_text() for path in ROOT.glob("*.py")), block
            elif kind == "diff":
                change(self.folder, block)
            elif kind == "pycon":
                talk += f"{block}\n"
                where = file
            elif kind == "console" and file in ("postgresql", "stopped"):
                self.run_on_postgresql(block, file == "postgresql")
            elif kind == "console":
                self.run(block, self.repository if file == "repository" else self.folder)
        if talk:
            folder = self.repository if where == "repository" else self.folder
            (folder / "talk.txt").write_text(talk)
            done = self.shell("python -m doctest -o ELLIPSIS talk.txt", folder)
            assert done == "", done
            (folder / "talk.txt").unlink()
        self.ended.close()

    def run(self, console: str, folder: Path) -> None:
        """Run each command; `localhost:8000` is a server of the folder as it is now."""
        scripts = [self.folder / name for name in re.findall(r"python (\w+\.py)", console)]
        code = {path: path.read_text() for path in scripts}
        if "8000" not in console + "".join(code.values()):
            self.compare(console, folder)
            return
        with Server("sqlite:///./app.db", folder=folder) as server:
            for path in scripts:
                path.write_text(code[path].replace(f"http://{HERE}", server.address))
            port = server.address.rpartition(":")[2]
            console = console.replace(HERE, server.address).replace("port 8000", f"port {port}")
            self.compare(console, folder)
            for path in scripts:
                path.write_text(code[path])

    def run_on_postgresql(self, console: str, running: bool) -> None:
        """Run each command; one server lives on while PostgreSQL is stopped and started again."""
        if running:
            data = self.repository / "postgresql-data"
            self.postgresql, url = self.ended.enter_context(running_postgres(data))
            self.ended.callback(self.postgresql.terminate)
            if self.server is None:
                self.server = self.ended.enter_context(Server(url, folder=self.repository))
        else:
            self.postgresql.terminate()
            self.postgresql.wait()
        assert self.server
        self.compare(console.replace(HERE, self.server.address), self.repository)

    def compare(self, console: str, folder: Path) -> None:
        """Compare what each command prints with the lines below it; `...` stands for any lines."""
        for command, expected in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", console, re.MULTILINE):
            printed = re.sub(r"in \d+\.\d\ds", "in 0.50s", self.shell(command, folder))
            pattern = re.escape(expected.strip()).replace(re.escape("..."), "(?s:.*)")
            if not re.fullmatch(pattern, printed.strip()):
                raise AssertionError(f"{command}\n{printed}\n--- instead of\n{expected}")

    def shell(self, command: str, folder: Path) -> str:
        """Return what a command prints in a folder."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return done.stdout


def files(folder: Path) -> dict[str, str]:
    """Return the Python files of a folder."""
    return {path.name: path.read_text() for path in sorted(folder.glob("*.py"))}


if __name__ == "__main__":
    shutil.rmtree(STEPS, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        pupil = Pupil(Path(name))
        for number, step in steps(PAGE.read_text()).items():
            print(number)
            if number > TYPED:
                break
            pupil.follow(step)
            folder = STEPS / f"{number:02}"
            folder.mkdir(parents=True)
            for file, code in files(pupil.folder).items():
                (folder / file).write_text(code)
