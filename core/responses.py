"""Rows as JSON, with their headers; written here, because FastAPI would need one more thread."""

import math
from collections.abc import AsyncIterator, Iterator, Sequence
from hashlib import md5
from typing import Annotated, Any
from urllib.parse import urlencode

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Header, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from pydantic_core import to_json
from sqlalchemy.orm import Session

from core.cells import csv_lines
from core.queries import COUNTED, ListQuery, not_null
from core.rows import Expected, Page, Rows

# Two people edit the same row: with this header, the second learns of the first.
IfMatch = Annotated[
    str | None, Header(description="Only if it still has this `ETag`", json_schema_extra=not_null)
]

READ_AT_ONCE = CapacityLimiter(2)  # downloads
PLACES = ("page", "after")  # the parameters that say where a page begins


def json_response(content: object, status_code: int = 200) -> Response:
    """Return values, or rows as a schema shows them, as JSON."""
    return Response(to_json(content), status_code, media_type="application/json")


def row_response(
    row: BaseModel, status_code: int = 200, request: Request | None = None
) -> Response:
    """Return a row with its ETag; without the row if that is what the `request` has already."""
    response = json_response(row, status_code)
    response.headers["ETag"] = etag(bytes(response.body))
    asked = request.headers.get("If-None-Match", "") if request else ""
    if {"*", response.headers["ETag"]}.intersection(tags(asked.replace("W/", ""))):
        return Response(status_code=304, headers={"ETag": response.headers["ETag"]})
    return response


def etag(body: bytes) -> str:
    """Return the ETag (RFC 9110) of an answer: another one for each other content."""
    return f'"{md5(body, usedforsecurity=False).hexdigest()}"'


def tags(header: str) -> list[str]:
    """Return the ETags in an If-Match or If-None-Match header."""
    return [tag.strip() for tag in header.split(",")]


def precondition(if_match: str | None) -> Expected | None:
    """Return what tells whether a row has one of these ETags, unless any row will do."""
    if if_match is None or "*" in tags(if_match):
        return None
    return lambda row: etag(to_json(row)) in tags(if_match)


def created_response(request: Request, row: BaseModel, path: str) -> Response:
    """Return a new row, and where it is; with the status that the decorator of the call names."""
    response = row_response(row, request.scope["route"].status_code or 200)
    response.headers["Location"] = f"{root(request)}{path}"
    return response


def root(request: Request) -> str:
    """Return what stands before the paths of the app for a client, like the prefix of a proxy."""
    return str(request.scope["root_path"]).rstrip("/")


def csv_response(db: Session, rows: Rows[Any], pages: Iterator[Sequence[BaseModel]]) -> Response:
    """Return rows as a file of CSV, which is sent while it is read.

    What cannot be read at all is an error before the first byte. Before each page that is sent, the
    transaction ends: a client that reads slowly keeps no connection, and no place in the queue. And
    however many there are, only a few of them read from the database at once.
    """
    first = next(pages, [])
    head = "\ufeff" + csv_lines([rows.schema.model_fields])  # the mark tells Excel that it is UTF-8

    def texts() -> Iterator[str]:
        for page in pages:
            db.rollback()
            yield text_of(page)

    async def send() -> AsyncIterator[str]:
        await run_sync(db.rollback)
        yield head + text_of(first)
        following = texts()
        while text := await run_sync(next, following, "", limiter=READ_AT_ONCE):
            yield text

    headers = {"Content-Disposition": "attachment"}
    return StreamingResponse(send(), media_type="text/csv", headers=headers)


def text_of(rows: Sequence[BaseModel]) -> str:
    """Return rows as lines of CSV, with values as JSON has them."""
    return csv_lines(row.model_dump(mode="json").values() for row in rows)


def page_response(request: Request, asked: ListQuery, page: Page) -> Response:
    """Return a page, with the addresses of others in `Link` and the total in `X-Total-Count`.

    A total of COUNTED without a `rel="last"` means that many or more. Behind the pages that have
    numbers, `rel="next"` leads on from row to row, and nobody has counted.
    """
    response = Response(page.json, media_type="application/json")
    pages: dict[str, int] = {}
    if page.total is not None:
        response.headers["X-Total-Count"] = str(min(page.total, COUNTED))
        last = max(1, math.ceil(page.total / asked.page_size))
        pages |= {"first": 1, "prev": min(asked.page - 1, last)}
        if page.goes_on and asked.page * asked.page_size < COUNTED:
            pages["next"] = asked.page + 1
        if page.total <= COUNTED:
            pages["last"] = last
    links = [link(request, rel, page=number) for rel, number in pages.items() if number]
    if page.goes_on and "next" not in pages:
        links.append(link(request, "next", after=page.last_id))
    if links:
        response.headers["Link"] = ", ".join(links)
    return response


def link(request: Request, rel: str, **place: int | None) -> str:
    """Return one link of a Link header (RFC 8288): the same question, with another place."""
    asked = {key: value for key, value in request.query_params.items() if key not in PLACES}
    # The path has the prefix if the server or a mount has set it, and not if FastAPI has.
    path = request.scope["path"].removeprefix(f"{root(request)}/").removeprefix("/")
    return f'<{root(request)}/{path}?{urlencode(asked | place)}>; rel="{rel}"'
