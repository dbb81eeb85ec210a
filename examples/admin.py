"""Users for admin front ends: `uvicorn examples.admin:app`, then /admin/users.

It speaks as React Admin (`ra-data-simple-rest`) and Refine (`@refinedev/simple-rest`) do:
`simpleRest("http://localhost:8000/admin", undefined, "X-Total-Count")`, or
`dataProvider("http://localhost:8000/admin")`. Set `CORS_ORIGINS` to where the front end runs.
"""

import json
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Annotated, Any, Literal, Self

from fastapi import Depends, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import HTTPException, RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError, model_validator

import crud
import database
import main
from core.bodies import BIGGEST
from core.errors import HANDLERS, not_found
from core.queries import COUNTED, ListQuery
from core.responses import json_response
from core.sessions import read_only
from core.startup import create_app
from database import SessionDep
from schemas import UserId

Place = Annotated[int, Field(ge=0, le=BIGGEST)]
Handler = Callable[[Request, Any], Coroutine[Any, Any, Response]]


class Asked(BaseModel):
    """A list: in JSON, by React Admin, or by Refine, whose filters are what else is in the URL."""

    model_config = ConfigDict(extra="allow")
    range: Json[tuple[Place, Place]] | None = None  # with the last one
    sort: Json[tuple[str, Literal["ASC", "DESC"]]] | None = None
    filter: Json[dict[str, Any]] = {}
    start: Annotated[Place, Field(alias="_start")] = 0
    end: Annotated[Place, Field(alias="_end")] = 1000  # without the last one
    by: Annotated[str, Field(alias="_sort")] = "id"
    order: Annotated[Literal["asc", "desc"], Field(alias="_order")] = "asc"

    @model_validator(mode="after")
    def check_page(self) -> Self:
        """Take what both say in the form of Refine; refuse what is no page, 0 to 9 or 10 to 19."""
        if self.range:
            self.start, self.end = self.range[0], self.range[1] + 1
        if self.sort:
            self.by, self.order = self.sort[0], "asc" if self.sort[1] == "ASC" else "desc"
        if self.end <= self.start or self.start % (self.end - self.start):
            raise ValueError(f"{self.start} to {self.end - 1} is no whole page")
        return self

    def filters(self) -> dict[str, Any]:
        """Return what is asked for of each user."""
        asked = (self.model_extra or {}) | self.filter
        return {"query" if name == "q" else name: value for name, value in asked.items()}

    def query(self) -> ListQuery:
        """Return what is asked for as `GET /users` has it."""
        size = self.end - self.start
        place = {"page": self.start // size + 1, "page_size": size}
        order = {"order_by": f"-{self.by}" if self.order == "desc" else self.by}
        filters = self.filters()
        if wrong := filters.keys() & {"page", "page_size", "order_by", "after"}:
            raise ValueError(f"no filter: {', '.join(wrong)}")
        return crud.users.query_model.model_validate(filters | place | order)


class Some(BaseModel):
    """Users with these ids."""

    ids: Annotated[list[UserId], Field(max_length=1000)]


async def asked_by(request: Request) -> ListQuery | Some:
    """Read the URL; what does not fit is a 422."""
    parameters = request.query_params
    try:
        asked = Asked.model_validate(dict(parameters))
        if "id" in asked.filters():
            return Some(ids=asked.filter.get("id", parameters.getlist("id")))
        return asked.query()
    except ValidationError as error:
        told = [each | {"loc": ("query", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(told) from error
    except ValueError as error:
        why = {"type": "value_error", "loc": ("query",), "msg": str(error)}
        raise RequestValidationError([why]) from error


def with_message(handler: Handler) -> Handler:
    """Return a handler that also says `message`, for a notice, and `errors`, for a form."""

    @wraps(handler)
    async def answer(request: Request, error: Any) -> Response:
        response = await handler(request, error)
        content = json.loads(bytes(response.body))
        detail = content["detail"]
        if isinstance(detail, list):
            names = [[part for part in each["loc"] if isinstance(part, str)] for each in detail]
            content["errors"] = {name[-1]: each["msg"] for name, each in zip(names, detail)}
            detail = "; ".join(f"{name}: {why}" for name, why in content["errors"].items())
        said = json_response(content | {"message": detail}, response.status_code)
        if wait := response.headers.get("Retry-After"):
            said.headers["Retry-After"] = wait
        return said

    return answer


handlers: dict[Any, Handler] = {HTTPException: http_exception_handler} | HANDLERS
admin = create_app(
    database, exception_handlers={kind: with_message(handlers[kind]) for kind in handlers}
)


@admin.get("/users")
@read_only
def list_users(asked: Annotated[ListQuery | Some, Depends(asked_by)], db: SessionDep) -> Response:
    """List users, and say how many there are; or those with some ids, as far as they are there."""
    if isinstance(asked, Some):
        return json_response([user for each in asked.ids if (user := crud.find_user(db, each))])
    page = crud.list_users(db, asked)
    start, total = (asked.page - 1) * asked.page_size, min(page.total or 0, COUNTED)
    shown = f"{start}-{min(start + asked.page_size, total) - 1}" if start < total else "*"
    headers = {"Content-Range": f"users {shown}/{total}", "X-Total-Count": str(total)}
    return Response(page.json, headers=headers, media_type="application/json")


@admin.delete("/users/{user_id}")
def delete_user(user_id: UserId, db: SessionDep) -> Response:
    """Delete a user; React Admin reads the id of the answer."""
    if not crud.delete_user(db, user_id):
        not_found("User")
    db.commit()
    return json_response({"id": user_id})


admin.get("/users/{user_id}")(main.read_user)
admin.post("/users", status_code=201)(main.create_user)
admin.put("/users/{user_id}")(main.change_user)  # in part, when React Admin changes many at once
admin.patch("/users/{user_id}")(main.change_user)

app = main.app
app.mount("/admin", admin)
