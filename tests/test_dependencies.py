"""How a request gets its session, and how long it waits for it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated, get_args

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, QueuePool, create_engine, exc, func, insert, select
from sqlalchemy.orm import Session, sessionmaker
from starlette.requests import HTTPConnection

import database
from dependencies import HealthDep, ReadDep, SessionDep, SessionDependency
from errors import HANDLERS
from main import app
from models import User
from tests.server import run_python
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


def sessions(dependency: SessionDependency) -> Callable[[], AbstractAsyncContextManager[Session]]:
    """Return what opens a session as FastAPI does for a request."""
    context = asynccontextmanager(dependency)
    return lambda: context(HTTPConnection({"type": "http"}))


@pytest.mark.parametrize("path", ["/users", "/users?page=9", "/users/7", "/user", "/health"])
def test_requests_give_their_connection_back(engine: Engine, path: str) -> None:
    TestClient(app).get(path)
    for used in (engine, database.ReadSessionLocal().get_bind()):
        assert isinstance(used, Engine)
        assert "Current Checked out connections: 0" in used.pool.status()


def test_whoever_waits_too_long_is_told_so() -> None:
    """And leaves no trace: afterwards as many get a session as before."""
    dependency = SessionDependency(database.get_db, 2, max_wait=0.05)
    session = sessions(dependency)

    async def wait() -> None:
        for _ in range(3):
            async with session(), session():
                with pytest.raises(exc.TimeoutError):
                    await session().__aenter__()

    asyncio.run(wait())
    asyncio.run(wait())  # an event loop of its own, as each test client has one


def test_the_next_in_line_gets_the_session() -> None:
    dependency = SessionDependency(database.get_db, 1)
    session = sessions(dependency)
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
    session = sessions(dependency)

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


def test_changes_in_a_read_session_are_not_lost_in_silence(engine: Engine) -> None:
    """An object belongs to the session that has read it, whichever session commits."""
    own = FastAPI(exception_handlers=HANDLERS)

    def current_user(db: ReadDep) -> User:
        return db.get_one(User, 1)

    CurrentUser = Annotated[User, Depends(current_user)]  # noqa: N806

    @own.get("/read-first/{name}")
    def rename(name: str, user: CurrentUser, db: SessionDep) -> str:
        user.name = name
        db.commit()
        return name

    @own.get("/write-first/{name}")
    def rename_in_one_session(name: str, db: SessionDep, user: CurrentUser) -> str:
        return rename(name, user, db)

    client = TestClient(own, raise_server_exceptions=False)
    TestClient(app).post("/user", json=ADA)
    assert client.get("/read-first/Eve").status_code == 500
    with pytest.raises(exc.InvalidRequestError, match="take a SessionDep"):
        TestClient(own).get("/read-first/Eve")
    assert TestClient(app).get("/users/1").json()["name"] == "Ada"
    assert client.get("/write-first/Eve").status_code == 200
    assert TestClient(app).get("/users/1").json()["name"] == "Eve"


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
    with other() as db:
        app.dependency_overrides[database.get_db] = lambda: db
        client.post("/user", json=ADA)
        assert len(client.get("/users").json()) == 1
        app.dependency_overrides.clear()
    assert client.get("/users").json() == []


def test_a_request_that_writes_reads_with_the_same_session(engine: Engine) -> None:
    """Whoever asks for it; only who asks to read first gets one for reading."""
    own = FastAPI()

    def current_user(db: SessionDep) -> Session:
        return db

    @own.get("/write")
    def write(
        db: SessionDep, read: ReadDep, user_db: Annotated[Session, Depends(current_user)]
    ) -> list[bool]:
        return [db is user_db, db is read]

    @own.get("/read")
    def read(read: ReadDep, db: SessionDep) -> list[bool]:
        return [db is read]

    assert TestClient(own).get("/write").json() == [True, True]
    assert TestClient(own).get("/read").json() == [False]


def test_a_session_is_of_no_use_after_the_endpoint(engine: Engine) -> None:
    """A background task that goes on with it would keep a connection that nobody gives back."""
    own = FastAPI()

    @own.get("/")
    def later(tasks: BackgroundTasks, db: SessionDep, read: ReadDep) -> None:
        tasks.add_task(db.scalar, NUMBER_OF_USERS)

    @own.get("/read")
    def later_read(tasks: BackgroundTasks, db: ReadDep) -> None:
        tasks.add_task(db.scalar, NUMBER_OF_USERS)

    for path in ("/", "/read"):
        with pytest.raises(exc.InvalidRequestError, match="permanently closed"):
            TestClient(own).get(path)
    for used in (engine, database.ReadSessionLocal().get_bind()):
        assert isinstance(used, Engine)
        assert "Current Checked out connections: 0" in used.pool.status()


def test_an_annotation_of_ones_own_stays_what_it_is(tmp_path: Path) -> None:
    """Whichever is read first: Python has only one Annotated for parts that are equal."""
    own = "own = Annotated[Session, Depends(get_db, scope='function')]"
    imports = "from dependencies import SessionDep, ReadDep, HealthDep"
    for lines in ([own, imports], [imports, own]):
        script = [
            "from typing import Annotated, get_args",
            "from fastapi import Depends",
            "from sqlalchemy.orm import Session",
            "from database import get_db",
            *lines,
            "each = (own, SessionDep, ReadDep, HealthDep)",
            "found = [get_args(one)[1].dependency for one in each]",
            "print(len({id(each) for each in found}), found[0] is get_db)",
        ]
        assert run_python("-c", "\n".join(script), folder=tmp_path).stdout == "4 True\n"


IN_MEMORY = """
import threading
from fastapi.testclient import TestClient
from sqlalchemy import text
from database import SessionLocal
from main import app

def write(name):
    client = TestClient(app)
    for number in range(15):
        body = {"name": "N", "email": f"{name}{number}@example.com"}
        assert client.post("/user", json=body).status_code == 200

def read():
    for _ in range(200):
        with SessionLocal() as db:
            db.execute(text("SELECT * FROM user")).all()

for _ in range(2):
    with TestClient(app) as client:
        print(len(client.get("/users").json()))
work = [lambda: write("a"), lambda: write("b"), read]
threads = [threading.Thread(target=each) for each in work]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with TestClient(app) as client:
    print(len(client.get("/users").json()))
"""


def test_threads_share_a_database_in_memory(tmp_path: Path) -> None:
    done = run_python("-c", IN_MEMORY, folder=tmp_path, DATABASE_URL="sqlite://")
    assert (done.stdout, done.stderr) == ("0\n0\n30\n", "")


def test_tables_are_there_after_the_file_was_deleted(tmp_path: Path) -> None:
    script = """
import os
from fastapi.testclient import TestClient
from main import app
for _ in range(2):
    with TestClient(app) as client:
        print(client.get("/users").json())
    os.remove("app.db")
"""
    assert run_python("-c", script, folder=tmp_path).stdout == "[]\n[]\n"
