"""Somebody's own tables, called like those of the examples, beside the examples and the page."""

import shutil
from pathlib import Path

import pytest

from tests.processes import copy_app
from tests.server import ROOT, Server
from tests.users import ADA

TABLES = """

class Post(Base):
    __tablename__ = "post"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    user: Mapped["User"] = relationship("User", back_populates="posts")


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)


class Account(Base):
    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)


User.posts = relationship("Post", back_populates="user")
"""
CALLS = """
from collections.abc import Iterable

from database import SessionDep
from main import app
from models import Post, User

@app.post("/own")
def write(db: SessionDep):
    user = db.get_one(User, 1)
    user.posts.append(Post(text="Mine"))
    db.commit()

@app.get("/own/stream")
def count(db: SessionDep) -> Iterable[int]:
    for _ in range(2):
        yield db.query(Post).count()
        db.rollback()

@app.get("/own")
def read(db: SessionDep):
    return [[post.text for post in user.posts] for user in db.query(User).order_by(User.id)]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the app, with tables that somebody has added."""
    copy_app(tmp_path / "app")
    shutil.copytree(ROOT / "watch", tmp_path / "app" / "watch")
    models = tmp_path / "app" / "models.py"
    code = models.read_text().replace("import CheckC", "import ForeignKey, CheckC")
    code = code.replace("import Mapped", "import relationship, Mapped")
    models.write_text(code + TABLES)
    return tmp_path / "app"


def test_a_post_of_ones_own(folder: Path, url: str) -> None:
    (folder / "own.py").write_text(CALLS + "from watch.app import app\n")
    with Server(url, app="own:app", folder=folder) as server:
        server.client.post("/user", json=ADA)
        assert server.client.post("/own").status_code == 200
        assert server.client.post("/watch/lessons/n-plus-1").json() == [200, 200]
        assert server.client.get("/own").json() == [["Mine"], [], [], []]
        assert server.client.get("/own/stream").text == "1\n1\n"
    with Server(url, app="examples.posts:app", folder=folder) as server:
        posts = [len(author["posts"]) for author in server.client.get("/authors").json()]
        assert posts == [0, 2, 2, 2]
    with Server(url, app="examples.transfer:app", folder=folder) as server:
        assert server.client.post("/accounts", json={"balance": 1}).status_code == 201
