"""The user API: run `uvicorn main:app --reload` and open http://localhost:8000/docs."""

import gc
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi_offline import FastAPIOffline
from pydantic_core import to_json
from sqlalchemy import Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, TimeoutError
from sqlalchemy.sql.dml import ReturningUpdate
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from database import HealthDep, SessionDep, init_db
from models import EMAIL_INDEX, User
from schemas import Detail, UserBodies, UserBody, UserChanges, UserId, UserQuery, UserRead

MAX_BODY = 1024 * 1024  # bytes

# What a call may answer beside its success, for /docs.
Answers = dict[int | str, dict[str, Any]]
UNAVAILABLE: Answers = {503: {"model": Detail, "description": "Database away or too busy"}}
NOT_FOUND: Answers = {404: {"model": Detail, "description": "User not found"}}
REFUSED: Answers = {
    409: {"model": Detail, "description": "Email already registered"},
    413: {"model": Detail, "description": "Body larger than 1 MiB"},
}

init_db()
# A FastAPI() whose /docs needs nothing from the internet.
app = FastAPIOffline(title="User API", responses=UNAVAILABLE)


# ---- Errors: one shape, {"detail": ...}, and never a word of the database


@app.exception_handler(RequestValidationError)
async def invalid_input(request: Request, error: RequestValidationError) -> Response:
    """Answer 422 with the place and kind of each mistake.

    FastAPI's own handler also quotes the input, and fails if that is NaN or broken Unicode.
    """
    if isinstance(error.body, bytes):  # as `curl -d` sends it, if nobody tells it otherwise
        hint = "Send JSON, with the header Content-Type: application/json"
        return unprocessable([{"type": "json_type", "loc": ["body"], "msg": hint}])
    return unprocessable(error.errors())


@app.exception_handler(400)
async def unreadable_body(request: Request, error: HTTPException) -> Response:
    """Answer 422, where FastAPI answers 400, to a body too garbled or too deep for a parser."""
    return unprocessable([{"type": "json_invalid", "loc": ["body"], "msg": "JSON decode error"}])


def unprocessable(errors: Sequence[Mapping[str, Any]]) -> Response:
    """Return a 422 in the form that FastAPI documents."""
    detail = [{key: error[key] for key in ("type", "loc", "msg")} for error in errors]
    return Response(json.dumps({"detail": detail}), 422, media_type="application/json")


@app.exception_handler(IntegrityError)
async def email_taken(request: Request, error: IntegrityError) -> Response:
    """Answer 409 if the database refused a second user with the same email."""
    # The first line names the constraint; PostgreSQL's others quote what the client sent.
    if str(EMAIL_INDEX.name) not in str(error.orig).splitlines()[0]:
        raise error
    return JSONResponse({"detail": "Email already registered"}, 409)


@app.exception_handler(OperationalError)
@app.exception_handler(InterfaceError)
@app.exception_handler(TimeoutError)
async def database_unavailable(request: Request, error: Exception) -> Response:
    """Answer 503 if the database is away or has had no time for us."""
    logging.getLogger(__name__).error("Database error: %s", getattr(error, "orig", error))
    detail = {"detail": "Database unavailable, try again later"}
    return JSONResponse(detail, 503, headers={"Retry-After": "1"})


@app.exception_handler(Exception)
async def server_error(request: Request, error: Exception) -> Response:
    """Answer 500 to a mistake of ours; the server's log has the traceback."""
    return JSONResponse({"detail": "Internal Server Error"}, 500)


class LimitBody:
    """ASGI middleware that refuses long bodies; FastAPI's `max_body_size` does so in plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; what reads more than MAX_BODY of its body gets the 413."""
        size = 0

        async def receive_limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                raise HTTPException(413, "Body larger than 1 MiB")
            return message

        await self.app(scope, receive_limited, send)


app.add_middleware(LimitBody)


# ---- Answers: written by the endpoint itself, because FastAPI would do it in one more thread


def json_response(content: object, status_code: int = 200) -> Response:
    """Return `content`, plain values or a schema, as JSON."""
    return Response(to_json(content), status_code, media_type="application/json")


def user_response(user: User | None, status_code: int = 200) -> Response:
    """Return `user` as a UserRead; raises the 404 if it is None."""
    if user is None:
        raise HTTPException(404, "User not found")
    return json_response(UserRead.model_validate(user), status_code)


def created_response(request: Request, user: User) -> Response:
    """Return a new user, with the status that the decorator of the call names."""
    response = user_response(user, request.scope["route"].status_code or 200)
    response.headers["Location"] = f"{request.scope['root_path']}/users/{user.id}"
    return response


def users_response(rows: Sequence[Row[Any]], status_code: int = 200) -> Response:
    """Return rows of USER_COLUMNS as a list of UserRead."""
    fields = UserRead.model_fields  # looked up once: that takes as long as a whole dict
    return json_response([dict(zip(fields, row)) for row in rows], status_code)


def link(request: Request, rel: str, **changes: int) -> str:
    """Return one link of a Link header (RFC 8288): the same question, with some changes."""
    asked = {k: v for k, v in request.query_params.items() if k in UserQuery.model_fields}
    return f'<{request.scope["path"]}?{urlencode(asked | changes)}>; rel="{rel}"'


def page_response(
    request: Request, params: UserQuery, rows: Sequence[Row[Any]], counted: int | None
) -> Response:
    """Return what select_users() found, with the addresses of the other pages in `Link`.

    `counted` is what count_users() found, where must_count() asked for it.
    """
    page = rows[: params.page_size]
    response = users_response(page)
    if params.after is not None:
        if len(rows) > len(page):
            response.headers["Link"] = link(request, "next", after=page[-1].id)
        return response
    total = (params.page - 1) * params.page_size + len(page) if counted is None else counted
    last = max(1, -(-total // params.page_size))
    pages = {"first": 1, "prev": min(params.page - 1, last), "next": params.page + 1, "last": last}
    response.headers["X-Total-Count"] = str(total)
    response.headers["Link"] = ", ".join(
        link(request, rel, page=page) for rel, page in pages.items() if 1 <= page <= last
    )
    return response


# ---- Statements


# The columns of UserRead: reading them alone is several times faster than building Users.
USER_COLUMNS = [getattr(User, field) for field in UserRead.model_fields]


def select_users(params: UserQuery) -> Select[Any]:
    """Return the SELECT of a page, with one row more if another page follows."""
    column = getattr(User, params.order_by.removeprefix("-"))
    order = column.desc() if params.order_by.startswith("-") else column.asc()
    page = matching(select(*USER_COLUMNS), params).limit(params.page_size + 1)
    if params.after is not None:
        # The database goes straight to that id; to an OFFSET it would have to count.
        return page.where(User.id > params.after).order_by(User.id)
    return page.order_by(order, User.id).offset((params.page - 1) * params.page_size)


def must_count(params: UserQuery, rows: Sequence[Row[Any]]) -> bool:
    """Tell whether it takes count_users() to know the total: the last page shows it by itself."""
    return params.after is None and not 0 < len(rows) <= params.page_size


def count_users(params: UserQuery) -> Select[Any]:
    """Return the SELECT of the total."""
    return matching(select(func.count()).select_from(User), params)


def matching(statement: Select[Any], params: UserQuery) -> Select[Any]:
    """Return `statement` for only those users that `params` ask for."""
    if params.query:
        # autoescape: % and _ are plain characters here.
        in_name = User.name.icontains(params.query, autoescape=True)
        statement = statement.where(in_name | User.email.icontains(params.query, autoescape=True))
    if params.is_active is not None:
        statement = statement.where(User.is_active == params.is_active)
    return statement


def update_user(user_id: int, changes: UserChanges) -> Select[User] | ReturningUpdate[User]:
    """Return the statement that changes a user and reads it: nobody can get in between."""
    if not changes:
        return select(User).where(User.id == user_id)
    return update(User).where(User.id == user_id).values(**changes).returning(User)


# ---- The calls


@app.get("/", include_in_schema=False)
def home() -> RedirectResponse:
    """Show the documentation to whoever opens the server in a browser."""
    return RedirectResponse("/docs")


@app.get("/health", response_model=Detail)
def health(connection: HealthDep) -> Response:
    """Answer as soon as the database has."""
    connection.execute(select(1))
    return json_response({"detail": "The database answers"})


@app.get("/users", response_model=list[UserRead])
@app.get("/users/", include_in_schema=False)
def list_users(request: Request, params: Annotated[UserQuery, Query()], db: SessionDep) -> Response:
    """List users page by page: by number, with `X-Total-Count`, or each `after` the one before.

    The header `Link` has the addresses of the other pages.
    """
    rows = db.execute(select_users(params)).all()
    counted = db.scalar(count_users(params)) if must_count(params, rows) else None
    db.rollback()  # nothing to keep: give the connection back from this thread
    return page_response(request, params, rows, counted)


@app.get("/user", response_model=UserRead, responses=NOT_FOUND)
@app.get("/users/{user_id}", response_model=UserRead, responses=NOT_FOUND)
def read_user(user_id: UserId, db: SessionDep) -> Response:
    """Return one user."""
    response = user_response(db.get(User, user_id))
    db.rollback()
    return response


@app.post("/user", response_model=UserRead, responses=REFUSED)
@app.post("/users", response_model=UserRead, responses=REFUSED, status_code=201)
def create_user(request: Request, body: UserBody, db: SessionDep) -> Response:
    """Create a user."""
    user = User(**body.model_dump())
    db.add(user)
    db.flush()  # sends the INSERT, which brings the id back
    # Written before the commit, after which `user` would be read from the database again.
    response = created_response(request, user)
    db.commit()
    return response


@app.post("/users/bulk", response_model=list[UserRead], responses=REFUSED, status_code=201)
def create_users(bodies: UserBodies, db: SessionDep) -> Response:
    """Create 1 to 1000 users, all of them or none."""
    statement = insert(User).returning(*USER_COLUMNS, sort_by_parameter_order=True)
    rows = db.execute(statement, [body.model_dump() for body in bodies]).all()
    response = users_response(rows, 201)
    db.commit()
    return response


@app.post("/user/{user_id}", response_model=UserRead, responses=NOT_FOUND | REFUSED)
@app.put("/users/{user_id}", response_model=UserRead, responses=NOT_FOUND | REFUSED)
def replace_user(user_id: UserId, body: UserBody, db: SessionDep) -> Response:
    """Change the name and the email of a user."""
    return change_user(user_id, UserChanges(name=body.name, email=body.email), db)


@app.patch("/users/{user_id}", response_model=UserRead, responses=NOT_FOUND | REFUSED)
def change_user(user_id: UserId, changes: UserChanges, db: SessionDep) -> Response:
    """Change some fields of a user; those that are absent stay as they are."""
    response = user_response(db.scalar(update_user(user_id, changes)))
    db.commit()
    return response


@app.delete("/user", response_model=Detail, responses=NOT_FOUND)
@app.delete("/users/{user_id}", response_model=Detail, responses=NOT_FOUND)
def delete_user(user_id: UserId, db: SessionDep) -> Response:
    """Delete a user."""
    deleted = db.scalar(delete(User).where(User.id == user_id).returning(User.id))
    if deleted is None:
        raise HTTPException(404, "User not found")
    db.commit()
    return json_response({"detail": "User deleted"})


# What is loaded by now stays: the garbage collector need not look at it again and again.
gc.freeze()
