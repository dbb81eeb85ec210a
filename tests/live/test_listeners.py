"""Who listens on `engine`, as SQLAlchemy's documentation shows it, hears every connection."""

from pathlib import Path

import psycopg
import pytest

from tests.clients import server_of
from tests.docs.reader import blocks
from tests.server import ROOT, postgresql_over_tcp
from tests.users import ADA

PAGE = (ROOT / "docs" / "production.md").read_text()
(RECIPE,) = [block for _, name, block in blocks(PAGE) if name == "tokens.py"]
TOKENS = """
from uuid import uuid4

import psycopg

tokens = []


def new_token():
    tokens.append(uuid4().hex)
    with psycopg.connect("{admin}", autocommit=True) as connection:
        connection.execute(f"ALTER ROLE app PASSWORD '{{tokens[-1]}}'")
    return tokens[-1]


@app.get("/tokens")
def count_tokens() -> int:
    return len(tokens)
"""


def test_a_password_that_changes_with_each_connection(tmp_path: Path) -> None:
    with postgresql_over_tcp() as admin:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute("CREATE ROLE app LOGIN SUPERUSER")
            row = connection.execute("SHOW hba_file").fetchone()
            assert row
            access = Path(row[0])
            access.write_text("host all app all scram-sha-256\n" + access.read_text())
            connection.execute("SELECT pg_reload_conf()")
        url = admin.replace("postgres@", "app@")
        with server_of(RECIPE + TOKENS.format(admin=admin), url, tmp_path) as server:
            started = server.client.get("/tokens").json()
            assert started >= 2  # one for what writes, one for what only reads
            assert server.client.post("/user", json=ADA).status_code == 200
            for path in ("/user?user_id=1", "/users?query=ada", "/health", "/health"):
                assert server.client.get(path).status_code == 200, path
            # A new one for each look at the health.
            assert server.client.get("/tokens").json() >= started + 2
        # Without the token, nobody comes in.
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            psycopg.connect(url)
