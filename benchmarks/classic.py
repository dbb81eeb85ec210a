"""The snippet that courses paste, to measure against: `uvicorn benchmarks.classic:app`.

One session per request and nothing else: the pool is SQLAlchemy's default, so is the journal of
SQLite; FastAPI opens and closes the session in worker threads.

Each endpoint is there twice: as many lessons write it, without `response_model` or return
annotation (`response_model=None` has the same effect, and leaves us the types); and below /checked
with a `response_model`, as FastAPI's documentation teaches: FastAPI then checks every answer, in
one more worker thread.
"""

import os
from collections.abc import Iterator

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Integer, String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

URL = os.environ["DATABASE_URL"]
engine = create_engine(
    URL, connect_args={"check_same_thread": False} if URL.startswith("sqlite") else {}
)
SessionLocal = sessionmaker(autocommit=False, autoflush=False, bind=engine)


class Base(DeclarativeBase):
    """What the table derives from."""


class User(Base):
    """A row of the table."""

    __tablename__ = "user"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, index=True)
    name: Mapped[str] = mapped_column(String(100))
    email: Mapped[str] = mapped_column(String(254), unique=True, index=True)
    is_active: Mapped[bool] = mapped_column(default=True)


class UserBody(BaseModel):
    """What comes in."""

    name: str
    email: str


class UserOut(UserBody):
    """What goes out."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    is_active: bool


Base.metadata.create_all(bind=engine)
app = FastAPI()


def get_db() -> Iterator[Session]:
    """Yield a session for one request."""
    db = SessionLocal()
    try:
        yield db
    finally:
        db.close()


@app.get("/user", response_model=None)
@app.get("/checked/user", response_model=UserOut)
def read_user(user_id: int, db: Session = Depends(get_db)) -> User:  # noqa: B008
    """Return one user."""
    user = db.query(User).filter(User.id == user_id).first()
    if user is None:
        raise HTTPException(404, "User not found")
    return user


@app.get("/users", response_model=None)
@app.get("/checked/users", response_model=list[UserOut])
def read_users(skip: int = 0, limit: int = 100, db: Session = Depends(get_db)) -> list[User]:  # noqa: B008
    """Return a page of users."""
    return db.query(User).offset(skip).limit(limit).all()


@app.post("/user", response_model=None)
@app.post("/checked/user", response_model=UserOut)
def create_user(body: UserBody, db: Session = Depends(get_db)) -> User:  # noqa: B008
    """Create a user."""
    user = User(name=body.name, email=body.email)
    db.add(user)
    db.commit()
    db.refresh(user)
    return user
