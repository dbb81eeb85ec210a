"""What calls may answer beside their success: for `responses=`, and so for /docs."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import DeclarativeBase

from core.errors import CONFLICT, Detail, Invalid, sayings
from core.tables import table_of

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


class RowAnswers:
    """What the calls of a table may answer: `listed` for a list, `read` for one row, and so on."""

    def __init__(self, model: type[DeclarativeBase]) -> None:
        name = model.__name__
        low = name.lower()
        taken = next(iter(sayings(table_of(model)).values()), CONFLICT)
        etag = header("ETag", "string", f"Changes with the {low}: for If-Match and If-None-Match")
        location = {"headers": header("Location", "string", f"Where the {low} is")}
        not_found = INVALID | answer(404, f"{name} not found", f"No {low} has this id")
        changed_since = answer(
            412, f"{name} has changed since: read it again", "Not what If-Match has"
        )
        self.listed: Answers = {
            **INVALID,
            200: {
                "headers": header(
                    "X-Total-Count",
                    "integer",
                    "How many there are, exact up to 10000; not with `after`",
                )
                | header("Link", "string", "Addresses of other pages, as in RFC 8288")
            },
        }
        self.exported: Answers = {
            **INVALID,
            200: {
                "description": f"A line for each {low}, in UTF-8",
                "content": {"text/csv": {"example": "id,...\n1,...\n"}},
            },
        }
        self.read: Answers = not_found | {
            200: {"headers": etag},
            304: {"description": "As If-None-Match has it", "headers": etag},
        }
        self.refused = (
            INVALID
            | answer(409, taken, f"Another {low} has this")
            | answer(413, "Body larger than 1 MiB", "Body too long")
        )
        self.created: Answers = self.refused | {201: location}
        self.created_as_200: Answers = self.refused | {200: location}
        self.changed: Answers = not_found | self.refused | changed_since | {200: {"headers": etag}}
        self.deleted = answer(200, f"{name} deleted", f"The {low} is gone") | not_found
        self.deleted |= changed_since | answer(409, CONFLICT, f"Other data refers to the {low}")
