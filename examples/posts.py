"""A second table and a relationship, without N+1: `uvicorn examples.posts:app`.

`GET /authors` reads users and their posts with two statements, however many there are;
`GET /authors/naive` needs one more for each user. The database deletes posts with their author.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import HTTPException
from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints
from sqlalchemy import DateTime, ForeignKey, String, select
from sqlalchemy.orm import Mapped, mapped_column, relationship, selectinload

import database
import main
from core.bodies import NO_CONTROL
from core.sessions import read_only
from core.startup import create_app
from database import SessionDep
from examples import ExampleBase
from models import User
from schemas import UserId


class Author(ExampleBase):
    """A user, who has posts.

    In your models.py, `posts` is one more line of User. Here it is a second class for the table
    `user`, because an example leaves User as it is.
    """

    __table__ = User.__table__
    id: Mapped[int]
    name: Mapped[str]

    posts: Mapped[list["Post"]] = relationship(
        back_populates="author",
        order_by=lambda: (Post.created_at.desc(), Post.id.desc()),
        cascade="all",
        passive_deletes=True,  # the database deletes the posts
    )


class Post(ExampleBase):
    """Something that a user has written."""

    __tablename__ = "example_post"

    id: Mapped[int] = mapped_column(primary_key=True)
    # The index finds a user's posts, also when they have to be deleted.
    author_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), index=True)
    title: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), default=lambda: datetime.now(UTC)
    )

    author: Mapped[Author] = relationship(back_populates="posts")


class PostBody(BaseModel):
    """A post as a client writes one."""

    title: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=NO_CONTROL),
    ]


class PostRead(PostBody):
    """A post as a client reads one."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    created_at: AwareDatetime


class AuthorRead(BaseModel):
    """A user with the posts, the newest first."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    posts: list[PostRead]


app = create_app(database, title="Posts")


@app.get("/authors", response_model=list[AuthorRead])
@read_only
def list_authors(db: SessionDep) -> Any:
    """Return users with their posts: a SELECT for the users, one for all of their posts."""
    statement = select(Author).order_by(Author.id).limit(100).options(selectinload(Author.posts))
    return db.scalars(statement).all()


@app.get("/authors/naive", response_model=list[AuthorRead])
@read_only
def list_authors_naive(db: SessionDep) -> Any:
    """Return the same: a SELECT for the users, and one more for each of them (N+1)."""
    authors = db.scalars(select(Author).order_by(Author.id).limit(100)).all()
    return [AuthorRead.model_validate(author) for author in authors]


@app.post("/users/{user_id}/posts", response_model=PostRead, status_code=201)
def create_post(user_id: UserId, body: PostBody, db: SessionDep) -> PostRead:
    """Create a post of a user."""
    author = db.get(Author, user_id)
    if author is None:
        raise HTTPException(404, "User not found")
    post = Post(title=body.title, author=author)
    db.add(post)
    db.flush()
    created = PostRead.model_validate(post)
    db.commit()
    return created


# Every other call is the app's.
app.mount("/", main.app)
