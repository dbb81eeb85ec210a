"""`app.dependency_overrides[get_db]`, in each of the ways that courses write it."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from sqlalchemy import Engine, StaticPool, create_engine, event, func, select
from sqlalchemy.orm import Session, sessionmaker

from database import Base, SessionLocal, get_db
from main import app
from models import User
from tests.users import ADA, BOB

Override = Callable[..., Any]


@pytest.fixture
def memory() -> Iterator[Engine]:
    """Engine of a new database in memory, with transactions as SQLAlchemy's documentation asks."""
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )

    # For SAVEPOINT, Python's driver must not begin and end transactions by itself:
    # https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#pysqlite-serializable
    @event.listens_for(engine, "connect")
    def leave_transactions_alone(connection: Any, record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def a_session_each(engine: Engine, shared: Session) -> Override:
    def override_get_db() -> Iterator[Session]:
        db = sessionmaker(autocommit=False, autoflush=False, bind=engine)()
        try:
            yield db
        finally:
            db.close()

    return override_get_db


def a_shared_session(engine: Engine, shared: Session) -> Override:
    def override_get_db() -> Iterator[Session]:
        yield shared

    return override_get_db


def returns_a_session(engine: Engine, shared: Session) -> Override:
    def override_get_db() -> Session:
        return shared

    return override_get_db


def a_lambda(engine: Engine, shared: Session) -> Override:
    return lambda: shared


def an_async_generator(engine: Engine, shared: Session) -> Override:
    async def override_get_db() -> AsyncIterator[Session]:
        with Session(engine) as db:
            yield db

    return override_get_db


def with_a_parameter(engine: Engine, shared: Session) -> Override:
    def override_get_db(request: Request) -> Iterator[Session]:
        assert request.method
        with Session(engine) as db:
            yield db

    return override_get_db


def a_savepoint_each(engine: Engine, shared: Session) -> Override:
    def override_get_db() -> Iterator[Session]:
        connection = shared.connection()
        with Session(connection, join_transaction_mode="create_savepoint") as db:
            yield db

    return override_get_db


FORMS = [
    a_session_each,
    a_shared_session,
    returns_a_session,
    a_lambda,
    an_async_generator,
    with_a_parameter,
    a_savepoint_each,
]


@pytest.fixture(params=FORMS, ids=lambda form: form.__name__)
def overridden(request: pytest.FixtureRequest, memory: Engine) -> Iterator[Session]:
    """Put a form in the place of get_db; the session that some of them share."""
    with Session(memory) as shared:
        app.dependency_overrides[get_db] = request.param(memory, shared)
        yield shared
        app.dependency_overrides = {}


@pytest.mark.parametrize("with_lifespan", [False, True])
def test_every_form(engine: Engine, overridden: Session, with_lifespan: bool) -> None:
    """As many calls as a test makes, a 409 in the middle; the app's own database stays empty."""
    client = TestClient(app)
    if with_lifespan:
        client.__enter__()
    assert client.get("/users").json() == []
    assert client.post("/user", json=ADA).status_code == 200
    assert client.post("/user", json=ADA).status_code == 409
    assert client.post("/users", json=BOB).status_code == 201
    assert client.get("/users/7").status_code == 404
    assert client.patch("/users/1", json={"name": "Augusta"}).status_code == 200
    assert client.get("/users/1").json()["name"] == "Augusta"
    assert len(client.get("/users").json()) == 2
    assert client.delete("/users/1").status_code == 200
    assert client.get("/health").status_code == 200
    assert overridden.scalar(select(func.count(User.id))) == 1
    if with_lifespan:
        client.__exit__(None, None, None)
    with SessionLocal() as db:
        assert db.scalar(select(func.count(User.id))) == 0


@pytest.mark.parametrize("form", [a_shared_session, returns_a_session, a_lambda, a_savepoint_each])
def test_rows_that_are_not_committed(memory: Engine, form: Callable[..., Override]) -> None:
    client = TestClient(app)
    with Session(memory) as shared:
        app.dependency_overrides[get_db] = form(memory, shared)
        shared.add(User(**ADA))
        shared.flush()
        for _ in range(2):
            assert client.get("/users/1").json()["name"] == "Ada"
            assert len(client.get("/users").json()) == 1
        assert client.post("/user", json=ADA).status_code == 409
        if form is a_savepoint_each:
            assert client.get("/users/1").json()["name"] == "Ada"
        app.dependency_overrides.clear()


def test_nothing_is_left_of_the_outer_transaction(memory: Engine) -> None:
    """SQLAlchemy's recipe for a test suite: what a test commits is rolled back after it."""
    client = TestClient(app)
    with memory.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as db:
            app.dependency_overrides[get_db] = lambda: db
            assert client.post("/user", json=ADA).status_code == 200
            assert client.post("/user", json=BOB).status_code == 200
            assert len(client.get("/users").json()) == 2
            app.dependency_overrides.clear()
        outer.rollback()
    with Session(memory) as db:
        assert db.query(User).count() == 0
