"""The user API: run `uvicorn main:app --reload` and open http://localhost:8000/docs."""

import gc
from operator import itemgetter
from typing import Annotated

import uvicorn
from fastapi import HTTPException, Query, Request, Response
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from sqlalchemy import delete, select

from dependencies import HealthDep, ReadDep, SessionDep, lifespan
from errors import DELETED, HANDLERS, INVALID, NOT_FOUND, REFUSED, UNAVAILABLE, LimitBody, answer
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
    users_response,
)
from schemas import UserBodies, UserBody, UserChanges, UserId, UserQuery, UserRead
from settings import settings

# A FastAPI() whose /docs needs nothing from the internet.
app = FastAPIOffline(
    title="User API",
    openapi_tags=[
        {"name": "/users", "description": "Create, read, change and delete users"},
        {"name": "/user", "description": "The same calls, as many lessons spell them"},
    ],
    description='Users with a name and an email of their own. Every error is `{"detail": ...}`.',
    lifespan=lifespan,
    responses=UNAVAILABLE,
    exception_handlers=HANDLERS,
    middleware=[Middleware(LimitBody)],
)
if settings.cors_origins:  # front ends that run in a browser, from an address of their own
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins.split(","),
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["Link", "Location", "Retry-After", "X-Total-Count"],
    )


@app.get("/users", response_model=list[UserRead], responses=INVALID)
@app.get("/users/", include_in_schema=False)
def list_users(request: Request, params: Annotated[UserQuery, Query()], db: ReadDep) -> Response:
    """List users page by page: by number, with `X-Total-Count`, or by `after`, the last id seen.

    The header `Link` has the addresses of the other pages.
    """
    rows = db.execute(*select_users(params)).all()
    # Beyond the last page there is no row to tell how many users there are.
    total = None if rows or params.page == 1 else db.scalar(*count_users(params))
    return page_response(request, params, rows, total)


@app.get("/user", response_model=UserRead, responses=NOT_FOUND)
@app.get("/users/{user_id}", response_model=UserRead, responses=NOT_FOUND)
def read_user(user_id: UserId, db: ReadDep) -> Response:
    """Return one user."""
    return user_response(db.execute(SELECT_USER, {"user_id": user_id}).first())


@app.post("/user", response_model=UserRead, responses=REFUSED)
@app.post("/users/", include_in_schema=False, status_code=201)
@app.post("/users", response_model=UserRead, responses=REFUSED, status_code=201)
def create_user(request: Request, body: UserBody, db: SessionDep) -> Response:
    """Create a user."""
    user = db.execute(INSERT_USERS, body.model_dump()).one()
    db.commit()
    return created_response(request, user)


@app.post("/users/bulk", response_model=list[UserRead], responses=REFUSED, status_code=201)
def create_users(bodies: UserBodies, db: SessionDep) -> Response:
    """Create 1 to 1000 users, all of them or none."""
    # Always in the same order: two requests with the same emails in two orders could deadlock.
    in_order = sorted((body.model_dump() for body in bodies), key=itemgetter("email"))
    created = {user.email: user for user in db.execute(INSERT_USERS, in_order)}
    db.commit()
    return users_response([created[body.email] for body in bodies], 201)


@app.post("/user/{user_id}", response_model=UserRead, responses=NOT_FOUND | REFUSED)
@app.put("/users/{user_id}", response_model=UserRead, responses=NOT_FOUND | REFUSED)
def replace_user(user_id: UserId, body: UserBody, db: SessionDep) -> Response:
    """Change the name and the email of a user."""
    user = db.execute(update_user(user_id, body.model_dump())).first()
    db.commit()
    return user_response(user)


@app.patch("/users/{user_id}", response_model=UserRead, responses=NOT_FOUND | REFUSED)
def change_user(user_id: UserId, changes: UserChanges, db: SessionDep) -> Response:
    """Change some fields of a user; those that are absent stay as they are."""
    user = db.execute(update_user(user_id, changes)).first()
    db.commit()
    return user_response(user)


@app.delete("/user", responses=DELETED)
@app.delete("/users/{user_id}", responses=DELETED)
def delete_user(user_id: UserId, db: SessionDep) -> Response:
    """Delete a user."""
    deleted = db.execute(delete(User).where(User.id == user_id).returning(User.id)).first()
    if deleted is None:
        raise HTTPException(404, "User not found")
    db.commit()
    return json_response({"detail": "User deleted"})


@app.get("/health", responses=answer(200, "The database answers", "All is well"))
def health(db: HealthDep) -> Response:
    """Check that the database answers."""
    db.execute(select(1))
    return json_response({"detail": "The database answers"})


@app.get("/", include_in_schema=False)
def home() -> RedirectResponse:
    """Show the documentation to whoever opens the server in a browser."""
    return RedirectResponse("/docs")


for route in app.routes:
    if isinstance(route, APIRoute):
        group = route.path.split("/")[1]
        route.tags = [f"/{group}"]
        if group == "user":
            route.summary = route.name.replace("_", " ").title() + ", as in the lessons"

# The garbage collector need not look through what is loaded by now, for it stays: a fifth faster.
gc.freeze()

if __name__ == "__main__":
    uvicorn.run(app)
