import pytest
from fastapi.testclient import TestClient
from sqlalchemy import StaticPool, create_engine
from sqlalchemy.orm import sessionmaker

from database import Base, get_db
from main import app

ADA = {"name": "Ada", "email": "ada@example.com"}


@pytest.fixture
def client():
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    Base.metadata.create_all(engine)
    TestSession = sessionmaker(autocommit=False, autoflush=False, bind=engine)

    def get_test_db():
        with TestSession() as db:
            yield db

    app.dependency_overrides[get_db] = get_test_db
    yield TestClient(app)
    app.dependency_overrides.clear()
    engine.dispose()


def test_an_empty_list(client):
    assert client.get("/users").json() == []


def test_create_and_read(client):
    created = client.post("/user", json=ADA)
    assert created.status_code == 200
    assert client.get("/users").json() == [created.json()]


def test_an_email_is_taken_once(client):
    client.post("/user", json=ADA)
    assert client.post("/user", json=ADA).status_code == 409
    assert len(client.get("/users").json()) == 1
