from fastapi import FastAPI, HTTPException
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from database import SessionDep, init_db
from models import User
from schemas import UserBody, UserRead

init_db()
app = FastAPI()


@app.get("/users", response_model=list[UserRead])
def list_users(db: SessionDep):
    return db.scalars(select(User).order_by(User.id)).all()


@app.get("/user", response_model=UserRead)
def read_user(user_id: int, db: SessionDep):
    user = db.get(User, user_id)
    if user is None:
        raise HTTPException(404, "User not found")
    return user


@app.post("/user", response_model=UserRead)
def create_user(body: UserBody, db: SessionDep):
    user = User(name=body.name, email=body.email)
    db.add(user)
    try:
        db.commit()
    except IntegrityError:
        raise HTTPException(409, "Email already registered") from None
    return user


@app.post("/user/{user_id}", response_model=UserRead)
def replace_user(user_id: int, body: UserBody, db: SessionDep):
    user = read_user(user_id, db)
    user.name = body.name
    user.email = body.email
    try:
        db.commit()
    except IntegrityError:
        raise HTTPException(409, "Email already registered") from None
    return user


@app.delete("/user")
def delete_user(user_id: int, db: SessionDep):
    db.delete(read_user(user_id, db))
    db.commit()
    return {"detail": "User deleted"}
