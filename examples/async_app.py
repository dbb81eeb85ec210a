"""The same API on an async engine: `uvicorn examples.async_app:app`.

Tables, schemas, errors, statements and answers are those of the app; what differs is that each
call awaits the database, with psycopg or aiosqlite, where the app has a thread wait for it.

XXX
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.middleware import Middleware
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from sqlalchemy import StaticPool, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

import main
from database import POOL_SIZE, create_tables, engine_options, settings
from main import NOT_FOUND, REFUSED, UNAVAILABLE, USER_COLUMNS
from models import User
from schemas import Detail, UserBodies, UserBody, UserChanges, UserId, UserQuery, UserRead

URL = settings.database_url.replace("sqlite:", "sqlite+aiosqlite:", 1)
engine = create_async_engine(URL, echo=settings.debug, **engine_options(URL))
# What a session has read stays readable after the commit: there is no await in `user.name`.
AsyncSessionLocal = async_sessionmaker(engine, autoflush=False, expire_on_commit=False)


async def init_db() -> None:
    """Create the tables that do not exist yet."""
    async with engine.begin() as connection:
        await connection.run_sync(create_tables)


async def get_db() -> AsyncIterator[AsyncSession]:
    """Yield a session and close it in the end."""
    async with AsyncSessionLocal() as db:
        yield db


SessionDep = Annotated[
    AsyncSession,
    Depends(
        get_db,
        scope="function",
        max_concurrency=1 if isinstance(engine.pool, StaticPool) else POOL_SIZE,
    ),
]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Create the tables before the first request and close the connections after the last."""
    await init_db()
    yield
    await engine.dispose()


app = FastAPIOffline(
    title="User API, async",
    responses=UNAVAILABLE,
    lifespan=lifespan,
    exception_handlers=main.app.exception_handlers,
    middleware=[Middleware(main.LimitBody)],
)


@app.get("/", include_in_schema=False)
async def home() -> RedirectResponse:
    """Show the documentation."""
    return RedirectResponse("/docs")


@app.get("/health", response_model=Detail)
async def health(db: SessionDep) -> Response:
    """Answer as soon as the database has."""
    await db.execute(select(1))
    return main.json_response({"detail": "The database answers"})


@app.get("/users", response_model=list[UserRead])
@app.get("/users/", include_in_schema=False)
async def list_users(
    request: Request, params: Annotated[UserQuery, Query()], db: SessionDep
) -> Response:
    """List users page by page."""
    rows = (await db.execute(main.select_users(params))).all()
    counted = None
    if main.must_count(params, rows):
        counted = await db.scalar(main.count_users(params))
    return main.page_response(request, params, rows, counted)


@app.get("/user", response_model=UserRead, responses=NOT_FOUND)
@app.get("/users/{user_id}", response_model=UserRead, responses=NOT_FOUND)
async def read_user(user_id: UserId, db: SessionDep) -> Response:
    """Return one user."""
    return main.user_response(await db.get(User, user_id))


@app.post("/user", response_model=UserRead, responses=REFUSED)
@app.post("/users", response_model=UserRead, responses=REFUSED, status_code=201)
async def create_user(request: Request, body: UserBody, db: SessionDep) -> Response:
    """Create a user."""
    user = User(**body.model_dump())
    db.add(user)
    await db.commit()
    return main.created_response(request, user)


@app.post("/users/bulk", response_model=list[UserRead], responses=REFUSED, status_code=201)
async def create_users(bodies: UserBodies, db: SessionDep) -> Response:
    """Create 1 to 1000 users, all of them or none."""
    statement = insert(User).returning(*USER_COLUMNS, sort_by_parameter_order=True)
    rows = (await db.execute(statement, [body.model_dump() for body in bodies])).all()
    await db.commit()
    return main.users_response(rows, 201)


@app.post("/user/{user_id}", response_model=UserRead, responses=NOT_FOUND | REFUSED)
@app.put("/users/{user_id}", response_model=UserRead, responses=NOT_FOUND | REFUSED)
async def replace_user(user_id: UserId, body: UserBody, db: SessionDep) -> Response:
    """Change the name and the email of a user."""
    return await change_user(user_id, UserChanges(name=body.name, email=body.email), db)


@app.patch("/users/{user_id}", response_model=UserRead, responses=NOT_FOUND | REFUSED)
async def change_user(user_id: UserId, changes: UserChanges, db: SessionDep) -> Response:
    """Change some fields of a user."""
    user = await db.scalar(main.update_user(user_id, changes))
    await db.commit()
    return main.user_response(user)


@app.delete("/user", response_model=Detail, responses=NOT_FOUND)
@app.delete("/users/{user_id}", response_model=Detail, responses=NOT_FOUND)
async def delete_user(user_id: UserId, db: SessionDep) -> Response:
    """Delete a user."""
    deleted = await db.scalar(delete(User).where(User.id == user_id).returning(User.id))
    if deleted is None:
        raise HTTPException(404, "User not found")
    await db.commit()
    return main.json_response({"detail": "User deleted"})
