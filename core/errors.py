"""What goes wrong, as `{"detail": ...}`. Clients never see the messages of the database."""

import json
import logging
import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any, NoReturn

from fastapi import HTTPException, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import Index, MetaData, Table, UniqueConstraint
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

from core.bodies import first_of
from core.lists import GoneError
from core.rows import ChangedError
from core.searches import unknown_letter
from core.sessions import GONE
from core.sqlite import kind_of_error
from core.sqlstates import (
    CHECK_VIOLATION,
    DIVISION_BY_ZERO,
    FOREIGN_KEY_VIOLATION,
    UNIQUE_VIOLATION,
    sqlstate,
)
from core.telemetry import count_unavailable

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
CONFLICTS = {UNIQUE_VIOLATION, FOREIGN_KEY_VIOLATION}
SQLITE_CONFLICTS = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY,
}
CONFLICT = "Conflicts with other data"


class Detail(BaseModel):
    """What happened, in a sentence."""

    detail: str


class Mistake(BaseModel):
    """What is wrong with one part of what was sent."""

    type: Annotated[str, Field(examples=["missing"])]
    loc: Annotated[list[str | int], Field(examples=[["body", "name"]])]
    msg: Annotated[str, Field(examples=["Field required"])]


class Invalid(BaseModel):
    """Why input cannot be used."""

    detail: list[Mistake]


def not_found(name: str) -> NoReturn:
    """Raise the 404; it stands behind an `or`, where a row may be None."""
    raise HTTPException(404, f"{name} not found")


def new_values(row_id: int, sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is to be written: without an id, which may only be the one in the address.

    Raises RequestValidationError, a 422, if it is another one.
    """
    if sent.get("id") not in (None, row_id):
        message = f"The id is not that of the address, {row_id}"
        raise RequestValidationError(
            [{"type": "value_error", "loc": ("body", "id"), "msg": message}]
        )
    return {name: value for name, value in sent.items() if name != "id"}


async def invalid_input(request: Request, error: RequestValidationError) -> Response:
    """Answer 422 with the place and kind of each mistake.

    FastAPI's own handler also quotes the input, and fails if that is NaN or broken Unicode.
    """
    if isinstance(error.body, bytes):  # as `curl -d` sends it, if nobody tells it otherwise
        hint = "Send JSON, with the header Content-Type: application/json"
        return unprocessable([{"type": "json_type", "loc": ["body"], "msg": hint}])
    return unprocessable(error.errors())


async def missing_place(request: Request, error: GoneError) -> Response:
    """Answer 422 to a list that cannot go on."""
    return unprocessable([{"type": "value_error", "loc": ["query", "after"], "msg": str(error)}])


async def stale_row(request: Request, error: ChangedError) -> Response:
    """Answer 412 to a change of a row that somebody else has changed."""
    return JSONResponse({"detail": str(error)}, 412)


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
    message = "JSON decode error"
    if isinstance(error.__cause__, UnicodeDecodeError):  # PowerShell 5 sends Latin-1
        message += ": send text in UTF-8, and nothing compressed"
    return unprocessable([{"type": "json_invalid", "loc": ["body"], "msg": message}])


def unprocessable(errors: Sequence[Mapping[str, Any]]) -> Response:
    """Return a 422 in the form of `Invalid`."""
    errors = first_of(errors)
    detail = [{key: error[key] for key in ("type", "loc", "msg")} for error in errors]
    for told, error in zip(detail, errors):
        if error["type"] == "json_invalid" and "ctx" in error:
            told["msg"] += f": {error['ctx']['error']}"  # why, and `loc` says where
    return Response(json.dumps({"detail": detail}), 422, media_type="application/json")


def sayings(table: Table) -> dict[str, str]:
    """Return what a table says of values that are taken, by what a database calls the rule.

    `mapped_column(unique=True, info={"taken": ...})` says it, or the `info` of a UniqueConstraint
    or an Index. PostgreSQL names the rule, SQLite its columns.
    """
    said: dict[str, str] = {}
    rules: list[UniqueConstraint | Index] = [index for index in table.indexes if index.unique]
    rules += [each for each in table.constraints if isinstance(each, UniqueConstraint)]
    for rule in rules:
        columns = list(rule.columns)
        infos = [rule.info, *(column.info for column in columns if len(columns) == 1)]
        for text in (info["taken"] for info in infos if "taken" in info):
            said |= {str(rule.name): text, ", ".join(map(str, columns)): text}
    return said


def conflict_in(error: IntegrityError, metadata: MetaData | None = None) -> str | None:
    """Return what to say of a value that exists already, or of a broken reference to other data.

    What the tables of `metadata` say of it, if anything.
    """
    original: Any = error.orig
    if hasattr(original, "diag"):  # of psycopg
        rule = original.diag.constraint_name or ""
        is_conflict = sqlstate(original) in CONFLICTS
    else:
        rule = str(error.orig).removeprefix("UNIQUE constraint failed: ")
        is_conflict = getattr(error.orig, "sqlite_errorcode", None) in SQLITE_CONFLICTS
    for table in metadata.tables.values() if metadata else ():
        if text := sayings(table).get(rule):
            # Which one of several it is, core/rows.py has noted.
            return text + "".join(f": {value}" for value in getattr(error, "__notes__", []))
    return CONFLICT if is_conflict else None


async def conflict(request: Request, error: IntegrityError) -> Response:
    """Answer 409 to a conflict with what is there, and 422 to what a CHECK refuses."""
    database = getattr(request.app.state, "database", None)  # as create_app() has it
    if said := conflict_in(error, database and database.Base.metadata):
        return JSONResponse({"detail": said}, 409)
    refused = sqlstate(error.orig) == CHECK_VIOLATION
    code = getattr(error.orig, "sqlite_errorcode", None)
    if refused or code == sqlite3.SQLITE_CONSTRAINT_CHECK:
        return refused_value(error)
    raise error


async def unsuitable(request: Request, error: DataError) -> Response:
    """Answer 422 to a value that its column cannot hold, such as a number of more than 64 bits."""
    if sqlstate(error.orig) == DIVISION_BY_ZERO:  # not what was sent, but our formula
        raise error
    if letter := unknown_letter(error):
        rows: Any = error.params if isinstance(error.params, list) else [error.params]
        # In an INSERT of many rows, the second name is called name__1.
        columns = [
            name.partition("__")[0]
            for row in rows
            if isinstance(row, Mapping)  # and not a tuple, as exec_driver_sql() may have it
            for name, value in row.items()
            if letter in str(value)
        ]
        message = f"The encoding of this database has no {letter}"
        return unprocessable(
            [{"type": "value_error", "loc": ["body", *columns[:1]], "msg": message}]
        )
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
    kind = kind_of_error(error.orig)
    if kind is None:
        temporary = isinstance(error, (OperationalError, InterfaceError))
        # Citus, of which a part is away; it has no better class for that.
        temporary |= str(error.orig).startswith("failure on connection")
    else:
        temporary = kind in SQLITE_TEMPORARY
    if not (temporary or error.connection_invalidated):
        raise error
    return await unavailable(request, error)


async def unavailable(request: Request, error: SQLAlchemyError) -> Response:
    """Answer 503 if the database is away or has had no time for us."""
    original = getattr(error, "orig", error)
    if not request.scope.get(GONE):  # otherwise it was told to stop
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
    GoneError: missing_place,
    ChangedError: stale_row,
    400: unreadable_body,
    405: wrong_method,
    IntegrityError: conflict,
    DataError: unsuitable,
    DBAPIError: database_error,
    TimeoutError: unavailable,
    Exception: server_error,
}
