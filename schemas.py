"""What comes in and goes out over HTTP. Whatever does not fit is answered with a 422."""

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EmailStr,
    Field,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
    with_config,
)
from pydantic_core import PydanticKnownError
from typing_extensions import TypedDict

from core.bodies import TO_BE_SEEN, RowId, each_once, first_mistakes, refuse_many_fields
from core.letters import in_small_letters

UserId = Annotated[RowId, Field(description="Id of a user")]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=TO_BE_SEEN),
    Field(examples=["Ada Lovelace"]),
]


def refuse_early(email: Any) -> Any:
    """Refuse what EmailStr would take its time for, or take in part: `Ada <ada@example.com>`."""
    if isinstance(email, str) and len(email) > 254:
        raise PydanticKnownError("string_too_long", {"max_length": 254})
    if isinstance(email, str) and email.count(".") > 20:  # each part of a domain takes its time
        raise ValueError("value is not a valid email address: it has more than 20 dots")
    if isinstance(email, str) and "<" in email:
        raise ValueError("value is not a valid email address: write it without a name")
    return email


# What may stand before the @ of nearly every address, of which EmailStr changes nothing.
PLAIN = re.compile(r"[\w+-]+(?:\.[\w+-]+)*", re.ASCII)
domains: dict[str, str] = {}  # those that EmailStr has looked at, and what it has made of them


def remember_domain(email: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Look at a domain once; that takes 35 of the 40 us that a user takes, whatever it is."""
    local, _, domain = email.rpartition("@") if isinstance(email, str) else ("", "", "")
    plain = domain.isascii() and len(local) <= 64 and PLAIN.fullmatch(local)
    if plain and domain in domains:
        return f"{local}@{domains[domain]}"
    checked = check(email)
    if plain and len(domains) < 10_000:
        domains[domain] = checked.rpartition("@")[2]
    return checked


# In small letters, so that nobody can register Ada@example.com beside ada@example.com.
Email = Annotated[
    EmailStr,
    WrapValidator(remember_domain),
    BeforeValidator(refuse_early),
    AfterValidator(in_small_letters),
    Field(max_length=254, examples=["ada@example.com"]),
]


class UserBody(BaseModel):
    """A user as a client writes one."""

    model_config = ConfigDict(extra="forbid")  # what is misspelt would be lost in silence

    name: Name
    email: Email
    is_active: bool = True

    _few_fields = model_validator(mode="before")(refuse_many_fields)


class UserRecord(UserBody):
    """A user as a client replaces one; with the id as well, if it sends back what it has read."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "Ada Lovelace", "email": "ada@example.com"}}
    )

    id: UserId | None = None

    def changes(self) -> dict[str, Any]:
        """Return what to write: what was sent. A client may not know each column that there is."""
        return self.model_dump(include=self.model_fields_set)


UserBodies = Annotated[
    list[UserBody],
    Field(min_length=1, max_length=1000),
    AfterValidator(each_once("email")),
    WrapValidator(first_mistakes),
]


@with_config(extra="forbid")  # a misspelt field would look like a change that was made
class UserChanges(TypedDict, total=False):
    """The fields of a user to change; those that are absent stay as they are."""

    name: Name
    email: Email
    is_active: Annotated[bool, Field(examples=[False])]
    id: Annotated[UserId, Field(description="May be there, if it is the one in the address")]


UserPatch = Annotated[UserChanges, BeforeValidator(refuse_many_fields)]


class UserRead(BaseModel):
    """A user as a client reads one."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[int, Field(examples=[1])]
    name: Annotated[str, Field(examples=["Ada Lovelace"])]
    email: Annotated[str, Field(examples=["ada@example.com"])]
    is_active: Annotated[bool, Field(examples=[True])]
