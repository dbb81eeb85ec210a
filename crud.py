"""The statements: what is asked of the database, and what comes back. Nothing here commits.

They return rows of columns instead of `User` objects, which makes a page twice as fast. A statement
is built once, with a parameter for each value that changes.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Integer,
    Row,
    Select,
    String,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.orm import Session

from models import User
from schemas import UserBody, UserQuery, UserRead

users = User.metadata.tables["user"]
COLUMNS = [users.c[field] for field in UserRead.model_fields]

SELECT_USER = select(*COLUMNS).where(users.c.id == bindparam("user_id"))
INSERT_USERS = insert(users).returning(*COLUMNS, sort_by_parameter_order=True)

PATTERN = bindparam("pattern", type_=String)
# Each applies if the parameter of that name is asked for.
CONDITIONS = {
    "pattern": func.lower(users.c.name).like(PATTERN, escape="/")
    | users.c.email.like(PATTERN, escape="/"),
    "is_active": users.c.is_active == bindparam("is_active"),
    "after": users.c.id > bindparam("after"),
}


class Page(NamedTuple):
    """Some of the users that were asked for."""

    users: Sequence[Row[Any]]
    goes_on: bool  # whether there are more behind them
    total: int | None  # how many there are in all; None where pages have no numbers


# ---- One user or several


def find_user(db: Session, user_id: int) -> Row[Any] | None:
    """Return a user, if there is one with that id."""
    return db.execute(SELECT_USER, {"user_id": user_id}).first()


def create_user(db: Session, body: UserBody) -> Row[Any]:
    """Create a user; raises IntegrityError if the email is taken."""
    return db.execute(INSERT_USERS, body.model_dump()).one()


def create_users(db: Session, bodies: Sequence[UserBody]) -> list[Row[Any]]:
    """Create users, and return them in that order; raises IntegrityError if an email is taken."""
    # Always in the same order: two requests with the same emails in two orders could deadlock.
    in_order = sorted((body.model_dump() for body in bodies), key=itemgetter("email"))
    created = {user.email: user for user in db.execute(INSERT_USERS, in_order)}
    return [created[body.email] for body in bodies]


def change_user(db: Session, user_id: int, changes: Mapping[str, Any]) -> Row[Any] | None:
    """Change a user and return it, if there is one with that id.

    Raises IntegrityError if another user has the new email.
    """
    if not changes:
        return find_user(db, user_id)
    change = update(users).where(users.c.id == user_id).values(**changes)
    return db.execute(change.returning(*COLUMNS)).first()


def delete_user(db: Session, user_id: int) -> bool:
    """Delete a user and return True, if there is one with that id.

    Raises IntegrityError if other data refers to the user.
    """
    deleted = delete(users).where(users.c.id == user_id).returning(users.c.id)
    return db.execute(deleted).first() is not None


# ---- Pages of users


def list_users(db: Session, params: UserQuery) -> Page:
    """Return a page of users, with one statement wherever it is not beyond the last one."""
    asked = parameters(params)
    names = frozenset(asked)
    rows = db.execute(page_statement(params.order_by, names), asked).all()
    page = rows[: params.page_size]
    goes_on = len(rows) > len(page)
    if params.after is not None:
        return Page(page, goes_on, None)
    if goes_on:
        total = rows[0].total
    elif rows or params.page == 1:
        total = (params.page - 1) * params.page_size + len(page)
    else:
        total = db.scalar(count_statement(names), asked)
    return Page(page, goes_on, total)


def parameters(params: UserQuery) -> dict[str, Any]:
    """Return what is asked for, as parameters of a statement."""
    asked: dict[str, Any] = {
        "size": params.page_size + 1,  # one more, which shows whether another page follows
        "skipped": (params.page - 1) * params.page_size,
    }
    if params.query:
        text = re.sub("([/%_])", r"/\1", params.query.lower())  # % and _ are plain characters
        asked["pattern"] = f"%{text}%"
    if params.is_active is not None:
        asked["is_active"] = params.is_active
    if params.after is not None:
        asked["after"] = params.after
    return asked


@cache
def page_statement(order_by: str, asked: frozenset[str]) -> Select[Any]:
    """Return the SELECT of a page, for the parameters of these names.

    By number, it counts as well, if another page follows:

        WITH page AS (SELECT ... FROM user WHERE ... ORDER BY ... LIMIT :size OFFSET :skipped)
        SELECT page.*, CASE WHEN (SELECT count(*) FROM page) = :size
                            THEN (SELECT count(*) FROM user WHERE ...) END AS total
        FROM page ORDER BY ...

    After an id, the database goes straight to it; to an OFFSET it has to count:

        SELECT ... FROM user WHERE ... AND id > :after ORDER BY id LIMIT :size
    """
    size = bindparam("size", type_=Integer)
    page = matching(select(*COLUMNS), asked).limit(size)
    if "after" in asked:
        return page.order_by(users.c.id)
    page = page.offset(bindparam("skipped", type_=BigInteger))
    found = page.order_by(*order(users.c, order_by)).cte("page")
    goes_on = select(func.count()).select_from(found).scalar_subquery() == size
    total = case((goes_on, count_statement(asked).scalar_subquery()))
    return select(found, total.label("total")).order_by(*order(found.c, order_by))


@cache
def count_statement(asked: frozenset[str]) -> Select[Any]:
    """Return the SELECT of the total alone."""
    return matching(select(func.count()).select_from(users), asked)


def matching(statement: Select[Any], asked: frozenset[str]) -> Select[Any]:
    """Return `statement` for only those users that are asked for."""
    return statement.where(*(CONDITIONS[name] for name in CONDITIONS if name in asked))


def order(columns: Any, order_by: str) -> list[Any]:
    """Return what to order by: the column, `-` for descending, and then the id."""
    name = order_by.removeprefix("-")
    column = columns[name].desc() if order_by.startswith("-") else columns[name]
    return [column] if name == "id" else [column, columns.id]
