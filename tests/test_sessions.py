"""How a request gets its session, and how long it waits for it."""

import asyncio
import inspect
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args

import httpx2
import pytest
from anyio import CancelScope
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from sqlalchemy import (
    Connection,
    Engine,
    Executable,
    QueuePool,
    StaticPool,
    String,
    cast,
    create_engine,
    delete,
    event,
    exc,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session, sessionmaker
from starlette.requests import HTTPConnection

import core.engines
import core.sessions
import database
from core.engines import (
    autocommit_engine,
    new_engine,
    read_engine,
    unbounded_engine,
    unpooled_engine,
)
from core.errors import HANDLERS
from core.sessions import Queue, in_turn, kind_of, lanes_of, read_only, searches, writes_once
from database import SessionDep, SessionLocal, get_db
from main import app
from models import User
from tests.processes import run_python
from tests.users import ADA, BOB

NUMBER_OF_USERS = select(func.count(User.id))
PastedDep = Annotated[Session, Depends(get_db)]


def number_of_users() -> int:
    with SessionLocal() as db:
        return db.scalar(NUMBER_OF_USERS) or 0


def assert_all_returned(engine: Engine) -> None:
    """No connection of the pools is lent to anybody."""
    for used in (engine, read_engine(engine)):
        assert "Current Checked out connections: 0" in used.pool.status()


# ---- As in the lessons


def test_get_db_is_the_generator_of_the_lessons(engine: Engine) -> None:
    """In a script, where there is no request."""
    generator = get_db()
    db = next(generator)
    assert db.scalar(NUMBER_OF_USERS) == 0
    generator.close()  # type: ignore[attr-defined]
    db = next(get_db())  # as in many scripts, which keep no generator
    assert db.query(User).all() == []
    db.close()
    with contextmanager(get_db)() as db:
        db.execute(text("SELECT 1"))
        assert "Current Checked out connections: 1" in engine.pool.status()
    assert_all_returned(engine)
    assert inspect.isgenerator(generator)
    assert get_db.__name__ == "get_db"
    assert str(get_db.__doc__).startswith("Yield a session")
    assert get_args(SessionDep)[1] == Depends(get_db, scope="function")


def test_a_session_sends_nothing_by_itself(engine: Engine, statements: list[str]) -> None:
    """autoflush=False, as the lessons have it: only flush and commit write."""
    statements.clear()
    with SessionLocal() as db:
        db.add(User(**ADA))
        assert db.scalar(NUMBER_OF_USERS) == 0
        assert len(statements) == 1
        db.flush()
        assert db.scalar(NUMBER_OF_USERS) == 1
    assert number_of_users() == 0


def test_an_endpoint_as_it_is_pasted(engine: Engine) -> None:
    own = FastAPI()

    @own.get("/pasted/user", response_model=None)
    def get_user(user_id: int, db: Session = Depends(get_db)) -> str | None:  # noqa: B008
        user = db.query(User).filter(User.id == user_id).first()
        return user.name if user else None

    @own.post("/pasted/user")
    def create_user(name: str, db: Session = Depends(get_db)) -> int:  # noqa: B008
        user = User(name=name, email=f"{name}@example.com")
        db.add(user)
        db.commit()
        db.refresh(user)
        return user.id

    client = TestClient(own)
    assert client.post("/pasted/user?name=ada").json() == 1
    assert client.get("/pasted/user?user_id=1").json() == "ada"
    assert client.get("/pasted/user?user_id=2").json() is None
    assert_all_returned(engine)


def test_a_get_that_says_nothing_may_write(engine: Engine) -> None:
    """As a link does that confirms an email; with locks and savepoints."""
    own = FastAPI()

    @own.get("/confirm/{user_id}")
    def confirm(user_id: int, db: PastedDep) -> bool:
        user = db.get_one(User, user_id, with_for_update=True)
        with db.begin_nested():
            user.is_active = not user.is_active
        db.commit()
        return user.is_active

    TestClient(app).post("/user", json=ADA)
    assert TestClient(own).get("/confirm/1").json() is False
    assert TestClient(app).get("/users/1").json()["is_active"] is False


# ---- An endpoint that only reads


@pytest.mark.parametrize("how", ["execute", "returning", "flush", "commit"])
def test_what_only_reads_cannot_write(engine: Engine, how: str) -> None:
    """Where every statement is committed at once, a mistake would be there to stay."""
    own = FastAPI(exception_handlers=HANDLERS)

    @own.post("/")
    @read_only
    def write(db: SessionDep) -> None:
        if how == "execute":
            db.execute(insert(User), ADA)
        elif how == "returning":
            db.execute(insert(User).returning(User.id), ADA)
        else:
            db.add(User(**ADA))
            getattr(db, how)()

    with pytest.raises(exc.InvalidRequestError, match="take @read_only away"):
        TestClient(own).post("/")
    assert TestClient(own, raise_server_exceptions=False).post("/").status_code == 500
    assert number_of_users() == 0
    assert_all_returned(engine)


def test_what_only_reads_sees_what_was_just_written(engine: Engine) -> None:
    """It keeps no transaction open that would show it the data of an earlier moment."""
    own = FastAPI()

    @own.get("/")
    @read_only
    def count(db: SessionDep) -> list[int | None]:
        counted = []
        for number in range(3):
            counted.append(db.scalar(NUMBER_OF_USERS))
            with SessionLocal.begin() as other:
                other.add(User(name="N", email=f"{number}@example.com"))
        return counted

    assert TestClient(own).get("/").json() == [0, 1, 2]


def test_read_only_outlives_another_decorator(engine: Engine) -> None:
    """One that is written with functools.wraps, as most are."""
    own = FastAPI()

    def logged(endpoint: Any) -> Any:
        @wraps(endpoint)
        def logging(*arguments: Any, **more: Any) -> Any:
            return endpoint(*arguments, **more)

        return logging

    @own.get("/")
    @logged
    @read_only
    def kind(db: SessionDep) -> bool:
        return db.get_bind() is read_engine(engine)

    assert TestClient(own).get("/").json() is True


def test_the_kind_is_up_to_the_endpoint(engine: Engine) -> None:
    own = FastAPI()

    def current_user(db: SessionDep) -> Any:
        return db.get_bind()

    Bind = Annotated[Any, Depends(current_user)]  # noqa: N806

    @own.get("/read")
    @read_only
    def read(bind: Bind) -> bool:
        return bind is read_engine(engine)

    @own.get("/write")
    @own.post("/write")
    def write(bind: Bind) -> bool:
        return bind is engine

    client = TestClient(own)
    assert client.get("/read").json() is True
    assert client.get("/write").json() is client.post("/write").json() is True


# ---- An endpoint that writes once


def test_what_writes_once_is_no_transaction_on_postgresql(engine: Engine) -> None:
    """The row is there at once, also for others."""
    own = FastAPI()

    @own.post("/")
    @writes_once
    def write(db: SessionDep) -> int:
        db.add(User(**ADA))
        db.flush()
        seen = number_of_users()
        db.commit()
        return seen

    assert TestClient(own).post("/").json() == (1 if engine.name == "postgresql" else 0)
    assert number_of_users() == 1
    with SessionLocal() as db:  # with the same connection
        db.add(User(**BOB))
        db.flush()
    assert number_of_users() == 1
    assert_all_returned(engine)


@pytest.mark.parametrize(
    ("first", "many"),
    [
        (select(func.count(User.id)), None),
        (text("SELECT 1"), None),
        (select(User).with_for_update(), None),
        (update(User).values(name="Eve"), None),
        (insert(User), [BOB, {"name": "N", "email": "n@example.com"}]),
    ],
)
def test_what_comes_before_makes_it_a_transaction(
    engine: Engine, first: Executable, many: Any
) -> None:
    """Then it may do whatever any other does."""
    own = FastAPI()

    @own.post("/")
    @writes_once
    def write(db: SessionDep) -> None:
        before = number_of_users()
        db.execute(first, many)
        db.execute(update(User).values(name="Eve"))
        with db.begin_nested():
            db.add(User(**ADA))
        assert number_of_users() == before

    with SessionLocal.begin() as db:
        db.add(User(name="There", email="there@example.com"))
    TestClient(own).post("/")
    assert number_of_users() == 1
    with SessionLocal() as db:
        assert db.scalars(select(User.name)).all() == ["There"]
    assert_all_returned(engine)


def test_what_is_written_before_the_commit_is_part_of_it(engine: Engine) -> None:
    """As by those who write down what others do."""

    def write_down(db: Session) -> None:
        assert number_of_users() == 0
        db.execute(insert(User), BOB)

    event.listen(SessionLocal, "before_commit", write_down)
    try:
        assert TestClient(app).post("/user", json=ADA).status_code == 200
    finally:
        event.remove(SessionLocal, "before_commit", write_down)
    assert number_of_users() == 2


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_what_is_set_for_a_transaction_lasts_as_long(engine: Engine) -> None:
    own = FastAPI()

    @own.post("/")
    @writes_once
    def write(db: SessionDep) -> str | None:
        db.execute(insert(User), ADA)
        return db.scalar(select(func.current_setting("app.who")))

    def set_who(db: Session, transaction: object, connection: Connection) -> None:
        connection.execute(select(func.set_config("app.who", "ada", True)))

    event.listen(SessionLocal, "after_begin", set_who)
    try:
        assert TestClient(own).post("/").json() == "ada"
    finally:
        event.remove(SessionLocal, "after_begin", set_who)


@pytest.mark.parametrize("first", [insert(User), insert(User).returning(User.id)])
def test_what_writes_once_does_not_go_on(engine: Engine, first: Executable) -> None:
    """Otherwise half of it would be there if the other half fails."""
    own = FastAPI()

    @own.post("/")
    @writes_once
    def write(db: SessionDep) -> None:
        db.execute(first, ADA)
        db.execute(insert(User), BOB)

    with pytest.raises(exc.InvalidRequestError, match="take @writes_once away"):
        TestClient(own).post("/")
    with SessionLocal() as db:
        assert db.scalar(select(User).filter_by(**BOB)) is None
    assert_all_returned(engine)


def test_what_writes_once_and_does_not_commit(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    own = FastAPI(exception_handlers=HANDLERS)

    @own.post("/{name}")
    @writes_once
    def write(name: str, db: SessionDep) -> None:
        db.execute(insert(User), ADA | {"name": name})
        if name == "commit":
            db.commit()

    client = TestClient(own)
    assert client.post("/commit").status_code == 200
    assert client.post("/commit").status_code == 409  # nothing was written
    assert "@writes_once" not in caplog.text
    with SessionLocal.begin() as db:
        db.execute(delete(User))
    client.post("/forget")
    assert "the row is there: take @writes_once away" in caplog.text


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_what_writes_once_and_loses_its_connection(engine: Engine) -> None:
    own = FastAPI(exception_handlers=HANDLERS)
    end = func.pg_terminate_backend(func.pg_backend_pid())

    @own.post("/")
    @writes_once
    def write(db: SessionDep) -> None:
        db.execute(insert(User).values(name=cast(end, String), email="e@example.com"))

    assert TestClient(own).post("/").status_code == 503
    assert TestClient(app).post("/user", json=ADA).status_code == 200


def test_what_goes_on_after_it_is_a_transaction(engine: Engine) -> None:
    """What a task does, which is given the session, is not what the endpoint has said."""
    own = FastAPI()

    def later(db: Session) -> None:
        for number in range(2):
            with db.begin():
                db.add(User(name="N", email=f"{number}@example.com"))
                db.flush()
                db.add(User(name="M", email=f"m{number}@example.com"))
        binds.append(db.get_bind())

    @own.post("/")
    @writes_once
    def write(tasks: BackgroundTasks, db: PastedDep) -> None:
        db.add(User(**ADA))
        db.commit()
        tasks.add_task(later, db)

    binds: list[Any] = []
    TestClient(own).post("/")
    assert number_of_users() == 5
    assert binds == [unbounded_engine(engine)]  # which ends with the app


def test_what_writes_once_in_the_event_loop_is_a_transaction(engine: Engine) -> None:
    """As any `async def` that writes, it takes two places on SQLite."""
    own = FastAPI()

    @own.post("/")
    @writes_once
    async def write(db: SessionDep) -> bool:
        return db.get_bind() is engine

    assert TestClient(own).post("/").json() is True


def test_what_writes_once_with_an_isolation_level(url: str) -> None:
    """It stays as it was chosen."""
    serializable = new_engine(url, isolation_level="SERIALIZABLE")
    User.metadata.create_all(serializable)
    with autocommit_engine(serializable).connect() as connection:
        connection.execute(insert(User), ADA)
        assert connection.get_isolation_level() == "SERIALIZABLE"
        assert not getattr(connection.connection.driver_connection, "autocommit", False)
    serializable.dispose()


# ---- An endpoint that searches


@pytest.mark.parametrize(
    ("query", "kind"),
    [("", "read_only"), ("q=", "read_only"), ("q=x", "search"), ("r=x", "read_only")],
)
def test_what_a_search_is(query: str, kind: str) -> None:
    @searches("q")
    def search() -> None: ...

    scope = {"type": "http", "method": "GET", "endpoint": search, "query_string": query.encode()}
    assert kind_of(HTTPConnection(scope)) == kind


def test_searches_keep_nobody_waiting(engine: Engine) -> None:
    """Two are let through; a third waits for them, and what only reads does not."""
    own = FastAPI()
    go_on = threading.Event()
    begun = threading.Semaphore(0)

    @own.get("/search")
    @searches("q")
    def search(db: SessionDep) -> bool:
        db.execute(NUMBER_OF_USERS)
        begun.release()
        return go_on.wait(20)

    @own.get("/read")
    @read_only
    def read(db: SessionDep) -> int:
        return db.scalar(NUMBER_OF_USERS) or 0

    with TestClient(own) as client, ThreadPoolExecutor() as threads:
        searching = [threads.submit(client.get, "/search?q=x") for _ in range(3)]
        assert begun.acquire(timeout=20)
        assert begun.acquire(timeout=20)
        assert [client.get("/read").json() for _ in range(9)] == [0] * 9
        assert not begun.acquire(timeout=0.1)
        go_on.set()
        assert [each.result().json() for each in searching] == [True] * 3
    assert_all_returned(engine)


NUMBERS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
SLOW = {"sqlite": NUMBERS, "postgresql": "SELECT pg_sleep(60)"}


def test_a_read_that_takes_too_long_is_a_503(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its connection is as good as before."""
    monkeypatch.setattr(core.engines, "READ_LIMIT", 0.2)
    own = FastAPI(exception_handlers=HANDLERS)

    @own.get("/{statement}")
    @read_only
    def read(statement: str, db: SessionDep) -> int:
        return db.scalar(text(SLOW[engine.name] if statement == "slow" else "SELECT 5")) or 0

    client = TestClient(own)
    for _ in range(12):  # more than the pool has connections
        response = client.get("/slow")
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        assert client.get("/fast").json() == 5
    assert_all_returned(engine)


def test_what_writes_may_take_longer(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.engines, "READ_LIMIT", 0.1)
    longer = "SELECT pg_sleep(0.3)"
    if engine.name == "sqlite":
        longer = NUMBERS.replace("FROM n)", "FROM n WHERE i < 3000000)")
    with SessionLocal() as db:
        start = time.monotonic()
        db.execute(text(longer)).all()
        assert time.monotonic() > start + 0.1


# ---- One session for a request


def test_one_session_for_a_request(engine: Engine) -> None:
    """However often it is asked for, in both scopes, and without FastAPI's cache."""
    own = FastAPI()

    def current_user(db: PastedDep) -> Session:
        return db

    def audit(db: Annotated[Session, Depends(get_db, use_cache=False)]) -> Iterator[Session]:
        yield db

    @own.get("/")
    def same(
        db: SessionDep,
        pasted: PastedDep,
        user_db: Annotated[Session, Depends(current_user)],
        audit_db: Annotated[Session, Depends(audit)],
    ) -> bool:
        return db is pasted is user_db is audit_db

    assert TestClient(own).get("/").json() is True
    assert_all_returned(engine)


@pytest.mark.parametrize("first", ["function", "request"])
def test_the_last_that_ends_closes_it(engine: Engine, first: str) -> None:
    """Otherwise what a dependency commits after the endpoint would be lost in silence."""
    own = FastAPI()
    steps: list[str] = []

    def log_call(db: PastedDep) -> Iterator[None]:
        yield
        db.add(User(**BOB))
        db.commit()
        steps.append("logged")

    if first == "function":

        @own.post("/", dependencies=[Depends(log_call)])
        def create(db: SessionDep) -> None:
            db.add(User(**ADA))
            db.commit()
    else:

        @own.post("/")
        def create_later(logged: Annotated[None, Depends(log_call)], db: SessionDep) -> None:
            db.add(User(**ADA))
            db.commit()

    assert TestClient(own).post("/").status_code == 200
    assert steps == ["logged"]
    assert number_of_users() == 2
    assert_all_returned(engine)


def test_an_error_ends_it_for_everybody(engine: Engine) -> None:
    own = FastAPI()

    @own.get("/")
    def fail(db: SessionDep, pasted: PastedDep) -> None:
        db.execute(insert(User), ADA)
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        TestClient(own).get("/")
    assert number_of_users() == 0
    assert_all_returned(engine)


def test_a_session_is_of_no_use_after_the_endpoint(engine: Engine) -> None:
    """A background task that goes on with a SessionDep would keep a connection for ever."""
    own = FastAPI()

    @own.get("/")
    def later(tasks: BackgroundTasks, db: SessionDep) -> None:
        tasks.add_task(db.scalar, NUMBER_OF_USERS)

    @own.get("/read")
    @read_only
    def later_read(tasks: BackgroundTasks, db: SessionDep) -> None:
        tasks.add_task(db.scalar, NUMBER_OF_USERS)

    for path in ("/", "/read"):
        with pytest.raises(exc.InvalidRequestError, match="ended with its request: open a new one"):
            TestClient(own).get(path)
    assert_all_returned(engine)


def test_as_pasted_it_lasts_until_everything_has_ended(engine: Engine) -> None:
    """As FastAPI has it: for what runs after the answer, or while it is sent."""
    own = FastAPI()
    found: list[int | None] = []

    @own.get("/task")
    def later(tasks: BackgroundTasks, db: PastedDep) -> None:
        tasks.add_task(lambda: found.append(db.scalar(NUMBER_OF_USERS)))

    @own.get("/stream")
    def stream(db: PastedDep) -> StreamingResponse:
        return StreamingResponse(str(db.scalar(NUMBER_OF_USERS)) for _ in range(2))

    TestClient(own).get("/task")
    assert found == [0]
    assert TestClient(own).get("/stream").text == "00"
    assert_all_returned(engine)


# ---- A get_db of one's own


def one_session_app(get_db: Any) -> FastAPI:
    """Return an app whose only call asks for a session and uses it."""
    own = FastAPI()

    @own.get("/")
    def use(db: Annotated[Session, Depends(get_db, scope="function")], fail: bool = False) -> None:
        db.add(User(**ADA))
        if fail:
            raise ValueError

    return own


def test_what_follows_the_yield_is_run(engine: Engine) -> None:
    """A commit for every call, or a rollback for each that failed, as some courses write it."""
    ended: list[str] = []

    @in_turn(engine)
    def get_db() -> Iterator[Session]:
        db = Session(engine)
        try:
            yield db
            db.commit()
            ended.append("well")
        except ValueError:
            db.rollback()
            ended.append("badly")
            raise
        finally:
            db.close()

    client = TestClient(one_session_app(get_db), raise_server_exceptions=False)
    assert client.get("/?fail=1").status_code == 500
    assert number_of_users() == 0
    assert client.get("/").status_code == 200
    assert number_of_users() == 1
    assert ended == ["badly", "well"]
    assert client.get("/").status_code == 500  # the same email: the commit fails, before the answer
    assert_all_returned(engine)


def fails() -> Iterator[Session]:
    raise LookupError
    yield


def no_generator() -> Session:
    return Session()


@pytest.mark.parametrize(("get_db", "error"), [(fails, LookupError), (no_generator, TypeError)])
def test_a_get_db_that_fails_gives_its_place_back(get_db: Any, error: type[Exception]) -> None:
    one_place = in_turn(create_engine("sqlite://", poolclass=StaticPool))
    with TestClient(one_session_app(one_place(get_db))) as client:  # one event loop, one queue
        for _ in range(2):
            with pytest.raises(error):
                client.get("/")


def test_a_failure_is_not_forgotten(engine: Engine) -> None:
    """Though a dependency that ends later has swallowed it: nothing is committed."""

    @in_turn(engine)
    def get_db() -> Iterator[Session]:
        with Session(engine) as db:
            yield db
            db.commit()

    own = FastAPI()

    def swallow(db: Annotated[Session, Depends(get_db)]) -> Iterator[None]:
        with suppress(ValueError):
            yield

    @own.post("/", dependencies=[Depends(swallow)])
    def fail(db: Annotated[Session, Depends(get_db, scope="function")]) -> None:
        db.add(User(**ADA))
        raise ValueError

    assert TestClient(own, raise_server_exceptions=False).post("/").status_code == 500
    assert number_of_users() == 0
    assert_all_returned(engine)


def test_a_get_db_that_uses_its_session_first(engine: Engine) -> None:
    """What it sets would not be there on another connection; an error says so."""

    @in_turn(engine)
    def get_db() -> Iterator[Session]:
        with Session(engine) as db:
            db.execute(text("SELECT 1"))
            yield db

    own = one_session_app(get_db)

    @own.get("/read")
    @read_only
    def read(db: Annotated[Session, Depends(get_db)]) -> None:
        pass

    @own.post("/write")
    @writes_once
    def write(db: Annotated[Session, Depends(get_db)]) -> None:
        db.add_all([User(**ADA), User(**BOB)])
        db.commit()

    client = TestClient(own)
    assert client.get("/").status_code == client.post("/write").status_code == 200
    for _ in range(2):
        with pytest.raises(exc.InvalidRequestError, match="before the yield"):
            client.get("/read")
    assert_all_returned(engine)


def test_tables_that_cannot_be_created_are_a_503(tmp_path: Path) -> None:
    """And everybody gets that answer: no place is lost."""
    away = create_engine(f"sqlite:///{tmp_path}/no/such/folder/app.db", poolclass=StaticPool)

    def prepare(bind: Engine) -> None:
        bind.connect()

    @in_turn(away, prepare)
    def get_db() -> Iterator[Session]:
        with Session(away) as db:
            yield db

    own = one_session_app(get_db)
    own.exception_handlers.update(HANDLERS)
    with TestClient(own) as client:
        assert [client.get("/").status_code for _ in range(3)] == [503] * 3


def test_two_databases_in_one_request(engine: Engine, tmp_path: Path) -> None:
    other = new_engine(f"sqlite:///{tmp_path}/other.db")

    @in_turn(other)
    def get_other_db() -> Iterator[Session]:
        with Session(other) as db:
            yield db

    own = FastAPI()

    @own.get("/")
    def both(db: SessionDep, other_db: Annotated[Session, Depends(get_other_db)]) -> list[bool]:
        return [db.get_bind() is engine, other_db.get_bind() is other]

    assert TestClient(own).get("/").json() == [True, True]
    other.dispose()


# ---- In a test


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

    app.dependency_overrides[get_db] = override_get_db
    client.post("/user", json=ADA)
    assert len(client.get("/users").json()) == 1
    assert client.get("/users/7").status_code == 404
    assert client.get("/health").status_code == 200
    assert ended == ["well", "well", "badly", "well"]
    app.dependency_overrides = {}
    assert client.get("/users").json() == []
    app.dependency_overrides[get_db] = override_get_db
    assert len(client.get("/users").json()) == 1


def test_an_override_in_an_app_of_ones_own(engine: Engine, other: "sessionmaker[Session]") -> None:
    """With a router that was included, and the pasted form: the real database is not asked."""
    router = APIRouter()

    @router.get("/count")
    def count(db: PastedDep) -> int | None:
        return db.scalar(NUMBER_OF_USERS)

    own = FastAPI()
    own.include_router(router, prefix="/own")
    own.dependency_overrides[get_db] = lambda: other()
    with other.begin() as db:
        db.add(User(**ADA))
    with engine.begin() as connection:
        connection.execute(text('ALTER TABLE "user" RENAME TO gone'))
    assert TestClient(own).get("/own/count").json() == 1


# ---- In line


def limits(engine: Engine) -> dict[str, int]:
    """Return how many requests of each kind may have a session at once, but for WebSockets."""
    lanes = lanes_of(engine)
    del lanes["websocket"], lanes["stream"], lanes["async_write"], lanes["writes_once"]
    for lane in lanes.values():  # no queue lets more through than there are connections
        pool = lane.engine_for(engine).pool
        if isinstance(pool, QueuePool):
            assert lane.queue.limit <= pool.size()
            assert pool._max_overflow == 0
    return {kind: lane.queue.limit for kind, lane in lanes.items()}


def test_no_more_sessions_than_connections(tmp_path: Path) -> None:
    postgresql = new_engine("postgresql+psycopg://u@127.0.0.1:1/x")
    shared = {"read_only": 8, "search": 2, "new_connection": 1}
    assert limits(postgresql) == {"write": 10, "get": 10} | shared
    lanes = lanes_of(postgresql)
    assert lanes["write"].queue is lanes["writes_once"].queue is lanes["get"].queue
    pools = [each.pool for each in (postgresql, read_engine(postgresql))]
    connections = sum(pool.size() for pool in pools if isinstance(pool, QueuePool))
    assert connections + lanes["new_connection"].queue.limit == 21  # what docs/production.md says
    # SQLite: one writes at a time, and slow ones must not delay those who only look.
    file = new_engine(f"sqlite:///{tmp_path}/app.db")
    assert limits(file) == {"write": 2, "get": 8} | shared
    own = new_engine(file.url, execution_options={"logging_token": "own"})
    assert limits(own) == limits(file)  # options of your own take none away
    for one in (create_engine("sqlite://", poolclass=StaticPool), new_engine("sqlite://")):
        assert set(limits(one).values()) == {1}
        assert read_engine(one) is unpooled_engine(one) is one
        lanes = lanes_of(one)
        endless = ("websocket", "stream")
        assert len({lane.queue for kind, lane in lanes.items() if kind not in endless}) == 1


def test_who_listens_on_the_engine_hears_every_connection(
    engine: Engine, statements: list[str]
) -> None:
    """Once each, whenever they begin to listen, and also after `dispose()`."""
    calls = ("/users", "/users?query=a", "/user?user_id=1", "/health")
    client = TestClient(app)
    for path in calls:
        client.get(path)
    heard: list[str] = []
    taken: list[object] = []

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def count(*arguments: Any) -> tuple[str, Any]:
        heard.append(arguments[2])
        return f"{arguments[2]} -- heard", arguments[3]

    event.listen(engine, "checkout", lambda *arguments: taken.append(arguments[0]))
    for _ in range(2):
        for twin in (engine, read_engine(engine), unpooled_engine(engine)):
            twin.dispose()
        for said in (statements, heard, taken):
            said.clear()
        for path in calls:
            client.get(path)
        client.post("/user", json=ADA)
        assert len(taken) == 5
        assert [said.removesuffix(" -- heard") for said in statements] == heard
        assert len(heard) >= 5


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("path", ["/users", "/user?user_id=1", "/pasted/user?user_id=1"])
def test_more_clients_than_threads_are_all_answered(engine: Engine, path: str) -> None:
    """tests/live/test_claims.py has more of them, on real servers."""
    import benchmarks.pasted  # noqa: F401  # not above: whoever has no users has none

    async def crowd() -> None:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            answers = await asyncio.gather(*(client.get(path) for _ in range(60)))
        assert Counter(answer.status_code for answer in answers) == {200: 60}

    with SessionLocal() as db:
        db.add(User(**ADA))
        db.commit()
    asyncio.run(asyncio.wait_for(crowd(), 60))
    assert_all_returned(engine)


def test_whoever_waits_is_told_so_after_ten_seconds() -> None:
    assert core.sessions.MAX_WAIT == 10  # what docs/production.md says


def test_whoever_waits_too_long_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves no trace: afterwards as many get a place as before."""
    monkeypatch.setattr(core.sessions, "MAX_WAIT", 0.05)
    queue = Queue("test", 2)

    async def wait() -> None:
        for _ in range(3):
            places = [await queue.turn(), await queue.turn()]
            with pytest.raises(exc.TimeoutError, match=r"no session was free within 0\.05 s"):
                await queue.turn()
            assert (queue.used, queue.waiting) == (2, 0)
            for release in places:
                release()
        assert queue.used == 0

    asyncio.run(wait())
    asyncio.run(wait())  # an event loop of its own, as each test client has one


def test_whoever_wants_two_places_is_not_passed_and_holds_up_nobody_that_leaves() -> None:
    queue = Queue("test", 2)

    async def wait() -> None:
        held = [await queue.turn(), await queue.turn()]
        two, one = (asyncio.create_task(queue.turn(wanted)) for wanted in (2, 1))
        await asyncio.sleep(0)
        held.pop()()
        await asyncio.sleep(0.01)
        assert not two.done()
        assert not one.done()  # a place is free, and it is not the next
        two.cancel()
        (await one)()
        held.pop()()
        assert queue.used == 0
        (await queue.turn(2))()

    asyncio.run(asyncio.wait_for(wait(), 5))


def test_a_client_that_leaves_in_the_moment_of_its_turn() -> None:
    queue = Queue("test", 1)

    async def wait() -> None:
        release = await queue.turn()
        leaving, staying = (asyncio.create_task(queue.turn()) for _ in range(2))
        await asyncio.sleep(0)
        release()  # the place is that of the first, which has not noticed yet
        leaving.cancel()
        (await staying)()
        assert queue.used == 0

    asyncio.run(asyncio.wait_for(wait(), 5))


def test_the_next_in_line_gets_the_session() -> None:
    served: list[int] = []

    async def request(number: int) -> None:
        async with session_of_a_request():
            served.append(number)
            await asyncio.sleep(0)

    async def crowd() -> None:
        await asyncio.gather(*(request(number) for number in range(50)))

    session_of_a_request = one_at_a_time()
    asyncio.run(crowd())
    assert served == list(range(50))


def test_a_client_that_leaves_the_line() -> None:
    session_of_a_request = one_at_a_time()

    async def request() -> None:
        async with session_of_a_request():
            await asyncio.sleep(0.01)

    async def crowd() -> None:
        requests = [asyncio.create_task(request()) for _ in range(10)]
        await asyncio.sleep(0)
        for leaving in requests[::2]:
            leaving.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        await request()

    asyncio.run(crowd())


def one_at_a_time() -> Callable[[], AbstractAsyncContextManager[Session]]:
    """Return what opens a session as FastAPI does for a request, on an engine of one connection."""
    bind = create_engine("sqlite://", poolclass=StaticPool)

    @in_turn(bind)
    def get_db() -> Iterator[Session]:
        with Session(bind) as db:
            yield db

    for_request: Any = vars(get_db)["__wrapped__"]

    def open_session() -> AbstractAsyncContextManager[Session]:
        sessions: AsyncIterator[Session] = for_request(HTTPConnection({"type": "http"}))
        return asynccontextmanager(lambda: sessions)()

    return open_session


def test_a_client_that_leaves_in_the_middle(engine: Engine) -> None:
    """Its session is closed all the same, though all around it is cancelled."""
    for_request: Any = vars(get_db)["__wrapped__"]

    async def leave() -> None:
        with CancelScope() as scope:
            async with asynccontextmanager(for_request)(HTTPConnection({"type": "http"})) as db:
                db.add(User(**ADA))
                db.flush()
                scope.cancel()
                await asyncio.sleep(1)

    asyncio.run(leave())
    assert_all_returned(engine)
    assert number_of_users() == 0


def test_a_session_that_has_no_single_engine(engine: Engine) -> None:
    """As in `Session(binds={...})`: it is closed like any other."""

    @in_turn(engine)
    def get_db() -> Iterator[Session]:
        with Session(binds={User: engine}) as db:
            yield db

    TestClient(one_session_app(get_db)).get("/")
    assert_all_returned(engine)


def test_a_websocket_keeps_nobody_waiting(engine: Engine) -> None:
    """Twenty that stay, more than there are connections; each has asked the database."""
    own = FastAPI()

    @own.websocket("/count")
    async def count(websocket: WebSocket, db: PastedDep) -> None:
        await websocket.accept()
        async for _ in websocket.iter_text():
            await websocket.send_json(db.scalar(NUMBER_OF_USERS))

    @own.get("/own")
    def read(db: PastedDep) -> int | None:
        return db.scalar(NUMBER_OF_USERS)

    with ExitStack() as stack:
        client = stack.enter_context(TestClient(own))
        for _ in range(20):
            websocket = stack.enter_context(client.websocket_connect("/count"))
            websocket.send_text("?")
            assert websocket.receive_json() == 0
        assert client.get("/own").json() == 0
        assert TestClient(app).post("/user", json=ADA).status_code == 200


def test_health_needs_no_connection_of_the_pool(engine: Engine) -> None:
    """It opens one to the same database, and shows so whether it can be reached."""
    opened: list[object] = []
    event.listen(
        unpooled_engine(engine), "connect", lambda connection, _: opened.append(connection)
    )
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(engine.connect())
        for number in (1, 2):
            assert TestClient(app).get("/health").status_code == 200
            assert len(opened) == number


@pytest.mark.parametrize("path", ["/users", "/users?page=9", "/users/7", "/user", "/health"])
def test_requests_give_their_connection_back(engine: Engine, path: str) -> None:
    TestClient(app).get(path)
    assert_all_returned(engine)


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


# ---- Whatever get_db is


def test_two_queues_in_two_orders(tmp_path: Path) -> None:
    """Who has a place in one does not wait in the other: each would have what the other wants."""
    engines = [create_engine(f"sqlite:///{tmp_path}/{name}.db", pool_size=1) for name in "ab"]

    def session_of(engine: Engine) -> Callable[..., Iterator[Session]]:
        @in_turn(engine)
        def get_db() -> Iterator[Session]:
            with Session(engine) as db:
                yield db

        return get_db

    first, second = map(session_of, engines)
    app = FastAPI()

    @app.get("/ab")
    def ab(a: Annotated[Session, Depends(first)], b: Annotated[Session, Depends(second)]) -> None:
        time.sleep(0.01)

    @app.get("/ba")
    def ba(b: Annotated[Session, Depends(second)], a: Annotated[Session, Depends(first)]) -> None:
        time.sleep(0.01)

    with TestClient(app) as client, ThreadPoolExecutor(40) as threads:
        answers = list(threads.map(client.get, ["/ab", "/ba"] * 40))
    assert {answer.status_code for answer in answers} == {200}
    for engine in engines:
        engine.dispose()


def test_several_get_db_of_one_engine(tmp_path: Path) -> None:
    """They stand in the same queue: there are no more connections because of that."""
    engine = create_engine(f"sqlite:///{tmp_path}/app.db", pool_size=1, max_overflow=0)
    most = Counter[str]()
    app = FastAPI()

    def one_more(number: int) -> None:
        @in_turn(engine)
        def get_db() -> Iterator[Session]:
            with Session(engine) as db:
                yield db

        @app.get(f"/{number}")
        def read(db: Annotated[Session, Depends(get_db)]) -> None:
            most["now"] += 1
            most["most"] = max(most["most"], most["now"])
            time.sleep(0.02)
            most["now"] -= 1

    for number in range(3):
        one_more(number)
    with TestClient(app) as client, ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(client.get, ["/0", "/1", "/2"] * 4))
    assert {answer.status_code for answer in answers} == {200}
    assert most["most"] == 1
    engine.dispose()


def test_what_is_no_session(tmp_path: Path) -> None:
    """It works, and its place comes back."""
    engine = create_engine(f"sqlite:///{tmp_path}/app.db", pool_size=1, max_overflow=0)

    @in_turn(engine)
    def get_connection() -> Any:
        with engine.connect() as connection:
            yield connection

    app = FastAPI()

    @app.get("/")
    def read(connection: Annotated[Any, Depends(get_connection)]) -> int:
        return int(connection.scalar(text("SELECT 1")))

    with TestClient(app) as client:
        assert [client.get("/").json() for _ in range(3)] == [1, 1, 1]
    engine.dispose()


def test_what_cannot_stand_in_line(engine: Engine) -> None:
    async def an_async_one() -> Any:
        yield 1

    def with_parameters(request: Any) -> Any:
        yield request

    cannot: list[Any] = [an_async_one, with_parameters]
    for one in cannot:
        with pytest.raises(TypeError, match="without parameters and not async"):
            in_turn(engine)(one)
