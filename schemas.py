"""What comes in and goes out over HTTP. Whatever does not fit is answered with a 422."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EmailStr,
    Field,
    StringConstraints,
    WrapValidator,
    model_validator,
    with_config,
)
from pydantic_core import PydanticKnownError
from typing_extensions import TypedDict

from core.bodies import first_mistakes, refuse_many_fields

# PostgreSQL cannot store the character NUL. And when a name is printed in a terminal, control
# characters like ESC in it could do harm there.
NO_NUL = r"^[^\x00]*$"
# The last two ranges reverse the direction of writing, which can hide what a name says.
# TO_BE_SEEN: at least one character is visible.
BAD = r"\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069"
NO_CONTROL = f"^[^{BAD}]*$"
TO_BE_SEEN = rf"^[^{BAD}]*[^{BAD}\s\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff][^{BAD}]*$"

# How far lists are counted. To count a million users takes longer than all the rest of the answer.
COUNTED = 10_000

# PostgreSQL's bigint, and SQLite's INTEGER.
UserId = Annotated[
    int,
    Field(ge=1, le=2**63 - 1, description="Id of a user", json_schema_extra={"example": 1}),
]
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


# In lower case, so that nobody can register Ada@example.com beside ada@example.com. The length is
# checked after that, because a few letters become two.
Email = Annotated[
    EmailStr,
    BeforeValidator(refuse_early),
    AfterValidator(str.lower),
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
    list[UserBody], Field(min_length=1, max_length=1000), WrapValidator(first_mistakes)
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


# ?is_active= is what a form sends if nothing was chosen: where the value may be null, it is.
EMPTY_IS_NONE = BeforeValidator(lambda value: None if value == "" else value)


class UserQuery(BaseModel):
    """Which users to list, in which order, and which page of them."""

    model_config = ConfigDict(extra="forbid")  # ?limit=10 would look like a page of ten

    page: Annotated[int, Field(ge=1, description="Number of the page", examples=[1])] = 1
    page_size: Annotated[
        int, Field(ge=1, le=1000, description="Users on a page", examples=[100])
    ] = 100
    query: Annotated[
        str,
        Field(
            description="Text in the name or the email, in any case", max_length=254, pattern=NO_NUL
        ),
    ] = ""
    is_active: Annotated[
        bool | None, EMPTY_IS_NONE, Field(description="Only those who are active, or are not")
    ] = None
    order_by: Annotated[
        Literal["id", "-id", "name", "-name", "email", "-email"],
        Field(description="With - in front, downwards"),
    ] = "id"
    after: Annotated[
        Annotated[int, Field(ge=0, le=2**63 - 1)] | None,
        EMPTY_IS_NONE,
        Field(
            description="Start after the user with this id, or with 0 at the start, in place of "
            "`page`: the next page takes no longer than the first, however many there are"
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
