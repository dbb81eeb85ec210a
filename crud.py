"""The statements: what is asked of the database, and what comes back. Nothing here commits.

They return rows of columns instead of `User` objects, which makes a page twice as fast. A statement
is built once, with a parameter for each value that changes.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Row,
    Select,
    String,
    bindparam,
    case,
    delete,
    false,
    func,
    insert,
    literal_column,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError, TimeoutError
from sqlalchemy.orm import Session

from core.postgresql import IdsBehindError, is_of_primary_key
from models import User
from schemas import COUNTED, UserBody, UserQuery, UserRead

users = User.metadata.tables["user"]
COLUMNS = [users.c[field] for field in UserRead.model_fields]

SELECT_USER = select(*COLUMNS).where(users.c.id == bindparam("user_id"))
INSERT_USERS = insert(users).returning(*COLUMNS, sort_by_parameter_order=True)

# What decides the order, without ties; models.py has an index for each.
KEYS = {"id": ["id"], "name": ["name", "id"], "email": ["email"]}

SIZE = bindparam("size", type_=Integer)
AFTER = bindparam("after", type_=BigInteger)
UPPER, LIKE, GLOB = (bindparam(name, type_=String) for name in ("upper", "like", "glob"))
# Each applies if its name is among the parameters.
CONDITIONS = {
    # On PostgreSQL, which has an index on upper(name) and email. upper() and not lower(), because
    # the Greek letter sigma has two small forms and one capital.
    "upper": users.c.email.like(func.lower(UPPER), escape="/")
    | func.upper(users.c.name).like(func.upper(UPPER), escape="/"),
    # On SQLite, which looks at each user: 0.1 s for a million of them, and nobody else has to wait
    # meanwhile, because no Python is called. LIKE finds A for a, but not É for é.
    "like": users.c.name.like(LIKE, escape="/") | users.c.email.like(LIKE, escape="/"),
    # With GLOB, we can ask for [éÉ], one of the two letters; it takes four times as long.
    "glob": users.c.name.bool_op("GLOB")(GLOB) | users.c.email.bool_op("GLOB")(GLOB),
    "active": users.c.is_active == true(),
    "inactive": users.c.is_active == false(),
}


Check = Callable[[Row[Any]], None]
TRIES = 5  # how often a user is read again who has changed between a check and a change


class Page(NamedTuple):
    """Some of the users that were asked for."""

    users: Sequence[Row[Any]]
    goes_on: bool  # whether there are more behind them
    total: int | None  # how many there are, or COUNTED + 1; None where pages have no numbers


# ---- One user or several


def find_user(db: Session, user_id: int) -> Row[Any] | None:
    """Return a user, if there is one with that id."""
    return db.execute(SELECT_USER, {"user_id": user_id}).first()


def create_user(db: Session, body: UserBody) -> Row[Any]:
    """Create a user; raises IntegrityError if the email is taken."""
    return insert_users(db, [body.model_dump()])[0]


def insert_users(db: Session, rows: list[dict[str, Any]]) -> Sequence[Row[Any]]:
    """Insert rows and return them as users, in that order."""
    nothing_before = not db.in_transaction()
    try:
        return db.execute(INSERT_USERS, rows).all()
    except (IdsBehindError, IntegrityError) as error:
        # An import has used the id that came next. It has none that is used after it.
        behind = isinstance(error, IdsBehindError) or is_of_primary_key(error.orig)
        if not (behind and nothing_before):
            raise
        db.rollback()
        return db.execute(INSERT_USERS, rows).all()


def create_users(db: Session, bodies: Sequence[UserBody]) -> list[Row[Any]]:
    """Create users, and return them in that order.

    Raises IntegrityError, with a note of the first such email, if one is taken.
    """
    # Always in the same order: two requests with the same emails in two orders could deadlock.
    in_order = sorted((body.model_dump() for body in bodies), key=itemgetter("email"))
    try:
        created = {user.email: user for user in insert_users(db, in_order)}
    except IntegrityError as error:
        db.rollback()
        emails = [body["email"] for body in in_order]
        taken = set(db.scalars(select(users.c.email).where(users.c.email.in_(emails))))
        taken |= {email for email, following in pairwise(emails) if email == following}
        error.add_note(min(taken, default="one of them"))
        raise
    return [created[body.email] for body in bodies]


def change_user(
    db: Session, user_id: int, changes: Mapping[str, Any], check: Check | None = None
) -> Row[Any] | None:
    """Change a user and return it, if there is one with that id.

    `check` raises if it is not the user that is to be changed. Between the check and the change,
    nobody else can change it. Raises IntegrityError if another user has the new email.
    """
    for same in tries(db, user_id, check):
        if not changes:
            return find_user(db, user_id)
        change = update(users).where(users.c.id == user_id, *same).values(**changes)
        changed = db.execute(change.returning(*COLUMNS)).first()
        if changed or not same:
            return changed
    return None


def delete_user(db: Session, user_id: int, check: Check | None = None) -> bool:
    """Delete a user and return True, if there is one with that id.

    `check` is that of change_user(). Raises IntegrityError if other data refers to the user.
    """
    for same in tries(db, user_id, check):
        deleted = delete(users).where(users.c.id == user_id, *same).returning(users.c.id)
        found = db.execute(deleted).first() is not None
        if found or not same:
            return found
    return False


def tries(
    db: Session, user_id: int, check: Check | None
) -> Iterator[Sequence[ColumnElement[bool]]]:
    """Yield the condition that a user still is what `check` has seen, as often as that makes sense.

    A change that finds nobody has come after somebody else's, and the next check tells. None is
    yielded if there is no such user. Raises TimeoutError if it never comes to an end, as with a
    value that is read as another one than is stored.
    """
    if check is None:
        yield ()
        return
    for _ in range(TRIES):
        user = find_user(db, user_id)
        if user is None:
            return
        check(user)
        yield [users.c[name].is_not_distinct_from(value) for name, value in user._asdict().items()]
    raise TimeoutError(f"user {user_id} is never what it has just been")


# ---- Pages of users


def list_users(db: Session, params: UserQuery) -> Page | None:
    """Return a page of users, or None if the user after whom it begins is gone.

    That takes one statement, and one more if nobody is on the page.
    """
    asked = parameters(params, db.get_bind().dialect.name)
    names = frozenset(asked)
    rows = db.execute(page_statement(params.order_by, names), asked).all()
    page = rows[: params.page_size]
    goes_on = len(rows) > len(page)
    if params.after is not None:
        # The next id is known without that user; the name or the email to go on from is not.
        by_user = "after" in asked and params.order_by not in ("id", "-id")
        if by_user and not rows and find_user(db, asked["after"]) is None:
            return None
        return Page(page, goes_on, None)
    if goes_on:
        total = rows[0].total
    elif rows or params.page == 1:
        total = (params.page - 1) * params.page_size + len(page)
    else:
        total = db.scalar(count_statement(names), asked)
    return Page(page, goes_on, total)


def parameters(params: UserQuery, database: str) -> dict[str, Any]:
    """Return what is asked for, as parameters of a statement, and by name what applies."""
    asked: dict[str, Any] = {"size": params.page_size + 1}  # one more shows whether it goes on
    if params.query:
        if database == "sqlite" and not params.query.isascii():
            asked["glob"] = "*" + "".join(map(either_case, params.query)) + "*"
        else:
            text = re.sub("([/%_])", r"/\1", params.query)  # % and _ are plain characters
            asked["like" if database == "sqlite" else "upper"] = f"%{text}%"
    if params.is_active is not None:
        asked["active" if params.is_active else "inactive"] = None
    if params.after is None:
        asked["skipped"] = (params.page - 1) * params.page_size
    elif params.after > 0:
        asked["after"] = params.after
    return asked


def either_case(letter: str) -> str:
    """Return what stands in a GLOB for a letter in any case, or for another character."""
    return f"[{letters}]" if (letters := cases().get(letter.upper())) else letter


@cache
def cases() -> dict[str, str]:
    """Return for each capital letter itself and its small ones; for a sigma, these are two."""
    same = dict(zip("*?[", "*?[", strict=True))  # plain characters, in brackets
    for letter in map(chr, range(0x20000)):  # there are no letters with capitals beyond
        if letter.upper() != letter and len(letter.upper()) == 1:
            same[letter.upper()] = same.get(letter.upper(), letter.upper()) + letter
    return same


@cache
def page_statement(order_by: str, asked: frozenset[str]) -> Select[Any]:
    """Return the SELECT of a page, for the parameters of these names.

    By number, it also counts, if another page follows:

        WITH page AS (SELECT ... FROM user WHERE ... ORDER BY ... LIMIT :size OFFSET :skipped)
        SELECT page.*, CASE WHEN (SELECT count(*) FROM page) = :size THEN ... END AS total
        FROM page ORDER BY ...

    After a user, the database goes straight to where it begins, by an index:

        SELECT ... FROM user WHERE ... AND
            (name, id) > (SELECT name, id FROM user WHERE id = :after)
        ORDER BY name, id LIMIT :size
    """
    keys = KEYS[order_by.removeprefix("-")]
    columns: list[ColumnElement[Any]] = [users.c[key] for key in keys]
    if asked & {"like", "glob"} and keys != ["id"]:
        # SQLite looks at all users anyway, and in the order of an index that takes it ten times as
        # long as in the one in which they are stored. An expression has no index.
        columns[0] = columns[0].concat("")
    page = matching(select(*COLUMNS), asked, keys[0]).order_by(*in_order(columns, order_by))
    page = page.limit(SIZE)
    if "after" in asked:
        page = page.where(beyond(columns, order_by))
    if "skipped" not in asked:
        return page
    found = page.offset(bindparam("skipped", type_=BigInteger)).cte("page")
    goes_on = select(func.count()).select_from(found).scalar_subquery() == SIZE
    total = case((goes_on, count_statement(asked).scalar_subquery()))
    ordered = in_order([found.c[key] for key in keys], order_by)
    return select(found, total.label("total")).order_by(*ordered)


@cache
def count_statement(asked: frozenset[str]) -> Select[Any]:
    """Return the SELECT of the total alone, which is COUNTED + 1 if there are more."""
    one = matching(select(literal_column("1")).select_from(users), asked, "id")
    if asked & {"upper", "like", "glob"}:
        # Whoever matches is found once.
        return select(func.count()).select_from(one.limit(COUNTED + 1).subquery())
    # To skip rows of an index takes half the time of counting them.
    more = one.order_by(users.c.id).limit(1).offset(COUNTED).exists()
    count = matching(select(func.count()).select_from(users), asked).scalar_subquery()
    return select(case((more, COUNTED + 1), else_=count))


def matching(statement: Select[Any], asked: frozenset[str], key: str = "") -> Select[Any]:
    """Return `statement` for only those users that are asked for; in the order of `key`, if any.

    SQLite is told which index to walk, or none. It would believe the statistics of an ANALYZE from
    when there was one user, and look at all of them.
    """
    conditions = {name: CONDITIONS[name] for name in CONDITIONS if name in asked}
    walk = ""
    if asked & {"like", "glob"} or (key == "id" and not conditions):
        walk = "NOT INDEXED"  # as they are stored
    elif key and "inactive" in asked:
        walk = f"INDEXED BY ix_user_inactive_{key}"
    elif key == "id" and "active" in asked:
        walk = "INDEXED BY ix_user_active_id"
    elif "active" in asked:
        conditions["active"] = users.c.is_active != false()  # for which it has no index of its own
    return statement.where(*conditions.values()).with_hint(users, walk, "sqlite")


def in_order(columns: list[ColumnElement[Any]], order_by: str) -> list[ColumnElement[Any]]:
    """Return what to order by: the columns, all of them downwards if `order_by` begins with -."""
    return [column.desc() for column in columns] if order_by.startswith("-") else columns


def beyond(columns: list[ColumnElement[Any]], order_by: str) -> ColumnElement[bool]:
    """Return the condition that a user comes after the one with the id :after."""
    keys = KEYS[order_by.removeprefix("-")]
    if keys == ["id"]:
        return columns[0] < AFTER if order_by.startswith("-") else columns[0] > AFTER
    last = users.alias("last")
    there = select(*(last.c[key] for key in keys)).where(last.c.id == AFTER).scalar_subquery()
    here = tuple_(*columns)
    return here < there if order_by.startswith("-") else here > there
