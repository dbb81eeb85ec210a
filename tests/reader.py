"""Somebody who reads a page of docs/ and does what it says, word for word."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.server import Server


class Reader:
    """Somebody who does all that the page says, in a copy of the app."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def follow(self, section: str) -> None:
        """Make the changes, run the commands, and compare what they print."""
        for kind, block in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL):
            if kind == "diff":
                change(self.folder, block)
            elif kind == "python":
                self.compare_or_write(block)
            elif "curl" in block:
                with Server(self.url, folder=self.folder) as server:
                    self.run(block.replace("localhost:8000", server.address))
            else:
                self.run(block)

    def newest_migration(self) -> Path:
        """Return the file that was written last."""
        versions = (self.folder / "migrations" / "versions").glob("*.py")
        return max(versions, key=lambda path: path.stat().st_mtime_ns)

    def compare_or_write(self, block: str) -> None:
        """Look whether Alembic has written that, or write it where it has left that to us."""
        path = self.newest_migration()
        written = path.read_text()
        if written.count("    pass\n") == 2:
            path.write_text(written[: written.index("def upgrade")] + block)
        else:
            assert block in written

    def run(self, console: str) -> None:
        """Run each command, and compare what it prints with the lines that follow."""
        for command, expected in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", console, re.MULTILINE):
            arguments = shlex.split(command)
            if arguments[0] == "python":
                arguments[0] = sys.executable
            elif arguments[0] in ("alembic", "uvicorn"):
                arguments[:1] = [sys.executable, "-m", arguments[0]]
            done = subprocess.run(
                arguments,
                cwd=self.folder,
                env=os.environ | {"DATABASE_URL": self.url, "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
            )
            # curl prints no line break at the end.
            assert self.plain(done.stdout).rstrip() == self.plain(expected).rstrip(), (
                f"{command}\n{done.stdout}"
            )

    def plain(self, output: str) -> str:
        """Leave out what is another each time."""
        output = output.replace(f"{self.folder}/", "")
        output = re.sub(r"INFO: +(Started server|Waiting for).*\n", "", output)
        output = re.sub(r"(Database: |cannot use )[^\s,:]+:\S*?(?=:? |\n)", r"\1URL", output)
        output = re.sub(r"(?<![^\W_])[0-9a-f]{12}(?![^\W_])", "REVISION", output)
        return re.sub(r"\d{4}-\d\d-\d\d_", "DATE_", output)


def change(folder: Path, diff: str) -> None:
    """Apply a diff to the one file of a folder that it fits."""
    lines = [line or " " for line in diff.splitlines()]
    before = "\n".join(line[1:] for line in lines if line[0] != "+")
    after = "\n".join(line[1:] for line in lines if line[0] != "-")
    (path,) = (path for path in folder.glob("*.py") if before in path.read_text())
    code = path.read_text()
    assert code.count(before) == 1
    path.write_text(code.replace(before, after))
