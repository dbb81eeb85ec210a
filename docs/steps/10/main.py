from typing import Literal

from fastapi import FastAPI, HTTPException, Query
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

import stats
from database import SessionDep, init_db
from models import User
from schemas import UserBody, UserRead

init_db()
app = FastAPI()
app.include_router(stats.router)


@app.get("/users", response_model=list[UserRead])
def list_users(
    db: SessionDep,
    query: str = "",
    is_active: bool | None = None,
    order_by: Literal["id", "name", "email"] = "id",
    page: int = Query(1, ge=1),
    page_size: int = Query(100, ge=1, le=1000),
):
    users = select(User).order_by(getattr(User, order_by), User.id)
    if query:
        users = users.where(User.name.icontains(query, autoescape=True))
    if is_active is not None:
        users = users.where(User.is_active == is_active)
    return db.scalars(users.limit(page_size).offset((page - 1) * page_size)).all()


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
