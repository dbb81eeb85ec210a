"""The app and an endpoint as a learner writes one: FastAPI checks the answer and ends the session.

`uvicorn tests.classic:app`
"""

from fastapi import HTTPException

from dependencies import SessionDep
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
