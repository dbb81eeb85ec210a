"""What goes wrong, as `{"detail": ...}`. Clients never see the messages of the database."""

import json
import logging
import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NoReturn

import psycopg
from fastapi import HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
    TimeoutError,
)
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.bodies import first_of
from core.telemetry import count_unavailable
from schemas import Detail, Invalid

MAX_BODY = 1024 * 1024  # bytes
# Errors of SQLite that may be gone a second later: https://www.sqlite.org/rescode.html
SQLITE_TEMPORARY = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_INTERRUPT,  # the limit of a read_engine
}
SQLITE_CONFLICTS = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY,
}
# What the messages of PostgreSQL and SQLite contain if two users have the same email.
EMAIL_TAKEN = ("uq_user_email", "UNIQUE constraint failed: user.email")

# What a call may answer beside its success, for /docs.
Answers = dict[int | str, dict[str, Any]]


def header(name: str, kind: str, description: str) -> dict[str, Any]:
    """Return the documentation of a header, whose value is of that kind in JSON."""
    return {name: {"description": description, "schema": {"type": kind}}}


def answer(
    status_code: int, detail: str, description: str, headers: Mapping[str, Any] | None = None
) -> Answers:
    """Return the documentation of an answer that is a `Detail`."""
    example = {"application/json": {"example": {"detail": detail}}}
    found: dict[str, Any] = {"model": Detail, "description": description, "content": example}
    if headers:
        found["headers"] = headers
    return {status_code: found}


UNAVAILABLE = answer(
    503,
    "Database unavailable, try again later",
    "Database away or too busy",
    header("Retry-After", "integer", "Seconds to wait"),
)
INVALID: Answers = {422: {"model": Invalid, "description": "Input that cannot be used"}}
NOT_FOUND = INVALID | answer(404, "User not found", "No user has this id")
TAKEN = answer(409, "Email already registered", "Another user has this email")
LISTED: Answers = {
    **INVALID,
    200: {
        "headers": header(
            "X-Total-Count", "integer", "How many there are, exact up to 10000; not with `after`"
        )
        | header("Link", "string", "Addresses of other pages, as in RFC 8288")
    },
}
REFUSED = INVALID | TAKEN | answer(413, "Body larger than 1 MiB", "Body too long")
LOCATION = {"headers": header("Location", "string", "Where the user is")}
CREATED = REFUSED | {201: LOCATION}
CREATED_IN_LESSONS = REFUSED | {200: LOCATION}
ETAG = header("ETag", "string", "Changes with the user: for If-Match and If-None-Match")
READ = NOT_FOUND | {
    200: {"headers": ETAG},
    304: {"description": "As If-None-Match has it", "headers": ETAG},
}
OTHER = answer(412, "User has changed since: read it again", "Not what If-Match has")
CHANGED = NOT_FOUND | REFUSED | OTHER | {200: {"headers": ETAG}}
DELETED = answer(200, "User deleted", "The user is gone") | NOT_FOUND | OTHER
DELETED |= answer(409, "Conflicts with other data", "Other data refers to the user")


def not_found() -> NoReturn:
    """Raise the 404; it stands behind an `or`, where a user may be None."""
    raise HTTPException(404, "User not found")


def mistake(loc: tuple[str, str], message: str) -> NoReturn:
    """Raise the 422 for what only the call itself can find wrong."""
    raise RequestValidationError([{"type": "value_error", "loc": loc, "msg": message}])


def for_user(user_id: int, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes without an id; raise a 422 if that is not the one in the address."""
    if changes.get("id") not in (None, user_id):
        mistake(("body", "id"), f"The id is not that of the address, {user_id}")
    return {name: value for name, value in changes.items() if name != "id"}


def gone() -> NoReturn:
    """Raise the 422 for a list that cannot go on; it stands behind an `or`, like not_found()."""
    mistake(("query", "after"), "No user has this id any more: begin again, with after=0")


async def invalid_input(request: Request, error: RequestValidationError) -> Response:
    """Answer 422 with the place and kind of each mistake.

    FastAPI's own handler also quotes the input, and fails if that is NaN or broken Unicode.
    """
    if isinstance(error.body, bytes):  # as `curl -d` sends it, if nobody tells it otherwise
        hint = "Send JSON, with the header Content-Type: application/json"
        return unprocessable([{"type": "json_type", "loc": ["body"], "msg": hint}])
    return unprocessable(error.errors())


async def wrong_method(request: Request, error: HTTPException) -> Response:
    """Answer 405 with all methods that there are; Starlette names those of the first route."""
    allowed = [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        for route in request.app.routes
        if route.matches({**request.scope, "method": method.replace("HEAD", "GET")})[0]
        == Match.FULL
    ]
    headers = {"Allow": ", ".join(dict.fromkeys(allowed))}
    return JSONResponse({"detail": "Method Not Allowed"}, 405, headers)


async def unreadable_body(request: Request, error: HTTPException) -> Response:
    """Answer 422, where FastAPI answers 400, to a body too garbled or too deep for a parser."""
    if error.detail != "There was an error parsing the body":
        return await http_exception_handler(request, error)  # somebody's own 400
    return unprocessable([{"type": "json_invalid", "loc": ["body"], "msg": "JSON decode error"}])


def unprocessable(errors: Sequence[Mapping[str, Any]]) -> Response:
    """Return a 422 in the form of `Invalid`."""
    errors = first_of(errors)
    detail = [{key: error[key] for key in ("type", "loc", "msg")} for error in errors]
    for mistake, error in zip(detail, errors):
        if error["type"] == "json_invalid" and "ctx" in error:
            mistake["msg"] += f": {error['ctx']['error']}"  # why, and `loc` says where
    return Response(json.dumps({"detail": detail}), 422, media_type="application/json")


def conflict_in(error: IntegrityError) -> str | None:
    """Return what to say of a value that exists already, or of a broken reference to other data."""
    # The first line names the constraint; PostgreSQL's others quote what the client sent.
    line = str(error.orig).splitlines()[0]
    if any(name in line for name in EMAIL_TAKEN):
        # Which one of several it is, crud.py has noted.
        which = "".join(f": {email}" for email in getattr(error, "__notes__", []))
        return f"Email already registered{which}"
    code = getattr(error.orig, "sqlite_errorcode", None)
    conflicts = (psycopg.errors.UniqueViolation, psycopg.errors.ForeignKeyViolation)
    if isinstance(error.orig, conflicts) or code in SQLITE_CONFLICTS:
        return "Conflicts with other data"
    return None


async def conflict(request: Request, error: IntegrityError) -> Response:
    """Answer 409 to a conflict with what is there, and 422 to what a CHECK refuses."""
    if said := conflict_in(error):
        return JSONResponse({"detail": said}, 409)
    refused = isinstance(error.orig, psycopg.errors.CheckViolation)
    code = getattr(error.orig, "sqlite_errorcode", None)
    if refused or code == sqlite3.SQLITE_CONSTRAINT_CHECK:
        return refused_value(error)
    raise error


async def unsuitable(request: Request, error: DataError) -> Response:
    """Answer 422 to a value that its column cannot hold, such as a number of more than 64 bits."""
    if isinstance(error.orig, psycopg.errors.DivisionByZero):  # not what was sent, but our formula
        raise error
    return refused_value(error)


def refused_value(error: DBAPIError) -> Response:
    """Return the 422 for what a schema has let through and the database refuses.

    The database does not always say which value it was; what it says is in the server's log.
    """
    logging.getLogger(__name__).warning("Value refused by the database: %s", error.orig)
    message = "A value is too large or too long, or is not allowed"
    return unprocessable([{"type": "value_error", "loc": ["request"], "msg": message}])


async def database_error(request: Request, error: DBAPIError) -> Response:
    """Answer 503 to an error that may be gone a second later; any other is a mistake of ours."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is None:
        temporary = isinstance(error, (OperationalError, InterfaceError))
    else:
        temporary = code & 0xFF in SQLITE_TEMPORARY  # the lowest byte is the kind of error
    if not (temporary or error.connection_invalidated):
        raise error
    return await unavailable(request, error)


async def unavailable(request: Request, error: SQLAlchemyError) -> Response:
    """Answer 503 if the database is away or has had no time for us."""
    original = getattr(error, "orig", error)
    logging.getLogger(__name__).error("Database error: %s", original)
    count_unavailable(original)
    detail = {"detail": "Database unavailable, try again later"}
    return JSONResponse(detail, 503, headers={"Retry-After": "1"})


async def server_error(request: Request, error: Exception) -> Response:
    """Answer 500 to a mistake of ours; the server's log has the traceback."""
    return JSONResponse({"detail": "Internal Server Error"}, 500)


# For `FastAPI(exception_handlers=HANDLERS)`.
HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    RequestValidationError: invalid_input,
    400: unreadable_body,
    405: wrong_method,
    IntegrityError: conflict,
    DataError: unsuitable,
    DBAPIError: database_error,
    TimeoutError: unavailable,
    Exception: server_error,
}


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


class AnswerHead:
    """ASGI middleware that answers HEAD as GET, without the body, which the server leaves out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


class AnswerErrors:
    """ASGI middleware that answers 500; Starlette's is too far outside for the headers of CORS."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its error, so that the server logs it."""
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, send_on)
        except Exception as error:
            if scope["type"] == "http" and not started:
                response = await server_error(Request(scope), error)
                await response(scope, receive, send_on)
            raise
