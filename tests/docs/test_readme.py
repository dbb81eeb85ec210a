"""The README tells the truth."""

import re
import subprocess
from pathlib import Path

from examples.login import LoginSettings
from tests.processes import copy_app
from tests.server import ROOT, Call, Server
from tests.users import ADA

README = (ROOT / "README.md").read_text()


def test_every_setting_is_documented() -> None:
    documented = re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE)
    assert documented == [name.upper() for name in LoginSettings.model_fields]
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


def test_what_the_readme_pastes_holds(url: str, tmp_path: Path) -> None:
    """The endpoint of its first screen, in a file of its own."""
    pasted = re.search(r"```python (pasted).py\n(.*?)```", README, re.DOTALL)
    assert pasted
    copy_app(tmp_path / "app")
    (tmp_path / "app" / "pasted.py").write_text(pasted[2])
    with Server(url, app="pasted:app", folder=tmp_path / "app") as server:
        server.client.post("/user", json=ADA)
        calls: list[Call] = [("GET", "/pasted/user?user_id=1", None)] * 200
        assert {answer.status_code for answer in server.at_once(calls)} == {200}
        assert server.client.get("/pasted/user?user_id=2").status_code == 404


def test_links_lead_somewhere() -> None:
    """In all documents: files, and headings in them."""
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")):
        for link in re.findall(r"\]\(([^)#\s]*(?:#[^)\s]*)?)\)", page.read_text()):
            file, _, heading = link.partition("#")
            if file.startswith("http"):
                continue
            target = page.parent / file if file else page
            assert target.exists(), f"{page.name}: {link}"
            if heading:
                titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                slugs = [
                    re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles
                ]
                assert heading in slugs, f"{page.name}: {link}"
