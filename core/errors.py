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
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
    TimeoutError,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


def answer(status_code: int, detail: str, description: str) -> Answers:
    """Return the documentation of an answer that is a `Detail`."""
    example = {"application/json": {"example": {"detail": detail}}}
    return {status_code: {"model": Detail, "description": description, "content": example}}


UNAVAILABLE = answer(503, "Database unavailable, try again later", "Database away or too busy")
INVALID: Answers = {422: {"model": Invalid, "description": "Input that cannot be used"}}
NOT_FOUND = INVALID | answer(404, "User not found", "No user has this id")
TAKEN = answer(409, "Email already registered", "Another user has this email")
REFUSED = INVALID | TAKEN | answer(413, "Body larger than 1 MiB", "Body too long")
CHANGED = NOT_FOUND | REFUSED
DELETED = answer(200, "User deleted", "The user is gone") | NOT_FOUND
DELETED |= answer(409, "Conflicts with other data", "Other data refers to the user")


def not_found() -> NoReturn:
    """Raise the 404; it stands behind an `or`, where a user may be None."""
    raise HTTPException(404, "User not found")


def gone() -> NoReturn:
    """Raise the 422 for a list that cannot go on; it stands behind an `or`, like not_found()."""
    message = "No user has this id any more: begin again, with after=0"
    mistake = {"type": "value_error", "loc": ("query", "after"), "msg": message}
    raise RequestValidationError([mistake])


async def invalid_input(request: Request, error: RequestValidationError) -> Response:
    """Answer 422 with the place and kind of each mistake.

    FastAPI's own handler also quotes the input, and fails if that is NaN or broken Unicode.
    """
    if isinstance(error.body, bytes):  # as `curl -d` sends it, if nobody tells it otherwise
        hint = "Send JSON, with the header Content-Type: application/json"
        return unprocessable([{"type": "json_type", "loc": ["body"], "msg": hint}])
    return unprocessable(error.errors())


async def unreadable_body(request: Request, error: HTTPException) -> Response:
    """Answer 422, where FastAPI answers 400, to a body too garbled or too deep for a parser."""
    if error.detail != "There was an error parsing the body":
        return await http_exception_handler(request, error)  # somebody's own 400
    return unprocessable([{"type": "json_invalid", "loc": ["body"], "msg": "JSON decode error"}])


def unprocessable(errors: Sequence[Mapping[str, Any]]) -> Response:
    """Return a 422 in the form of `Invalid`."""
    detail = [{key: error[key] for key in ("type", "loc", "msg")} for error in errors]
    for mistake, error in zip(detail, errors):
        if error["type"] == "json_invalid" and "ctx" in error:
            mistake["msg"] += f": {error['ctx']['error']}"  # why, and `loc` says where
    return Response(json.dumps({"detail": detail}), 422, media_type="application/json")


async def conflict(request: Request, error: IntegrityError) -> Response:
    """Answer 409 to a value that exists already, and to a broken reference to other data."""
    # The first line names the constraint; PostgreSQL's others quote what the client sent.
    line = str(error.orig).splitlines()[0]
    if any(name in line for name in EMAIL_TAKEN):
        return JSONResponse({"detail": "Email already registered"}, 409)
    if (
        isinstance(error.orig, (psycopg.errors.UniqueViolation, psycopg.errors.ForeignKeyViolation))
        or getattr(error.orig, "sqlite_errorcode", None) in SQLITE_CONFLICTS
    ):
        return JSONResponse({"detail": "Conflicts with other data"}, 409)
    raise error


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
    logging.getLogger(__name__).error("Database error: %s", getattr(error, "orig", error))
    detail = {"detail": "Database unavailable, try again later"}
    return JSONResponse(detail, 503, headers={"Retry-After": "1"})


async def server_error(request: Request, error: Exception) -> Response:
    """Answer 500 to a mistake of ours; the server's log has the traceback."""
    return JSONResponse({"detail": "Internal Server Error"}, 500)


# For `FastAPI(exception_handlers=HANDLERS)`.
HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    RequestValidationError: invalid_input,
    400: unreadable_body,
    IntegrityError: conflict,
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
