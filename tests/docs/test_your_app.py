"""What docs/your-app.md says works: one file and one line, in apps that know nothing of ours."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.processes import run_python
from tests.server import ROOT, Call, Server

PAGE = (ROOT / "docs" / "your-app.md").read_text()
IMPORT, LINE = re.findall(r"^\+(from sessions .*|@in_turn.*)$", PAGE, re.MULTILINE)

# As courses write it, with a get_db that commits, and an error handler of its own.
CLASSIC = {
    "shop/__init__.py": "",
    "shop/db.py": """
import os
from sqlalchemy import create_engine, event
from sqlalchemy.orm import DeclarativeBase, sessionmaker

url = os.environ["DATABASE_URL"]
if url.startswith("sqlite"):
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 60})
else:
    engine = create_engine(url)
statements = []
event.listen(engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
Maker = sessionmaker(autocommit=False, autoflush=False, bind=engine)


class Base(DeclarativeBase):
    pass


def database():
    db = Maker()
    try:
        yield db
        db.commit()
    finally:
        db.close()
""",
    "shop/web.py": """
from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Mapped, Session, mapped_column
from shop.db import Base, database, engine


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


class ItemOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    title: str


Base.metadata.create_all(engine)
app = FastAPI()


@app.exception_handler(LookupError)
async def missing(request, error):
    return JSONResponse({"missing": True}, 404)


@app.get("/items", response_model=list[ItemOut])
def items(db: Session = Depends(database)):
    return db.query(Item).order_by(Item.id).limit(20).all()


@app.get("/items/{number}", response_model=ItemOut)
def item(number: int, db: Session = Depends(database)):
    return db.get(Item, number) or missing_item()


def missing_item():
    raise LookupError


@app.post("/items", response_model=ItemOut)
def create(title: str, db: Session = Depends(database)):
    item = Item(title=title)
    db.add(item)
    db.flush()
    return item
""",
    "test_shop.py": """
from fastapi.testclient import TestClient
from sqlalchemy import StaticPool, create_engine
from sqlalchemy.orm import Session
from shop.db import Base, database, statements
from shop.web import app


def test_items():
    with TestClient(app) as client:
        created = client.post("/items?title=One").json()
        assert client.get(f"/items/{created['id']}").json() == created
        assert client.get("/items/99999").json() == {"missing": True}
        assert any("INSERT" in statement for statement in statements)


def test_another_database():
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    Base.metadata.create_all(engine)
    app.dependency_overrides[database] = lambda: Session(engine)
    assert TestClient(app).get("/items").json() == []
    app.dependency_overrides.clear()
    engine.dispose()


def test_a_script():
    db = next(database())
    assert db.execute.__self__ is db
    db.close()
""",
}
# As SQLModel's documentation writes it, on a pool of one's own.
SQLMODEL = {
    "shop/__init__.py": "",
    "shop/db.py": """
import os
from collections.abc import Generator
from sqlmodel import Session, create_engine

url = os.environ["DATABASE_URL"]
engine = create_engine(url, pool_size=3, max_overflow=4, pool_timeout=60)


def get_session() -> Generator[Session, None, None]:
    with Session(engine) as session:
        yield session
""",
    "shop/web.py": """
from typing import Annotated
from fastapi import Depends, FastAPI, HTTPException
from shop.db import engine, get_session
from sqlmodel import Field, Session, SQLModel, select


class ItemBase(SQLModel):
    title: str


class Item(ItemBase, table=True):
    id: int | None = Field(default=None, primary_key=True)


class ItemPublic(ItemBase):
    id: int


SessionDep = Annotated[Session, Depends(get_session)]
SQLModel.metadata.create_all(engine)
app = FastAPI()


@app.get("/items", response_model=list[ItemPublic])
def items(session: SessionDep):
    return session.exec(select(Item).order_by(Item.id).limit(20)).all()


@app.get("/items/{number}", response_model=ItemPublic)
def item(number: int, session: SessionDep):
    found = session.get(Item, number)
    if not found:
        raise HTTPException(404, "No such item")
    return found


@app.post("/items", response_model=ItemPublic)
def create(title: str, session: SessionDep):
    item = Item(title=title)
    session.add(item)
    session.commit()
    session.refresh(item)
    return item
""",
    "test_shop.py": """
from fastapi.testclient import TestClient
from shop.web import app


def test_items():
    with TestClient(app) as client:
        created = client.post("/items?title=One").json()
        assert client.get(f"/items/{created['id']}").json() == created
        assert client.get("/items/99999").status_code == 404
""",
}
CALLS: list[Call] = [
    ("GET", "/items", None),
    ("GET", "/items/1", None),
    ("POST", "/items?title=Two", None),
    ("GET", "/items", None),
]


@pytest.mark.parametrize("app", [CLASSIC, SQLMODEL], ids=["classic", "sqlmodel"])
def test_two_hundred_clients(url: str, tmp_path: Path, app: dict[str, str]) -> None:
    """Before, it does not answer them all; after, it does, and its own tests pass unchanged."""
    (tmp_path / "shop").mkdir()
    for name, code in app.items():
        (tmp_path / name).write_text(code)

    def its_tests() -> None:
        environment = {"PYTHONPATH": str(tmp_path), "DATABASE_URL": url}
        done = run_python(
            "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=tmp_path, **environment
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def answers(patience: float) -> Counter[int]:
        with Server(url, app="shop.web:app", folder=tmp_path) as server:
            assert server.client.post("/items?title=One").status_code == 200
            return Counter(answer.status_code for answer in server.at_once(CALLS * 100, patience))

    its_tests()
    assert answers(8)[200] < 400
    # What the page says, in a package.
    shutil.copy(ROOT / "core" / "sessions.py", tmp_path / "shop" / "sessions.py")
    path = tmp_path / "shop" / "db.py"
    code = path.read_text()
    code = re.sub(r"^def (database|get_session)", f"{LINE}\n\\g<0>", code, flags=re.MULTILINE)
    path.write_text(IMPORT.replace("sessions", ".sessions") + "\n" + code)
    its_tests()
    assert answers(0) == {200: 400}
