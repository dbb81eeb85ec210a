"""How a request gets its session, and how long it waits for it."""

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, get_args

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, QueuePool, create_engine, exc, func, insert, select
from sqlalchemy.orm import Session, sessionmaker

import database
from dependencies import HealthDep, ReadDep, SessionDep, SessionDependency
from main import app
from models import User
from tests.users import ADA

NUMBER_OF_USERS = select(func.count(User.id))


def test_no_more_sessions_than_connections() -> None:
    connections = 1  # which /health opens for itself
    for dependency, engine in [(SessionDep, database.engine), (ReadDep, database.read_engine)]:
        depends = get_args(dependency)[1]
        pool = engine.pool
        assert isinstance(pool, QueuePool)
        assert depends.dependency.limit <= pool.size()
        assert depends.scope == "function"
        connections += pool.size() + pool._max_overflow
    assert connections == 21  # what the README says
    assert get_args(HealthDep)[1].dependency.limit == 1


@pytest.mark.parametrize("path", ["/users", "/users?page=9", "/users/7", "/user", "/health"])
def test_requests_give_their_connection_back(engine: Engine, path: str) -> None:
    TestClient(app).get(path)
    for used in (engine, database.ReadSessionLocal().get_bind()):
        assert isinstance(used, Engine)
        assert "Current Checked out connections: 0" in used.pool.status()


def test_whoever_waits_too_long_is_told_so() -> None:
    """And leaves no trace: afterwards as many get a session as before."""
    dependency = SessionDependency(database.get_db, 2, max_wait=0.05)
    session = asynccontextmanager(dependency)

    async def wait() -> None:
        for _ in range(3):
            async with session(), session():
                with pytest.raises(exc.TimeoutError):
                    await session().__aenter__()

    asyncio.run(wait())
    asyncio.run(wait())  # an event loop of its own, as each test client has one


def test_the_next_in_line_gets_the_session() -> None:
    dependency = SessionDependency(database.get_db, 1)
    session = asynccontextmanager(dependency)
    served: list[int] = []

    async def request(number: int) -> None:
        async with session():
            served.append(number)
            await asyncio.sleep(0)

    async def crowd() -> None:
        await asyncio.gather(*(request(number) for number in range(50)))

    asyncio.run(crowd())
    assert served == list(range(50))


def test_a_client_that_leaves_the_line() -> None:
    dependency = SessionDependency(database.get_db, 1)
    session = asynccontextmanager(dependency)

    async def request() -> None:
        async with session():
            await asyncio.sleep(0.01)

    async def crowd() -> None:
        requests = [asyncio.create_task(request()) for _ in range(10)]
        await asyncio.sleep(0)
        for leaving in requests[::2]:
            leaving.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        await request()

    asyncio.run(crowd())


def test_a_read_session_cannot_write(engine: Engine) -> None:
    """Where every statement is committed at once, a mistake would be there to stay."""
    for statement in (insert(User), insert(User).returning(User.id)):
        with database.ReadSessionLocal() as db:
            with pytest.raises(exc.InvalidRequestError, match="take a SessionDep"):
                db.execute(statement, ADA)
            assert db.scalar(NUMBER_OF_USERS) == 0
    with database.SessionLocal() as db:
        assert db.scalar(NUMBER_OF_USERS) == 0


def test_a_read_session_sees_what_was_just_written(engine: Engine) -> None:
    """It keeps no transaction open that would show it the data of an earlier moment."""
    with database.ReadSessionLocal() as reader, database.SessionLocal() as writer:
        for number in range(3):
            assert reader.scalar(NUMBER_OF_USERS) == number
            writer.add(User(name="N", email=f"{number}@example.com"))
            writer.commit()


@pytest.fixture
def other(tmp_path: Path) -> Iterator["sessionmaker[Session]"]:
    """Sessions of a database that a test puts in the place of the app's."""
    engine = create_engine(f"sqlite:///{tmp_path}/other.db")
    database.init_db(engine)
    yield sessionmaker(bind=engine)
    app.dependency_overrides.clear()
    engine.dispose()


def test_get_db_can_be_overridden(engine: Engine, other: "sessionmaker[Session]") -> None:
    """As the tests of every tutorial do it; what follows the yield runs, too."""
    client = TestClient(app)
    ended: list[str] = []

    def override_get_db():  # type: ignore[no-untyped-def]  # nobody annotates it
        db = other()
        try:
            yield db
            ended.append("well")
        except Exception:
            ended.append("badly")
            raise
        finally:
            db.close()

    app.dependency_overrides[database.get_db] = override_get_db
    client.post("/user", json=ADA)
    assert len(client.get("/users").json()) == 1
    assert client.get("/users/7").status_code == 404
    assert client.get("/health").status_code == 200
    assert ended == ["well", "well", "badly", "well"]
    app.dependency_overrides = {}
    assert client.get("/users").json() == []
    app.dependency_overrides[database.get_db] = override_get_db
    assert len(client.get("/users").json()) == 1


def test_an_override_that_returns_its_session(
    engine: Engine, other: "sessionmaker[Session]"
) -> None:
    client = TestClient(app)
    app.dependency_overrides[database.get_db] = lambda: other()
    client.post("/user", json=ADA)
    assert len(client.get("/users").json()) == 1
    app.dependency_overrides.clear()
    assert client.get("/users").json() == []


def test_one_session_of_each_kind(engine: Engine) -> None:
    """In one request, whoever asks for it; one to read with is another than one to write with."""
    own = FastAPI()

    def current_user(db: SessionDep) -> Session:
        return db

    @own.get("/")
    def same(
        db: SessionDep, read: ReadDep, user_db: Annotated[Session, Depends(current_user)]
    ) -> list[bool]:
        return [db is user_db, db is read]

    assert TestClient(own).get("/").json() == [True, False]
