"""Somebody who reads a page of docs/ and does what it says, word for word.

What a block of code is for stands behind its language:

    ```python notes.py    write that file; with ` +` behind it: write it at the end of that file
    ```python migration   the file that Alembic has written has this, or leaves it to us
    ```python             is shown only, and stands like that in a file of this repository
    ```diff               change the file that it fits
    ```console            type what follows each `$`, and compare what is printed
    ```pycon              type it in Python, where names stay until the next file or command

`repository` behind the last two says that it is done there and not in the reader's own folder.
Blocks in other languages are only shown.
"""

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.processes import running_postgres
from tests.server import ROOT, Server

HERE = re.compile("localhost:800[01]")


def blocks(text: str) -> list[tuple[str, str, str]]:
    """Return the language, the words after it and the content of each block of code."""
    return re.findall(r"^```(\w+) ?([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(console: str) -> list[tuple[str, str]]:
    """Return the commands of a console, each with what it prints."""
    found = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", console, re.MULTILINE)
    assert found, f"nothing to type in\n{console}"
    return found


class Reader:
    """Somebody who does all that a page says, in a folder, and in a copy of this repository."""

    def __init__(
        self, folder: Path, url: str = "sqlite:///./app.db", repository: Path | None = None
    ) -> None:
        self.folder = folder
        self.url = url
        self.repository = repository or folder
        self.environment = os.environ | {
            "DATABASE_URL": url,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def follow(self, section: str, leave_out: tuple[str, ...] = ()) -> None:
        """Write and change the files, run the commands, and compare what they print.

        Blocks whose language, or the word after it, is in `leave_out`, are left out.
        """
        assert blocks(section), f"nothing to do in\n{section}"
        talk = ""  # in one Python, up to the next file or command
        talks_in = self.folder
        server: Server | None = None
        with ExitStack() as ended:
            for kind, what, block in blocks(section):
                place = self.repository if what == "repository" else self.folder
                if kind in leave_out or what in leave_out:
                    continue
                if kind in ("diff", "console") or (kind == "python" and what):
                    self.talk(talk, talks_in)
                    talk = ""
                if kind == "python" and what == "migration":
                    self.compare_or_write(block)
                elif kind == "python" and what.endswith(" +"):
                    path = self.folder / what.removesuffix(" +")
                    path.write_text(f"{path.read_text()}\n\n{block}")
                elif kind == "python" and what:
                    (self.folder / what).write_text(block)
                elif kind == "python":
                    code = (path.read_text() for path in ROOT.glob("*.py"))
                    assert any(block in text for text in code), block
                elif kind == "diff":
                    change(self.folder, block)
                elif kind == "pycon":
                    talk += f"{block}\n"
                    talks_in = place
                elif kind == "console" and what == "postgresql":
                    data = self.repository / "postgresql-data"
                    postgresql, url = ended.enter_context(running_postgres(data))
                    ended.callback(postgresql.terminate)
                    # One server lives on while PostgreSQL is stopped and started again.
                    server = server or ended.enter_context(Server(url, folder=self.repository))
                    self.compare(HERE.sub(server.address, block), self.repository)
                elif kind == "console" and what == "stopped":
                    assert server
                    postgresql.terminate()
                    postgresql.wait()
                    self.compare(HERE.sub(server.address, block), self.repository)
                elif kind == "console":
                    self.run(block, place)
            self.talk(talk, talks_in)

    def talk(self, talk: str, folder: Path) -> None:
        """Type all of it in a new Python, and compare what it says."""
        if talk:
            (folder / "talk.txt").write_text(talk)
            options = "-o ELLIPSIS -o NORMALIZE_WHITESPACE"
            printed = self.shell(f"python -m doctest {options} talk.txt", folder)
            assert printed == "", printed
            (folder / "talk.txt").unlink()

    def run(self, console: str, folder: Path | None = None) -> None:
        """Run each command; localhost:8000, or 8001, is a server of the folder as it is now."""
        folder = folder or self.folder
        scripts = [self.folder / name for name in re.findall(r"python (\w+\.py)", console)]
        code = {path: path.read_text() for path in scripts}
        if not re.search("800[01]", console + "".join(code.values())):
            self.compare(console, folder)
            return
        with Server(self.url, folder=folder) as server:
            for path in scripts:
                path.write_text(HERE.sub(server.address.removeprefix("http://"), code[path]))
            port = server.address.rpartition(":")[2]
            console = HERE.sub(server.address, console).replace("port 8000", f"port {port}")
            self.compare(console, folder)
            for path in scripts:
                path.write_text(code[path])

    def compare(self, console: str, folder: Path) -> None:
        """Compare what each command prints with the lines below it; `...` stands for any lines."""
        for command, expected in commands(console):
            printed = self.plain(self.shell(command, folder))
            pattern = re.escape(self.plain(expected)).replace(re.escape("..."), "(?s:.*)")
            if not re.fullmatch(pattern, printed):
                raise AssertionError(f"{command}\n{printed}\n--- instead of\n{expected}")

    def plain(self, output: str) -> str:
        """Leave out what is another each time."""
        output = output.replace(f"{self.folder}/", "").strip()
        output = re.sub(r"in \d+\.\d\ds", "in 0.50s", output)
        output = re.sub(r"INFO: +(Started server|Waiting for).*\n", "", output)
        # Debian's PostgreSQL has that extension, and the one that comes along has none.
        output = re.sub(
            r"Searches will look at every row, without pg_trgm: .*(\n|$)", "", output
        ).strip()
        output = re.sub(r"(Database: |cannot use )[^\s,:]+:\S*?(?=:? |\n|$)", r"\1URL", output)
        output = re.sub(r"(?<![^\W_])[0-9a-f]{12}(?![^\W_])", "REVISION", output)
        return re.sub(r"\d{4}-\d\d-\d\d_", "DATE_", output).replace(" ...  done", " done")

    def shell(self, command: str, folder: Path, seconds: int = 60) -> str:
        """Return what a command prints in a folder."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        return done.stdout

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


def change(folder: Path, diff: str) -> None:
    """Apply a diff to the one file of a folder that it fits."""
    lines = [line or " " for line in diff.splitlines()]
    before = "\n".join(line[1:] for line in lines if line[0] != "+")
    after = "\n".join(line[1:] for line in lines if line[0] != "-")
    (path,) = (path for path in folder.glob("*.py") if before in path.read_text())
    code = path.read_text()
    assert code.count(before) == 1
    path.write_text(code.replace(before, after))
