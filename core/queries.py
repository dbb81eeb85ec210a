"""What can be asked of a list, in the URL. Whatever does not fit is answered with a 422."""

import enum
from collections.abc import Callable, Coroutine
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal, Self, TypeVar

from fastapi import Query
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NaiveDatetime,
    create_model,
    model_validator,
)
from sqlalchemy import REAL, BigInteger, Column, DateTime, Enum, Integer, SmallInteger, String

from core.bodies import BIGGEST, NO_NUL
from core.columns import NO_SCALARS, python_type

# How far lists are counted. To count a million rows takes longer than all the rest of the answer.
COUNTED = 10_000
# ?is_active= is what a form sends if nothing was chosen, and ?is_active=null some JavaScript. (But
# a text may be "null".)
EMPTY_IS_NONE = BeforeValidator(lambda value: None if value == "" else value)
NULL_IS_NONE = BeforeValidator(lambda value: None if value in ("", "null") else value)

Asked = TypeVar("Asked", bound="RowsQuery")


def not_null(schema: dict[str, Any]) -> None:
    """Say of what may be left out that it is never null: nothing in a URL or a header is."""
    values = [each for each in schema.pop("anyOf") if each != {"type": "null"}]
    # A Decimal is a number or a text.
    schema.update(values[0] if len(values) == 1 else {"anyOf": values})


class RowsQuery(BaseModel):
    """Which rows to list, and in which order."""

    model_config = ConfigDict(extra="forbid")  # ?limit=10 would look like a page of ten

    order_by: str = "id"

    def text(self) -> str:
        """Return the text that is searched for; an empty one where nothing is."""
        return str(getattr(self, "query", ""))


class ListQuery(RowsQuery):
    """Which rows to list, in which order, and which page of them."""

    page: Annotated[int, Field(ge=1, description="Number of the page", examples=[1])] = 1
    page_size: Annotated[
        int, Field(ge=1, le=1000, description="How many on a page", examples=[100])
    ] = 100
    after: Annotated[
        Annotated[int, Field(ge=0, le=BIGGEST)] | None,
        NULL_IS_NONE,
        Field(
            description="Start after the one with this id, or with 0 at the start, in place of "
            "`page`: the next page takes no longer than the first, however many there are",
            json_schema_extra=not_null,
        ),
    ] = None

    @model_validator(mode="after")
    def check_page(self) -> Self:
        """Refuse two ways at once to say which page, and a page that is too far behind."""
        if self.after is not None and self.page != 1:
            raise ValueError("after and page cannot be combined")
        if (self.page - 1) * self.page_size >= COUNTED:
            raise ValueError(
                f"only the first {COUNTED} have page numbers: walk the list from after=0 on, along "
                "rel=next in the header Link"
            )
        return self


def query_model(
    name: str,
    order_by: list[str],
    filters: list[Column[Any]],
    search: list[str],
    base: type[Asked],
) -> type[Asked]:
    """Return the query of a table: with its orders, its filters, and `query` for a search."""
    orders = one_of([f"{sign}{order}" for order in order_by for sign in ("", "-")])
    about = Field(description="With - in front, downwards", examples=["id"])
    fields: dict[str, Any] = {"order_by": (Annotated[orders, about], "id")}
    if search:
        about = f"Text in the {' or the '.join(search)}, in any case"
        text = Annotated[str, Field(description=about, max_length=254, pattern=NO_NUL)]
        fields["query"] = (text, "")
    for column in filters:
        about = column.doc or f"Only those with this {column.name}"
        only = Field(description=about, json_schema_extra=not_null)
        empty = EMPTY_IS_NONE if isinstance(column.type, String) else NULL_IS_NONE
        fields[column.name] = (Annotated[value_of(column) | None, empty, only], None)
    return create_model(name, __base__=base, __doc__=base.__doc__, **fields)


def one_of(names: list[str]) -> Any:
    """Return the type of what is one of these names."""
    return Literal[tuple(names)]


def member(kind: type[enum.Enum], text: Any) -> Any:
    """Return the member with a value that is written like that, if there is one."""
    return next((each for each in kind if str(each.value) == text), text)


def value_of(column: Column[Any]) -> Any:
    """Return the type of what a column is compared with; raises TypeError if there is none."""
    if column.name in (*ListQuery.model_fields, "query", "text"):
        raise TypeError(f"{column} cannot be a filter: its name has another meaning in the URL")
    match column.type:
        case Enum(enum_class=None, enums=names):
            return one_of(names)
        case DateTime(timezone=zone):
            return AwareDatetime if zone else NaiveDatetime
        case Integer() as number:  # what does not fit would be an error of PostgreSQL
            bits = {SmallInteger: 16, BigInteger: 64}.get(type(number), 32)
            return Annotated[int, Field(ge=-(2 ** (bits - 1)), lt=2 ** (bits - 1))]
        case Enum() | String():
            kind = python_type(column)
            text = Annotated[str, Field(max_length=column.type.length or 254, pattern=NO_NUL)]
            return text if kind is str else Annotated[kind, BeforeValidator(partial(member, kind))]
    kind = python_type(column)
    if kind in NO_SCALARS or isinstance(column.type, REAL):
        raise TypeError(f"{column} cannot be a filter: its values cannot be told in a URL")
    limits = {float: Field(allow_inf_nan=False), Decimal: Field(max_digits=100)}
    return Annotated[kind, limits[kind]] if kind in limits else kind


def asked_by(model: type[Asked]) -> Callable[..., Coroutine[Any, Any, Asked]]:
    """Return a dependency that reads a query from the URL."""

    async def asked(query: Any) -> Any:
        return query

    asked.__annotations__["query"] = Annotated[model, Query()]
    return asked
