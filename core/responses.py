"""Rows as JSON, with their headers; written here, because FastAPI would need one more thread."""

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from pydantic_core import to_json
from sqlalchemy import Row

from crud import Page
from schemas import UserQuery, UserRead


def json_response(content: object, status_code: int = 200) -> Response:
    """Return plain values as JSON."""
    return Response(to_json(content), status_code, media_type="application/json")


def user_response(user: Row[Any], status_code: int = 200) -> Response:
    """Return a user."""
    return json_response(user._asdict(), status_code)


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
    """Return a page, with the addresses of the others in `Link` and the total in `X-Total-Count`.

    Where pages have no numbers, `Link` has the next one, and nobody has counted.
    """
    response = users_response(page.users)
    if page.total is None:
        if page.goes_on:
            response.headers["Link"] = link(request, "next", after=page.users[-1].id)
        return response
    last = max(1, math.ceil(page.total / params.page_size))
    pages = {"first": 1, "prev": min(params.page - 1, last), "next": params.page + 1, "last": last}
    response.headers["X-Total-Count"] = str(page.total)
    response.headers["Link"] = ", ".join(
        link(request, rel, page=number) for rel, number in pages.items() if 1 <= number <= last
    )
    return response


def link(request: Request, rel: str, **changes: int) -> str:
    """Return one link of a Link header (RFC 8288): the same question, with some changes."""
    asked = dict(request.query_params) | changes
    return f'<{request.scope["path"]}?{urlencode(asked)}>; rel="{rel}"'
