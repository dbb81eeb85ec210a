"""Rows as JSON, with their headers; written here, because FastAPI would need one more thread."""

import math
from collections.abc import Sequence
from hashlib import md5
from typing import Any
from urllib.parse import urlencode

from fastapi import HTTPException, Request, Response
from pydantic_core import to_json
from sqlalchemy import Row

from crud import Check, Page
from schemas import COUNTED, UserQuery, UserRead

PLACES = ("page", "after")  # the parameters that say where a page begins


def json_response(content: object, status_code: int = 200) -> Response:
    """Return plain values as JSON."""
    return Response(to_json(content), status_code, media_type="application/json")


def user_response(
    user: Row[Any], status_code: int = 200, request: Request | None = None
) -> Response:
    """Return a user with its ETag; without the user if that is what the `request` has already."""
    response = json_response(user._asdict(), status_code)
    response.headers["ETag"] = etag(bytes(response.body))
    asked = request.headers.get("If-None-Match", "") if request else ""
    if response.headers["ETag"] in tags(asked.replace("W/", "")):
        return Response(status_code=304, headers={"ETag": response.headers["ETag"]})
    return response


def etag(body: bytes) -> str:
    """Return the ETag (RFC 9110) of an answer: another one for each other content."""
    return f'"{md5(body, usedforsecurity=False).hexdigest()}"'


def tags(header: str) -> list[str]:
    """Return the ETags in an If-Match or If-None-Match header."""
    return [tag.strip() for tag in header.split(",")]


def still(if_match: str | None) -> Check | None:
    """Return a check that a user has one of these ETags; it raises a 412 otherwise."""
    if if_match is None or "*" in tags(if_match):
        return None  # any user there is

    def check(user: Row[Any]) -> None:
        if etag(to_json(user._asdict())) not in tags(if_match):
            raise HTTPException(412, "User has changed since: read it again")

    return check


def created_response(request: Request, user: Row[Any]) -> Response:
    """Return a new user, with the status that the decorator of the call names."""
    response = user_response(user, request.scope["route"].status_code or 200)
    response.headers["Location"] = f"{request.scope['root_path']}/users/{user.id}"
    return response


def users_response(users: Sequence[Row[Any]], status_code: int = 200) -> Response:
    """Return a list of users."""
    fields = UserRead.model_fields  # outside the loop, because pydantic takes its time for it
    # Where the row of a page has one column more, the total, zip() leaves it out.
    return json_response([dict(zip(fields, user)) for user in users], status_code)


def page_response(request: Request, params: UserQuery, page: Page) -> Response:
    """Return a page, with the addresses of others in `Link` and the total in `X-Total-Count`.

    A total of COUNTED without a `rel="last"` means that many or more. Behind the pages that have
    numbers, `rel="next"` leads on from user to user, and nobody has counted.
    """
    response = users_response(page.users)
    pages: dict[str, int] = {}
    if page.total is not None:
        response.headers["X-Total-Count"] = str(min(page.total, COUNTED))
        last = max(1, math.ceil(page.total / params.page_size))
        pages |= {"first": 1, "prev": min(params.page - 1, last)}
        if page.goes_on and params.page * params.page_size < COUNTED:
            pages["next"] = params.page + 1
        if page.total <= COUNTED:
            pages["last"] = last
    links = [link(request, rel, page=number) for rel, number in pages.items() if number]
    if page.goes_on and "next" not in pages:
        links.append(link(request, "next", after=page.users[-1].id))
    if links:
        response.headers["Link"] = ", ".join(links)
    return response


def link(request: Request, rel: str, **place: int) -> str:
    """Return one link of a Link header (RFC 8288): the same question, with another place."""
    asked = {key: value for key, value in request.query_params.items() if key not in PLACES}
    return f'<{request.scope["path"]}?{urlencode(asked | place)}>; rel="{rel}"'
