"""Tests of your own, to copy: `pytest examples/test_users.py`.

Every test gets a database in memory, new and empty. The app uses it in place of its own, because
FastAPI calls what is set for `get_db` in `dependency_overrides`.
"""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import StaticPool, create_engine
from sqlalchemy.orm import Session

from database import Base, get_db
from main import app
from models import User


@pytest.fixture
def db() -> Iterator[Session]:
    """Yield a session on an empty database, which is gone after the test."""
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    Base.metadata.create_all(engine)
    with Session(engine) as db:
        yield db
    engine.dispose()


@pytest.fixture
def client(db: Session) -> Iterator[TestClient]:
    """Yield a client of the app, with that session for all of its requests."""
    app.dependency_overrides[get_db] = lambda: db
    with TestClient(app) as client:
        yield client
    app.dependency_overrides.clear()


def test_read_a_user(client: TestClient, db: Session) -> None:
    """What the test adds is there for the app, also before a commit."""
    db.add(User(name="Ada", email="ada@example.com"))
    db.flush()
    assert client.get("/users/1").json()["name"] == "Ada"


def test_create_a_user(client: TestClient, db: Session) -> None:
    """And what the app adds is there for the test."""
    body = {"name": "Ada", "email": "ada@example.com"}
    assert client.post("/users", json=body).status_code == 201
    assert client.post("/users", json=body).status_code == 409
    assert db.query(User).count() == 1
