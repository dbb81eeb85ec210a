"""What only shows on a real server with many clients."""

from collections import Counter
from pathlib import Path

import pytest

from tests.server import Call, Server

ADA = {"name": "Ada", "email": "ada@example.com"}


def new_user(number: int) -> dict[str, str]:
    return {"name": f"N{number}", "email": f"n{number}@example.com"}


def test_200_clients_at_once(url: str) -> None:
    """Each kind of call, and an endpoint that leaves its session to FastAPI.

    Without `max_concurrency` the sessions of the last one wait for threads, in which others wait
    for their connections.
    """
    with Server(url, app="tests.classic:app") as server:
        server.client.post("/user", json=ADA)
        reads: list[Call] = [("GET", path, None) for path in ("/user?user_id=1", "/users")]
        for call in [*reads, ("GET", "/classic/1", None), ("PATCH", "/users/1", {"name": "Eve"})]:
            assert {answer.status_code for answer in server.at_once([call] * 200)} == {200}
        creates: list[Call] = [("POST", "/user", new_user(number)) for number in range(200)]
        assert {answer.status_code for answer in server.at_once(creates)} == {200}
        assert len(server.client.get("/users?page_size=1000").json()) == 201


def test_one_email_and_64_clients(url: str) -> None:
    with Server(url) as server:
        answers = server.at_once([("POST", "/user", ADA)] * 64)
        assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 63}
        assert len(server.client.get("/users").json()) == 1


def test_four_workers_start_on_an_empty_database(url: str) -> None:
    with Server(url, "--workers=4") as server:
        answers = server.at_once([("POST", "/user", new_user(number)) for number in range(50)])
        assert {answer.status_code for answer in answers} == {200}
        assert len(server.client.get("/users").json()) == 50


def test_a_body_of_30_mb(url: str) -> None:
    with Server(url) as server:
        json = {"Content-Type": "application/json"}
        answer = server.client.post("/user", content=b"x" * 30_000_000, headers=json)
        assert answer.status_code == 413
        assert answer.json() == {"detail": "Body larger than 1 MiB"}
        assert server.client.post("/user", json=ADA).status_code == 200


def test_the_command_of_the_readme(tmp_path: Path) -> None:
    with Server(f"sqlite:///{tmp_path}/app.db", "--reload") as server:
        assert server.client.get("/users").json() == []
        assert "swagger-ui" in server.client.get("/", follow_redirects=True).text


@pytest.mark.parametrize("memory", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory(memory: str) -> None:
    with Server(memory) as server:
        calls: list[Call] = [("POST", "/user", new_user(number)) for number in range(50)]
        assert {answer.status_code for answer in server.at_once(calls)} == {200}
        assert len(server.client.get("/users").json()) == 50
