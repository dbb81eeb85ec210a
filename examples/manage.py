"""The users from the command line, with Typer: `python -m examples.manage --help`.

    python -m examples.manage init-db
    python -m examples.manage create-user "Ada Lovelace" ada@example.com
    python -m examples.manage list-users
    python -m examples.manage fake-users 100000

A session in a `with` block is the `get_db` of a script: closed in the end, rolled back on errors.
"""

import sys
from typing import Annotated

import typer
from pydantic import ValidationError
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

import database
from core.errors import conflict_in
from core.letters import in_small_letters
from models import User
from schemas import UserBody

CHUNK = 1000

cli = typer.Typer(help="Manage the users.", no_args_is_help=True)


@cli.callback()
def start() -> None:
    """Manage the users; the tables are created if they are not there."""
    database.init_db()


@cli.command()
def init_db() -> None:
    """Create the tables that do not exist yet."""
    print("The tables are there.")


@cli.command()
def create_user(name: str, email: str) -> None:
    """Create a user."""
    try:
        body = UserBody(name=name, email=email)
    except ValidationError as error:
        sys.exit("\n".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors()))
    with database.SessionLocal.begin() as db:
        user = User(**body.model_dump())
        db.add(user)
        db.flush()
        created = f"{user.id}: {user.name} <{user.email}>"
    print(created)


@cli.command()
def make_admin(
    email: str,
    password: Annotated[str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True)],
) -> None:
    """Give a user a password and every right in examples/login.py."""
    from examples.login import set_password  # not above: it asks for a SECRET_KEY

    database.init_db()  # once more, for the tables of that example
    if len(password) < 12:
        sys.exit("password: 12 characters or more")
    with database.SessionLocal() as db:
        user_id = db.scalar(select(User.id).where(User.email == in_small_letters(email)))
        if user_id is None:
            sys.exit("No such user: create-user makes one")
        set_password(db, user_id, password, is_admin=True)
    print(f"{email} is an admin.")


@cli.command()
def list_users() -> None:
    """Print a line per user."""
    with database.SessionLocal() as db:
        # yield_per: a thousand at a time, however many there are.
        for user in db.scalars(select(User).order_by(User.id).execution_options(yield_per=CHUNK)):
            print(f"{user.id}: {user.name} <{user.email}>")


@cli.command()
def fake_users(number: Annotated[int, typer.Argument(min=1)]) -> None:
    """Create many users, all or none."""
    with database.SessionLocal.begin() as db:
        first = (db.scalar(select(func.max(User.id))) or 0) + 1
        numbers = range(first, first + number)
        with typer.progressbar(length=number, label="Creating users") as progress:
            for start in range(0, number, CHUNK):
                rows = [
                    {"name": f"User {n}", "email": f"user{n}@example.com"}
                    for n in numbers[start : start + CHUNK]
                ]
                db.execute(insert(User), rows)
                progress.update(len(rows))
    print(f"{number} users created.")


if __name__ == "__main__":
    try:
        cli()
    except SQLAlchemyError as error:
        said = (
            conflict_in(error, database.Base.metadata)
            if isinstance(error, IntegrityError)
            else None
        )
        sys.exit(said or f"Database error: {getattr(error, 'orig', error)}")
