"""Clients that others generate from /openapi.json, and what linters say of it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from main import app
from tests.processes import NODE, node, run_python
from tests.server import Server


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(app.openapi()))
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(f"sqlite:///{tmp_path}/app.db") as server:
        yield server


LIFE = """
import re, sys
from user_client import Client
from user_client.api.users import change_user, create_user, delete_user, list_users, read_user
from user_client.api.user import lesson_read_user
from user_client.models import Detail, Invalid, UserBody, UserChanges, UserRead

with Client(base_url=sys.argv[1]) as client:
    created = create_user.sync_detailed(
        client=client, body=UserBody(name="Ada", email="ada@example.com")
    )
    assert isinstance(created.parsed, UserRead) and created.headers["Location"] == "/users/1"
    taken = create_user.sync(client=client, body=UserBody(name="Ada", email="ADA@example.com"))
    assert isinstance(taken, Detail) and taken.detail == "Email already registered"
    wrong = create_user.sync(client=client, body=UserBody(name="Ada", email="x"))
    assert isinstance(wrong, Invalid) and wrong.detail[0].loc == ["body", "email"]
    for number in range(4):
        body = UserBody(name="Bob", email=f"{number}@example.com", is_active=False)
        assert isinstance(create_user.sync(client=client, body=body), UserRead)
    seen, page = [], 1
    while page:
        answer = list_users.sync_detailed(client=client, page=page, page_size=2)
        seen += [user.id for user in answer.parsed]
        assert answer.headers["X-Total-Count"] == "5"
        found = re.search('page=([0-9]+)>; rel="next"', answer.headers["Link"])
        page = found and int(found[1])
    assert seen == [1, 2, 3, 4, 5]
    stale = change_user.sync(1, client=client, body=UserChanges(name="x"), if_match='"other"')
    assert isinstance(stale, Detail)
    changed = change_user.sync(1, client=client, body=UserChanges(is_active=False))
    assert changed.is_active is False
    assert lesson_read_user.sync(client=client, user_id=1) == changed
    assert delete_user.sync(1, client=client).detail == "User deleted"
    assert read_user.sync(1, client=client) == Detail(detail="User not found")
print("lived")
"""


def test_a_client_in_python(document: Path, server: Server, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("post_hooks: []\n")
    made = subprocess.run(
        [
            Path(sys.executable).with_name("openapi-python-client"),
            *("generate", "--path", document, "--config", tmp_path / "config.yaml"),
            *("--meta", "none", "--output-path", tmp_path / "user_client"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 0
    assert "warning" not in (made.stdout + made.stderr).lower()
    done = run_python(
        "-c",
        LIFE,
        server.address,
        folder=tmp_path,
        PYTHONPATH=str(tmp_path),
        PYTHONWARNINGS="error",
    )
    assert (done.stdout, done.stderr) == ("lived\n", "")


def test_a_client_in_typescript(document: Path, server: Server, tmp_path: Path) -> None:
    """Checked by the compiler in strict mode, and run."""
    node("openapi-typescript", document, "-o", tmp_path / "api.ts", folder=NODE)
    shutil.copy(NODE / "life.ts", tmp_path)
    shutil.copy(NODE / "package.json", tmp_path)
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    options = "--strict --target es2022 --module nodenext --skipLibCheck"
    # Types of Node itself: what the script uses of it.
    (tmp_path / "node.d.ts").write_text("declare const process: { argv: string[] };\n")
    node("tsc", *options.split(), "node.d.ts", "life.ts", folder=tmp_path)
    script = ["node", "life.js", server.address]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("lived\n", "")


def test_linters_have_nothing_to_say(document: Path) -> None:
    """But for the rules that are switched off by name."""
    node("spectral", "lint", document, "--ruleset", "spectral.yaml", "-F", "hint", folder=NODE)
    said = node("redocly", "lint", document, "--config", "redocly.yaml", folder=NODE)
    assert "Warning was generated" not in said
