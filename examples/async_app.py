"""The same API on an async engine: `uvicorn examples.async_app:app`.

Tables, schemas, errors, statements and answers are the app's; only who waits for the database
differs. Async pays where a call spends its time awaiting other services as well, or thousands wait
at once for slow ones; not for short statements: of `GET /user`, 32 clients get 2070 per second from
the app and 1620 from this one on PostgreSQL, 2580 and 1780 on SQLite (benchmarks/load.py).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.middleware import Middleware
from fastapi_offline import FastAPIOffline
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

import main
from database import engine_options
from dependencies import lifespan, open_read_session
from errors import HANDLERS, NOT_FOUND, REFUSED, UNAVAILABLE, LimitBody
from models import User
from pages import (
    INSERT_USERS,
    SELECT_USER,
    count_users,
    created_response,
    json_response,
    page_response,
    select_users,
    update_user,
    user_response,
)
from schemas import Detail, UserBody, UserChanges, UserId, UserQuery, UserRead
from settings import settings

URL = settings.database_url.replace("sqlite:", "sqlite+aiosqlite:", 1)
engine = create_async_engine(URL, **engine_options(URL))
# What a session has read stays readable after the commit: there is no await in `user.name`.
AsyncSessionLocal = async_sessionmaker(engine, autoflush=False, expire_on_commit=False)


async def get_db() -> AsyncIterator[AsyncSession]:
    """Yield a session and close it in the end."""
    async with AsyncSessionLocal() as db:
        yield db


# max_concurrency: no more requests have a session at once than there are connections. It counts
# for this one Depends(), so all endpoints have to share its name.
SessionDep = Annotated[
    AsyncSession, Depends(get_db, scope="function", max_concurrency=open_read_session.limit)
]


@asynccontextmanager
async def async_lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Do what the app does at its start and end, and close the connections of this engine, too."""
    async with lifespan(app):
        yield
        await engine.dispose()


app = FastAPIOffline(
    title="User API, async",
    responses=UNAVAILABLE,
    lifespan=async_lifespan,
    exception_handlers=HANDLERS,
    middleware=[Middleware(LimitBody)],
)


@app.get("/users", response_model=list[UserRead])
@app.get("/users/", include_in_schema=False)
async def list_users(
    request: Request, params: Annotated[UserQuery, Query()], db: SessionDep
) -> Response:
    """List users page by page."""
    rows = (await db.execute(*select_users(params))).all()
    total = None if rows or params.page == 1 else await db.scalar(*count_users(params))
    return page_response(request, params, rows, total)


@app.get("/user", response_model=UserRead, responses=NOT_FOUND)
@app.get("/users/{user_id}", response_model=UserRead, responses=NOT_FOUND)
async def read_user(user_id: UserId, db: SessionDep) -> Response:
    """Return one user."""
    return user_response((await db.execute(SELECT_USER, {"user_id": user_id})).first())


@app.post("/user", response_model=UserRead, responses=REFUSED)
@app.post("/users", response_model=UserRead, responses=REFUSED, status_code=201)
async def create_user(request: Request, body: UserBody, db: SessionDep) -> Response:
    """Create a user."""
    user = (await db.execute(INSERT_USERS, body.model_dump())).one()
    await db.commit()
    return created_response(request, user)


@app.post("/user/{user_id}", response_model=UserRead, responses=NOT_FOUND | REFUSED)
@app.put("/users/{user_id}", response_model=UserRead, responses=NOT_FOUND | REFUSED)
async def replace_user(user_id: UserId, body: UserBody, db: SessionDep) -> Response:
    """Change the name and the email of a user."""
    user = (await db.execute(update_user(user_id, body.model_dump()))).first()
    await db.commit()
    return user_response(user)


@app.patch("/users/{user_id}", response_model=UserRead, responses=NOT_FOUND | REFUSED)
async def change_user(user_id: UserId, changes: UserChanges, db: SessionDep) -> Response:
    """Change some fields of a user."""
    user = (await db.execute(update_user(user_id, changes))).first()
    await db.commit()
    return user_response(user)


@app.delete("/user", response_model=Detail, responses=NOT_FOUND)
@app.delete("/users/{user_id}", response_model=Detail, responses=NOT_FOUND)
async def delete_user(user_id: UserId, db: SessionDep) -> Response:
    """Delete a user."""
    deleted = await db.scalar(delete(User).where(User.id == user_id).returning(User.id))
    if deleted is None:
        raise HTTPException(404, "User not found")
    await db.commit()
    return json_response({"detail": "User deleted"})


# Every other call is the app's.
app.mount("/", main.app)
