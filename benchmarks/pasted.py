"""The app, with endpoints as courses write them: `uvicorn benchmarks.pasted:app`."""

from collections.abc import Iterator

from fastapi import Depends, HTTPException, WebSocket
from sqlalchemy.orm import Session

from core.sessions import read_only
from database import SessionDep, SessionLocal, get_db
from main import app
from models import User
from schemas import UserBody, UserRead


@app.get("/pasted/user", response_model=UserRead)
def get_user(user_id: int, db: Session = Depends(get_db)) -> User:  # noqa: B008
    """Return one user."""
    user = db.query(User).filter(User.id == user_id).first()
    if user is None:
        raise HTTPException(status_code=404, detail="User not found")
    return user


@app.get("/pasted/users", response_model=list[UserRead])
def get_users(skip: int = 0, limit: int = 100, db: Session = Depends(get_db)) -> list[User]:  # noqa: B008
    """Return a page of users."""
    return db.query(User).offset(skip).limit(limit).all()


@app.post("/pasted/user", response_model=UserRead)
def create_user(user: UserBody, db: Session = Depends(get_db)) -> User:  # noqa: B008
    """Create a user."""
    db_user = User(name=user.name, email=user.email)
    db.add(db_user)
    db.commit()
    db.refresh(db_user)
    return db_user


@app.get("/alias/user", response_model=UserRead)
def read_user(user_id: int, db: SessionDep) -> User:
    """Return one user, with the short form."""
    return db.get_one(User, user_id)


@app.get("/read-only/user", response_model=UserRead)
@read_only
def only_read_user(user_id: int, db: Session = Depends(get_db)) -> User:  # noqa: B008
    """Return one user, and say that this only reads."""
    return db.get_one(User, user_id)


@app.get("/both/user", response_model=UserRead)
def read_user_twice(user_id: int, db: SessionDep, pasted: Session = Depends(get_db)) -> User:  # noqa: B008
    """Return one user, with a session that is asked for in both forms."""
    assert db is pasted
    return db.get_one(User, user_id)


@app.get("/async/user", response_model=UserRead)
async def async_read_user(user_id: int, db: Session = Depends(get_db)) -> User:  # noqa: B008
    """Return one user, and hold up the event loop meanwhile, as many courses do."""
    return db.get_one(User, user_id)


def own_get_db() -> Iterator[Session]:
    """Yield a session, from a function that stands in the course's own main.py."""
    db = SessionLocal()
    try:
        yield db
    finally:
        db.close()


@app.get("/own/user", response_model=UserRead)
def own_read_user(user_id: int, db: Session = Depends(own_get_db)) -> User:  # noqa: B008
    """Return one user."""
    return db.get_one(User, user_id)


@app.websocket("/websocket")
async def count(websocket: WebSocket, db: Session = Depends(get_db)) -> None:  # noqa: B008
    """Answer each message with the number of users, for as long as somebody listens."""
    await websocket.accept()
    async for _ in websocket.iter_text():
        await websocket.send_json(db.query(User).count())
