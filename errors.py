"""What goes wrong, as `{"detail": ...}`, and never a word of the database."""

import json
import logging
import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi import HTTPException, Request, Response
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

from schemas import Detail

MAX_BODY = 1024 * 1024  # bytes
# Errors of SQLite that pass: https://www.sqlite.org/rescode.html
SQLITE_PASSES = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
}
# How PostgreSQL and SQLite name what two users with the same email break.
EMAIL_TAKEN = ("uq_user_email", "UNIQUE constraint failed: user.email")

# What a call may answer beside its success, for /docs.
Answers = dict[int | str, dict[str, Any]]
UNAVAILABLE: Answers = {503: {"model": Detail, "description": "Database away or too busy"}}
NOT_FOUND: Answers = {404: {"model": Detail, "description": "User not found"}}
REFUSED: Answers = {
    409: {"model": Detail, "description": "Email already registered"},
    413: {"model": Detail, "description": "Body larger than 1 MiB"},
}


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
    return unprocessable([{"type": "json_invalid", "loc": ["body"], "msg": "JSON decode error"}])


def unprocessable(errors: Sequence[Mapping[str, Any]]) -> Response:
    """Return a 422 in the form that FastAPI documents."""
    detail = [{key: error[key] for key in ("type", "loc", "msg")} for error in errors]
    return Response(json.dumps({"detail": detail}), 422, media_type="application/json")


async def email_taken(request: Request, error: IntegrityError) -> Response:
    """Answer 409 if the database refused a second user with the same email."""
    # The first line names the constraint; PostgreSQL's others quote what the client sent.
    line = str(error.orig).splitlines()[0]
    if not any(name in line for name in EMAIL_TAKEN):
        raise error
    return JSONResponse({"detail": "Email already registered"}, 409)


async def database_error(request: Request, error: DBAPIError) -> Response:
    """Answer 503 to what passes if one waits; any other error is a mistake of ours."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is None:
        passes = isinstance(error, (OperationalError, InterfaceError))
    else:
        passes = code & 0xFF in SQLITE_PASSES  # the lower byte is the kind, the rest a detail
    if not (passes or error.connection_invalidated):
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
    IntegrityError: email_taken,
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
