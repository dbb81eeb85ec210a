"""How a user is found, created, changed and deleted. Nothing here commits."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from core.queries import ListQuery, RowsQuery
from core.rows import Expected, Page, Rows
from models import User
from schemas import UserBody, UserRead

users = Rows(User, UserRead)
# Built once, with a parameter for the value that changes.
SELECT_USER = select(*users.columns).where(users.c.id == bindparam("user_id"))


def list_users(db: Session, asked: ListQuery) -> Page:
    """Return a page of users; raises GoneError if the user after whom it begins is gone."""
    return users.page(db, asked)


def all_users(db: Session, asked: RowsQuery) -> Iterator[list[UserRead]]:
    """Yield all users that are asked for, a thousand at a time."""
    return users.all(db, asked)


def find_user(db: Session, user_id: int) -> UserRead | None:
    """Return a user, if there is one with that id."""
    return users.first(db, SELECT_USER, user_id=user_id)


def create_user(db: Session, body: UserBody) -> UserRead:
    """Create a user; raises IntegrityError if the email is taken."""
    return users.insert(db, [body.model_dump()])[0]


def create_users(db: Session, bodies: Sequence[UserBody]) -> list[UserRead]:
    """Create users, and return them in that order; raises IntegrityError if an email is taken."""
    return users.insert(db, [body.model_dump() for body in bodies], unique="email")


def change_user(
    db: Session, user_id: int, changes: Mapping[str, Any], expected: Expected | None = None
) -> UserRead | None:
    """Change a user and return it, if there is one with that id.

    Raises ChangedError if it is not as `expected`, IntegrityError if the new email is taken.
    """
    users.hold(db, user_id, expected)
    if not changes:
        return users.first(db, users.held.with_for_update(), row_id=user_id)
    change = update(users.table).where(users.c.id == user_id).values(**changes)
    return users.first(db, change.returning(*users.columns))


def delete_user(db: Session, user_id: int, expected: Expected | None = None) -> bool:
    """Delete a user and return True, if there is one with that id.

    Raises ChangedError if it is not as `expected`, IntegrityError if other data refers to it.
    """
    users.hold(db, user_id, expected)
    deleted = delete(users.table).where(users.c.id == user_id).returning(users.c.id)
    return db.execute(deleted).first() is not None
