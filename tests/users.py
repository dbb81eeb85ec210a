"""Users to test with."""

from fastapi.testclient import TestClient

ADA = {"name": "Ada", "email": "ada@example.com"}
BOB = {"name": "Bob", "email": "bob@example.com"}


def create(client: TestClient, *bodies: dict[str, str]) -> list[int]:
    return [client.post("/user", json=body).json()["id"] for body in bodies]


def everything(client: TestClient) -> object:
    return client.get("/users", params={"page_size": 1000}).json()
