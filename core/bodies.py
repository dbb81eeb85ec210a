"""What may stand in a body, and what is wrong with one: in a bounded time, however long it is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

# PostgreSQL cannot store the character NUL. And when a name is printed in a terminal, control
# characters like ESC in it could do harm there.
NO_NUL = r"^[^\x00]*$"
# The last two ranges reverse the direction of writing, which can hide what a name says.
# TO_BE_SEEN: at least one character is visible.
BAD = r"\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069"
NO_CONTROL = f"^[^{BAD}]*$"
TO_BE_SEEN = rf"^[^{BAD}]*[^{BAD}\s\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff][^{BAD}]*$"

BIGGEST = 2**63 - 1  # in PostgreSQL's bigint, and SQLite's INTEGER
# In /openapi.json, FastAPI writes a `maximum` as a float, and such a big one is not exact.
INT64 = WithJsonSchema({"type": "integer", "format": "int64", "minimum": 1, "examples": [1]})
RowId = Annotated[int, Field(ge=1, le=BIGGEST), INT64]

MISTAKES = 100  # so many are said, and how many there are
PIECE = 10  # rows that are looked at again, until so many are found


def refuse_many_fields(fields: Any) -> Any:
    """Refuse an object with more fields than any table has columns, without a look at each."""
    if isinstance(fields, Mapping) and len(fields) > MISTAKES:
        message = f"Object should have at most {MISTAKES} fields, not {len(fields)}"
        raise PydanticCustomError("too_many_fields", "{message}", {"message": message})
    return fields


def first_mistakes(rows: list[Any], handler: ValidatorFunctionWrapHandler) -> Any:
    """Validate a list; of its mistakes, keep the first. To write down each takes longer than that.

    Raises ValidationError.
    """
    try:
        return handler(rows)
    except ValidationError as error:
        number = error.error_count()
        if number <= MISTAKES:
            raise
    found: list[InitErrorDetails] = []
    for start in range(0, len(rows), PIECE):
        try:
            handler(rows[start : start + PIECE])
        except ValidationError as error:
            for each in error.errors(include_url=False, include_input=False):
                row, *place = each["loc"]
                told = PydanticCustomError(each["type"], "{message}", {"message": each["msg"]})
                found.append({"type": told, "loc": (int(row) + start, *place), "input": None})
        if len(found) >= MISTAKES:
            break
    last = PydanticCustomError("too_many_mistakes", "{message}", {"message": how_many(number)})
    found[MISTAKES:] = [{"type": last, "loc": (), "input": None}]
    raise ValidationError.from_exception_data("list", found)


def each_once(name: str) -> Callable[[list[Any]], list[Any]]:
    """Return what refuses a list in which two rows have the same value in the field `name`."""

    def refuse_twice(rows: list[Any]) -> list[Any]:
        first: dict[Any, int] = {}
        found: list[InitErrorDetails] = []
        for number, row in enumerate(rows):
            value = getattr(row, name)
            if (before := first.setdefault(value, number)) != number:
                message = f"The same as in row {before} of this list"
                twice = PydanticCustomError("twice", "{message}", {"message": message})
                found.append({"type": twice, "loc": (number, name), "input": None})
        if found:
            raise ValidationError.from_exception_data("list", found)
        return rows

    return refuse_twice


def how_many(number: int) -> str:
    """Say how many mistakes there are, after the first."""
    return f"{number} mistakes: above are the first {MISTAKES}"


def first_of(errors: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the first errors of a validation, and how many there are."""
    if len(errors) <= MISTAKES + 1:
        return errors
    last = {"type": "too_many_mistakes", "loc": ["request"], "msg": how_many(len(errors))}
    return [*errors[:MISTAKES], last]
