"""The user API: run `uvicorn main:app --reload` and open http://localhost:8000/docs."""

from typing import Annotated

import uvicorn
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

import crud
import database
from core.answers import RowAnswers, answer
from core.errors import new_values, not_found
from core.queries import ListQuery, RowsQuery
from core.responses import (
    IfMatch,
    created_response,
    csv_response,
    json_response,
    page_response,
    precondition,
    root,
    row_response,
)
from core.sessions import new_connection, read_only, searches, writes_once
from core.startup import create_app
from database import SessionDep
from models import User
from schemas import UserBodies, UserBody, UserId, UserPatch, UserRead, UserRecord

app = create_app(
    database,
    title="User API",
    description='Users with a name and an email of their own. Every error is `{"detail": ...}`.',
    openapi_tags=[
        {"name": "users", "description": "Create, read, change and delete users"},
        {"name": "user", "description": "The same calls, as many lessons spell them"},
        {"name": "health", "description": "Whether the app runs, and its database answers"},
    ],
)
answers = RowAnswers(User)
UserQuery = Annotated[ListQuery, Depends(crud.users.query)]
AllUsersQuery = Annotated[RowsQuery, Depends(crud.users.query_for_all)]
# Unlike SessionDep, it lasts until all of an answer is sent.
LastingSessionDep = Annotated[Session, Depends(database.get_db)]

# The names of the calls in a client that is generated from /openapi.json.
users = APIRouter(
    prefix="/users", tags=["users"], generate_unique_id_function=lambda call: call.name
)
lessons = APIRouter(
    prefix="/user", tags=["user"], generate_unique_id_function=lambda call: f"lesson_{call.name}"
)


@users.get("", response_model=list[UserRead], responses=answers.listed)
@users.get("/", include_in_schema=False)
@searches("query")
def list_users(request: Request, asked: UserQuery, db: SessionDep) -> Response:
    """List users page by page: by number, or by `after`, the last id seen, however many there are.

    The header `Link` has the addresses of other pages. `X-Total-Count` says how many users there
    are; 10000 without a `rel="last"` in `Link` means that many or more. Nobody counts further, and
    later pages have no number: `rel="next"` leads through all of them.
    """
    return page_response(request, asked, crud.list_users(db, asked))


@users.get(".csv", response_class=Response, responses=answers.exported)
@searches("query")
def export_users(asked: AllUsersQuery, db: LastingSessionDep) -> Response:
    """Download all users that are asked for, as a file for a spreadsheet."""
    return csv_response(db, crud.users, crud.all_users(db, asked))


@users.get("/{user_id}", response_model=UserRead, responses=answers.read)
@lessons.get(
    "", summary="Read User, as in lessons", response_model=UserRead, responses=answers.read
)
@read_only
def read_user(request: Request, user_id: UserId, db: SessionDep) -> Response:
    """Return one user."""
    user = crud.find_user(db, user_id) or not_found("User")
    return row_response(user, request=request)


@users.post("", response_model=UserRead, responses=answers.created, status_code=201)
@users.post("/", include_in_schema=False, status_code=201)
@lessons.post(
    "",
    summary="Create User, as in lessons",
    response_model=UserRead,
    responses=answers.created_as_200,
)
@writes_once
def create_user(request: Request, body: UserBody, db: SessionDep) -> Response:
    """Create a user."""
    user = crud.create_user(db, body)
    db.commit()
    return created_response(request, user, f"/users/{user.id}")


@users.post("/bulk", response_model=list[UserRead], responses=answers.refused, status_code=201)
def create_users(bodies: UserBodies, db: SessionDep) -> Response:
    """Create 1 to 1000 users, all of them or none."""
    created = crud.create_users(db, bodies)
    db.commit()
    return json_response(created, 201)


@users.put("/{user_id}", response_model=UserRead, responses=answers.changed)
@lessons.post(
    "/{user_id}",
    summary="Replace User, as in lessons",
    response_model=UserRead,
    responses=answers.changed,
)
def replace_user(
    user_id: UserId, body: UserRecord, db: SessionDep, if_match: IfMatch = None
) -> Response:
    """Change the name and the email of a user; what else is not sent stays as it is."""
    changes = new_values(user_id, body.changes())
    user = crud.change_user(db, user_id, changes, precondition(if_match)) or not_found("User")
    db.commit()
    return row_response(user)


@users.patch("/{user_id}", response_model=UserRead, responses=answers.changed)
def change_user(
    user_id: UserId, changes: UserPatch, db: SessionDep, if_match: IfMatch = None
) -> Response:
    """Change some fields of a user; those that are absent stay as they are."""
    wanted = new_values(user_id, changes)
    user = crud.change_user(db, user_id, wanted, precondition(if_match)) or not_found("User")
    db.commit()
    return row_response(user)


@users.delete("/{user_id}", responses=answers.deleted)
@lessons.delete("", summary="Delete User, as in lessons", responses=answers.deleted)
def delete_user(user_id: UserId, db: SessionDep, if_match: IfMatch = None) -> Response:
    """Delete a user."""
    if not crud.delete_user(db, user_id, precondition(if_match)):
        not_found("User")
    db.commit()
    return json_response({"detail": "User deleted"})


app.include_router(lessons)
app.include_router(users)


@app.get(
    "/health",
    tags=["health"],
    operation_id="health",
    responses=answer(200, "The database answers", "All is well"),
)
@new_connection
def health(db: SessionDep) -> Response:
    """Check that the database answers."""
    db.execute(select(1))
    return json_response({"detail": "The database answers"})


@app.get(
    "/livez",
    tags=["health"],
    operation_id="livez",
    responses=answer(200, "The app is running", "The process answers"),
)
async def livez() -> Response:
    """Check that the app answers; unlike /health, it asks no database and waits for nobody."""
    return json_response({"detail": "The app is running"})


@app.get("/", include_in_schema=False)
@app.get("/docs/", include_in_schema=False)
def home(request: Request) -> RedirectResponse:
    """Show the documentation to whoever opens the server in a browser."""
    return RedirectResponse(f"{root(request)}/docs")


if __name__ == "__main__":
    uvicorn.run(app)
