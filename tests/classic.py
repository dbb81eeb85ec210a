"""The app and an endpoint as a learner writes one: FastAPI checks the answer and ends the session.

`uvicorn tests.classic:app`
"""

from fastapi import HTTPException

from dependencies import ReadDep, SessionDep
from main import app
from models import User
from schemas import UserId, UserRead


@app.get("/classic/{user_id}", response_model=UserRead)
def read_user(user_id: UserId, db: SessionDep) -> User:
    """Return one user."""
    user = db.query(User).filter(User.id == user_id).first()
    if user is None:
        raise HTTPException(404, "User not found")
    return user


@app.get("/write-then-read")
def write_then_read(db: SessionDep, read: ReadDep) -> bool:
    """Take both kinds of session."""
    return db.get(User, 1) is not None and read.get(User, 1) is not None


@app.get("/read-then-write")
def read_then_write(read: ReadDep, db: SessionDep) -> bool:
    """Take both, the other way round."""
    return db.get(User, 1) is not None and read.get(User, 1) is not None
