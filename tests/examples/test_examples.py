"""The examples do what they say."""

import random
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import httpx2
import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from examples import posts, transfer
from models import User
from tests.examples.conftest import Run
from tests.processes import node, run_python, running_postgres
from tests.server import Server

NOWHERE = "postgresql://user:secret@127.0.0.1:1/nowhere"


def test_session_cycle(run: Run) -> None:
    run("manage", "create-user", "Ada", "ada@example.com")
    done = run("session_cycle")
    assert (done.returncode, done.stderr) == (0, "")
    steps = done.stdout.splitlines()
    assert [line[:2] for line in steps if line[0].isdigit()] == ["1.", "2.", "3.", "4.", "5.", "6."]
    assert "   1: Ada <ada@example.com>" in steps
    assert steps[-1] == "6. Session: closed"


def test_session_cycle_without_a_database(tmp_path: Path) -> None:
    done = run_python("-m", "examples.session_cycle", folder=tmp_path, DATABASE_URL=NOWHERE)
    assert done.returncode == 1
    assert done.stderr.startswith("Database error: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout.splitlines()[-1] == "6. Session: closed"
    assert "secret" not in done.stdout + done.stderr


def test_session_cycle_closes_its_session_after_an_error(engine: Engine, run: Run) -> None:
    """Here the database is there, but not what is asked of it."""
    with engine.begin() as connection:
        connection.execute(text('ALTER TABLE "user" RENAME COLUMN name TO nom'))
    done = run("session_cycle")
    assert done.returncode == 1
    assert done.stderr.startswith("Database error: ")
    assert done.stdout.splitlines()[-1] == "6. Session: closed"


def test_manage(run: Run) -> None:
    assert run("manage", "init-db").stdout == "The tables are there.\n"
    assert run("manage", "list-users").stdout == ""
    done = run("manage", "create-user", "Ada Lovelace", "ada@example.com")
    assert done.stdout == "1: Ada Lovelace <ada@example.com>\n"
    assert run("manage", "fake-users", "2500").stdout.endswith("2500 users created.\n")
    users = run("manage", "list-users").stdout.splitlines()
    assert len(users) == 2501
    assert users[1] == "2: User 2 <user2@example.com>"


def test_manage_refuses(run: Run) -> None:
    run("manage", "create-user", "Ada", "ada@example.com")
    for name, email, complaint in [
        ("Ada", "ADA@example.com", "Email already registered"),
        ("Ada", "nonsense", "email: value is not a valid email address"),
        ("", "eve@example.com", "name: String should have at least 1 character"),
    ]:
        done = run("manage", "create-user", name, email)
        assert done.returncode == 1
        assert done.stderr.startswith(complaint)
        assert done.stderr.count("\n") == 1
    assert run("manage", "list-users").stdout == "1: Ada <ada@example.com>\n"


def test_manage_without_a_database(tmp_path: Path) -> None:
    done = run_python("-m", "examples.manage", "list-users", folder=tmp_path, DATABASE_URL=NOWHERE)
    assert done.returncode == 1
    assert done.stderr.startswith("Database error: ")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def blog(engine: Engine) -> TestClient:
    """Client of the posts example."""
    client = TestClient(posts.app)
    for name in ("ada", "bob", "eve"):
        client.post("/user", json={"name": name, "email": f"{name}@example.com"})
    for number in range(3):
        for user_id in (1, 2):
            answer = client.post(f"/users/{user_id}/posts", json={"title": f"{user_id}.{number}"})
            assert answer.status_code == 201
    return client


def test_posts_are_read_with_two_statements(blog: TestClient, statements: list[str]) -> None:
    statements.clear()
    authors = blog.get("/authors").json()
    assert len(statements) == 2
    assert [[post["title"] for post in author["posts"]] for author in authors] == [
        ["1.2", "1.1", "1.0"],
        ["2.2", "2.1", "2.0"],
        [],
    ]
    statements.clear()
    assert blog.get("/authors/naive").json() == authors
    assert len(statements) == 1 + len(authors)


def test_posts_know_their_moment(engine: Engine, blog: TestClient) -> None:
    created = datetime.fromisoformat(blog.get("/authors").json()[0]["posts"][0]["created_at"])
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=1)
    noon_in_paris = datetime(2026, 7, 14, 12, tzinfo=timezone(timedelta(hours=2)))
    with Session(engine) as db:
        db.add(posts.Post(title="Noon", author_id=1, created_at=noon_in_paris))
        db.commit()
        read = db.query(posts.Post).filter_by(title="Noon").one().created_at
    assert read == noon_in_paris
    assert read.utcoffset() == timedelta(0)


def test_posts_go_with_their_author(engine: Engine, blog: TestClient) -> None:
    assert blog.delete("/users/1").status_code == 200
    with Session(engine) as db:
        assert {post.author_id for post in db.query(posts.Post)} == {2}
        db.delete(db.get_one(User, 2))
        db.commit()
        assert db.query(posts.Post).count() == 0


def test_posts_need_an_author(engine: Engine, blog: TestClient) -> None:
    answer = blog.post("/users/7/posts", json={"title": "Lost"})
    assert (answer.status_code, answer.json()) == (404, {"detail": "User not found"})
    with Session(engine) as db:
        db.add(posts.Post(title="Lost", author_id=7))
        with pytest.raises(IntegrityError):
            db.commit()


@pytest.mark.parametrize("title", ["", " ", "x" * 201, "a\0b", None])
def test_posts_need_a_title(blog: TestClient, title: object) -> None:
    assert blog.post("/users/1/posts", json={"title": title}).status_code == 422


@pytest.fixture
def bank(engine: Engine) -> TestClient:
    """Client of the transfer example, with two accounts of 1000 cents."""
    client = TestClient(transfer.app)
    for _ in range(2):
        assert client.post("/accounts", json={"balance": 1000}).status_code == 201
    return client


def balances(client: TestClient | httpx2.Client) -> list[int]:
    return [account["balance"] for account in client.get("/accounts").json()]


def test_transfer(bank: TestClient) -> None:
    for source, target, expected in [(1, 2, [0, 2000]), (2, 1, [1000, 1000])]:
        answer = bank.post("/transfer", json={"source": source, "target": target, "amount": 1000})
        assert (answer.status_code, answer.json()) == (200, {"detail": "Transferred"})
        assert balances(bank) == expected


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"source": 1, "target": 2, "amount": 1001}, 409),
        ({"source": 2, "target": 1, "amount": 1001}, 409),
        ({"source": 1, "target": 7, "amount": 1}, 404),
        ({"source": 7, "target": 1, "amount": 1}, 404),
        ({"source": 1, "target": 1, "amount": 1}, 422),
        ({"source": 1, "target": 2, "amount": 0}, 422),
        ({"source": 1, "target": 2, "amount": -1}, 422),
        ({"source": 1, "target": 2, "amount": 0.5}, 422),
        ({"source": 1, "target": 2, "amount": 10**30}, 422),
        ({"source": 1, "target": 2, "amount": "1"}, 422),
        ({"source": 1, "target": 10**30, "amount": 1}, 422),
        ({"source": 1, "target": 2}, 422),
    ],
)
def test_transfer_refuses(bank: TestClient, body: object, status: int) -> None:
    answer = bank.post("/transfer", json=body)
    assert answer.status_code == status
    assert balances(bank) == [1000, 1000]


def test_16_clients_transfer_at_random(url: str) -> None:
    accounts = 5
    with Server(url, app="examples.transfer:app") as server:
        for _ in range(accounts):
            server.client.post("/accounts", json={"balance": 1000})

        def transfer_often(seed: int) -> set[int]:
            chance = random.Random(seed)
            found = set()
            with httpx2.Client(base_url=server.address, timeout=60) as client:
                for _ in range(25):
                    source, target = chance.sample(range(1, accounts + 1), 2)
                    body = {
                        "source": source,
                        "target": target,
                        "amount": chance.randint(1, 900),
                    }
                    found.add(client.post("/transfer", json=body).status_code)
                    held = balances(client)
                    assert sum(held) == accounts * 1000
                    assert min(held) >= 0
            return found

        with ThreadPoolExecutor(16) as clients:
            statuses = set().union(*clients.map(transfer_often, range(16)))
        assert statuses == {200, 409}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_postgres(tmp_path: Path, number: signal.Signals) -> None:
    with running_postgres(tmp_path / "data") as (process, url):
        with Server(url) as server:
            body = {"name": "Éric", "email": "eric@example.com"}
            assert server.client.post("/user", json=body).status_code == 200
            assert len(server.client.get("/users?query=éRIC").json()) == 1
        process.send_signal(number)
        assert process.wait(30) == 0
        assert process.stdout
        assert process.stdout.read() == "\nPostgreSQL has stopped.\n"
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_postgres_after_one_that_was_killed(tmp_path: Path) -> None:
    """It goes on with the server that is left over, and stops it for real."""
    with running_postgres(tmp_path / "data") as (process, _):
        process.kill()
    with running_postgres(tmp_path / "data") as (process, url):
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_admin_front_ends(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages of React Admin and Refine; and a browser reads the answers."""
    monkeypatch.setenv("CORS_ORIGINS", "http://localhost:5173")
    with Server(url, app="examples.admin:app") as server:
        assert node("node", "admin.mjs", f"{server.address}/admin") == "done\n"
        headers = {"Origin": "http://localhost:5173"}
        answer = server.client.get("/admin/users", headers=headers)
        assert answer.headers.get_list("Access-Control-Allow-Origin") == ["http://localhost:5173"]
        assert "X-Total-Count" in answer.headers["Access-Control-Expose-Headers"]
        assert server.client.get("/users").status_code == 200
