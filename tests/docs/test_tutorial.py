"""Whoever types what the tutorial says sees what it says, in both languages."""

import re
import shutil
from pathlib import Path

from core.settings import check_url
from tests.docs.reader import blocks
from tests.docs.tutorial import PAGE, STEPS, TYPED, errors, files, pupil, steps
from tests.processes import running_postgres
from tests.server import ROOT, Server


def test_step_by_step(tmp_path: Path) -> None:
    """Each step works, and docs/steps has the folder as it is after it."""
    reader = pupil(tmp_path)
    for number, step in steps(PAGE.read_text()).items():
        if blocks(step):  # the last one says where to go from here
            reader.follow(step)
        kept = files(STEPS / f"{min(number, TYPED):02}")
        assert files(reader.folder) == kept, "after a change: python -m tests.docs.tutorial"
    for section in errors(PAGE.read_text()):
        reader.follow(section)


def test_what_is_to_be_installed() -> None:
    """The packages are those of the app, in the versions that it needs."""
    (packages,) = re.findall(r"^pip install ('.*)$", PAGE.read_text(), re.MULTILINE)
    required = [
        line for path in ROOT.glob("requirements*.txt") for line in path.read_text().splitlines()
    ]
    for package in packages.replace("'", "").split():
        assert any(line == package or line.startswith(f"{package}>=") for line in required)


def test_what_was_typed_with_the_database_switched_off(tmp_path: Path) -> None:
    shutil.copytree(STEPS / f"{TYPED:02}", tmp_path / "lesson")
    code = tmp_path / "lesson" / "database.py"
    with running_postgres(tmp_path / "data") as (process, url):
        code.write_text(code.read_text().replace("sqlite:///./app.db", check_url(url)))
        with Server(url, folder=tmp_path / "lesson") as server:
            assert server.client.get("/users").json() == []
            process.terminate()
            process.wait()
            assert server.client.get("/users").status_code == 500
