"""What docs/build-on-it.md says works, word for word."""

import re
from pathlib import Path

import pytest

from database import init_db, new_engine
from tests.reader import Reader
from tests.server import ROOT, Server, copy_app, run_python

PAGE = (ROOT / "docs" / "build-on-it.md").read_text()
NOTE, NOTES, INCLUDE, TEST, REPORT, AUDITED = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
MIGRATION, CURL, PYTEST = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a copy of the app, changed as the page says."""
    copy_app(tmp_path)
    models = (tmp_path / "models.py").read_text().replace(" Integer,", " ForeignKey, Integer,")
    (tmp_path / "models.py").write_text(f"{models}\n\n{NOTE}")
    (tmp_path / "notes.py").write_text(NOTES)
    (tmp_path / "test_notes.py").write_text(TEST)
    main = (tmp_path / "main.py").read_text()
    last_call = '    return RedirectResponse("/docs")\n'
    assert main.count(last_call) == 1
    (tmp_path / "main.py").write_text(main.replace(last_call, f"{last_call}\n\n{INCLUDE}"))
    return tmp_path


@pytest.mark.parametrize("new", [True, False])
def test_a_table_and_its_calls(folder: Path, url: str, new: bool) -> None:
    reader = Reader(folder, url)
    if not new:
        engine = new_engine(url)
        init_db(engine)
        engine.dispose()
        reader.run(MIGRATION)
    with Server(url, folder=folder) as server:
        reader.run(CURL.replace("localhost:8000", server.address))


def test_its_test(folder: Path) -> None:
    (command, output), *_ = re.findall(r"^\$ (.*)\n(.*)", PYTEST, re.MULTILINE)
    done = run_python("-m", *command.split(), folder=folder, PYTHONPATH=str(folder))
    assert output in done.stdout
    assert not (folder / "app.db").exists()


def test_a_session_after_the_answer(folder: Path) -> None:
    (folder / "report.py").write_text(REPORT)
    script = "import report; from fastapi.testclient import TestClient\n"
    script += "with TestClient(report.app) as client: print(client.get('/report').json())"
    done = run_python("-c", script, folder=folder, PYTHONPATH=str(folder))
    assert done.stdout == "0 users\n{'detail': \"Look at the server's log\"}\n"


def test_a_dependency_that_yields(folder: Path) -> None:
    (folder / "audited.py").write_text(AUDITED)
    script = "import audited; from fastapi.testclient import TestClient as C;"
    script += "print(C(audited.app).get('/audited').json())"
    done = run_python("-c", script, folder=folder, PYTHONPATH=str(folder))
    assert done.stdout == "0 users\n{'detail': \"Look at the server's log\"}\n"
    refused = AUDITED.replace(', scope="function"', "")
    (folder / "audited.py").write_text(refused)
    done = run_python("-c", script, folder=folder, PYTHONPATH=str(folder))
    assert "DependencyScopeError" in done.stderr
