"""The README tells the truth."""

import re
import subprocess
from pathlib import Path

from settings import Settings
from tests.server import ROOT, Server

README = (ROOT / "README.md").read_text()


def test_every_setting_is_documented() -> None:
    documented = re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE)
    assert documented == [name.upper() for name in Settings.model_fields]
    example = (ROOT / ".env.example").read_text()
    shown = re.findall(r"^(?:# )?([A-Z_]+)=", example, re.MULTILINE)
    assert list(dict.fromkeys(shown)) == documented


def test_every_example_is_linked() -> None:
    examples = {f"examples/{path.name}" for path in (ROOT / "examples").glob("[!_]*.py")}
    assert set(re.findall(r"\]\((examples/\w+\.py)\)", README)) == examples


def test_curl_prints_what_the_readme_says(tmp_path: Path) -> None:
    console = re.search(r"```console\n(.*?)```", README, re.DOTALL)
    assert console
    with Server(f"sqlite:///{tmp_path}/app.db") as server:
        for command, output in re.findall(r"^\$ (.*)\n(.*)", console[1], re.MULTILINE):
            command = command.replace("localhost:8000", server.address)
            assert subprocess.check_output(command, shell=True, text=True) == output
