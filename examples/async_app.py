"""The same API on an async engine: `uvicorn examples.async_app:app`.

Tables, schemas, errors, statements and answers are the app's; only who waits for the database
differs. `run_sync` runs a function of crud.py on an AsyncSession, and waits for the database as
`await db.execute(...)` does. Async pays where a call spends its time awaiting other services as
well, or thousands wait at once for slow ones; not for short statements: the app answers 32 clients'
`GET /user` 1.2 times as often as this one on PostgreSQL, and 1.4 times on SQLite
(`python -m benchmarks.load --only 32 --baseline examples.async_app:app`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

import crud
import database
import main
from core.engines import POOL_SIZE, engine_options, with_events
from core.errors import Detail, new_values, not_found
from core.responses import (
    IfMatch,
    created_response,
    json_response,
    page_response,
    precondition,
    row_response,
)
from core.startup import create_app, lifespan
from database import settings
from main import UserQuery, answers
from schemas import UserBody, UserId, UserPatch, UserRead, UserRecord

URL = settings.database_url.replace("sqlite:", "sqlite+aiosqlite:", 1)
engine = create_async_engine(URL, **engine_options(URL, debug=settings.debug))
with_events(engine.sync_engine)  # limits
# What a session has read stays readable after the commit: there is no await in `user.name`.
AsyncSessionLocal = async_sessionmaker(engine, autoflush=False, expire_on_commit=False)


async def get_db() -> AsyncIterator[AsyncSession]:
    """Yield a session and close it in the end."""
    async with AsyncSessionLocal() as db:
        yield db


# max_concurrency: no more requests have a session at once than there are connections. It counts
# for this one Depends(), so all endpoints have to share its name.
SessionDep = Annotated[AsyncSession, Depends(get_db, scope="function", max_concurrency=POOL_SIZE)]


@asynccontextmanager
async def async_lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Do what the app does at its start and end, and close the connections of this engine, too."""
    async with lifespan(app):
        yield
        await engine.dispose()


app = create_app(database, title="User API, async", lifespan=async_lifespan)


@app.get("/users", response_model=list[UserRead], responses=answers.listed)
@app.get("/users/", include_in_schema=False)
async def list_users(request: Request, asked: UserQuery, db: SessionDep) -> Response:
    """List users page by page."""
    return page_response(request, asked, await db.run_sync(crud.list_users, asked))


@app.get("/user", response_model=UserRead, responses=answers.read)
@app.get("/users/{user_id}", response_model=UserRead, responses=answers.read)
async def read_user(request: Request, user_id: UserId, db: SessionDep) -> Response:
    """Return one user."""
    # The same as (await db.execute(crud.SELECT_USER, {"user_id": user_id})).first()
    user = await db.run_sync(crud.find_user, user_id) or not_found("User")
    return row_response(user, request=request)


@app.post("/user", response_model=UserRead, responses=answers.created_as_200)
@app.post("/users", response_model=UserRead, responses=answers.created, status_code=201)
async def create_user(request: Request, body: UserBody, db: SessionDep) -> Response:
    """Create a user."""
    user = await db.run_sync(crud.create_user, body)
    await db.commit()
    return created_response(request, user, f"/users/{user.id}")


@app.post("/user/{user_id}", response_model=UserRead, responses=answers.changed)
@app.put("/users/{user_id}", response_model=UserRead, responses=answers.changed)
async def replace_user(
    user_id: UserId, body: UserRecord, db: SessionDep, if_match: IfMatch = None
) -> Response:
    """Change the name and the email of a user; what else is not sent stays as it is."""
    changes = new_values(user_id, body.changes())
    found = await db.run_sync(crud.change_user, user_id, changes, precondition(if_match))
    user = found or not_found("User")
    await db.commit()
    return row_response(user)


@app.patch("/users/{user_id}", response_model=UserRead, responses=answers.changed)
async def change_user(
    user_id: UserId, changes: UserPatch, db: SessionDep, if_match: IfMatch = None
) -> Response:
    """Change some fields of a user."""
    wanted = new_values(user_id, changes)
    found = await db.run_sync(crud.change_user, user_id, wanted, precondition(if_match))
    user = found or not_found("User")
    await db.commit()
    return row_response(user)


@app.delete("/user", response_model=Detail, responses=answers.deleted)
@app.delete("/users/{user_id}", response_model=Detail, responses=answers.deleted)
async def delete_user(user_id: UserId, db: SessionDep, if_match: IfMatch = None) -> Response:
    """Delete a user."""
    if not await db.run_sync(crud.delete_user, user_id, precondition(if_match)):
        not_found("User")
    await db.commit()
    return json_response({"detail": "User deleted"})


# Every other call is the app's.
app.mount("/", main.app)
