"""The users from the command line, with Typer: `python -m examples.manage --help`.

    python -m examples.manage init-db
    python -m examples.manage create-user "Ada Lovelace" ada@example.com
    python -m examples.manage list-users
    python -m examples.manage fake-users 100000
    python -m examples.manage import people.csv
    python -m examples.manage export people.csv

A session in a `with` block is the `get_db` of a script: closed in the end, rolled back on errors.
"""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field, ValidationError
from pydantic_core import to_json
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

import database
from core.cells import csv_lines
from core.errors import conflict_in
from core.imports import Counts, Existing, ExistsError, Importer, RefusedError
from core.letters import in_small_letters
from core.records import Record, open_records
from examples import exports
from models import User
from schemas import UserBody, UserId, UserRead

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


@cli.command("import")
def import_users(
    file: Annotated[str, typer.Argument(help="CSV, JSON or JSON Lines; - for the standard input")],
    name: Annotated[str, typer.Option(help="Its column, or two: 'First name + Last name'")] = "",
    email: Annotated[str, typer.Option(help="Its column")] = "",
    encoding: Annotated[str, typer.Option(help="If it is not found out: utf-8, cp1252...")] = "",
    existing: Annotated[
        Existing, typer.Option(help="What becomes of a user with an email that is there")
    ] = Existing.skip,
    all_or_none: Annotated[
        bool, typer.Option("--all-or-none", help="Create nobody if one row does not fit")
    ] = False,
    with_ids: Annotated[
        bool, typer.Option("--with-ids", help="Let them have the ids of the file, for a new table")
    ] = False,
    rejected: Annotated[
        Path | None, typer.Option(help="A new file for the rows that do not fit, and why")
    ] = None,
) -> None:
    """Create the users who are in a file of another program; those who are there already stay.

    Whatever happens, it can be run once more. Ends with 1 if there were rows that do not fit.
    """
    left_out, counts = 0, Counts()
    try:
        with ExitStack() as stack:
            records = stack.enter_context(open_records(file, encoding))
            known = dict.fromkeys(records.columns)
            find = partial(exports.columns_of, name=name, email=email, with_ids=with_ids)
            columns = find(list(known))
            print(f"{file}: {records.kind}; {columns}", flush=True)
            written = rejected and stack.enter_context(rejected.open("x", encoding="utf-8-sig"))

            def reject(record: Record, reason: str) -> None:
                if written and written.tell() == 0:
                    written.write(records.header)
                if written:
                    written.write(records.with_reason(record, reason))

            def users() -> Iterator[tuple[Record, dict[str, Any]]]:
                nonlocal left_out, columns
                for record in records.rows:
                    if not record.values.keys() <= known.keys():  # in JSON, a field may come late
                        known.update(record.values)
                        columns = find(list(known))
                    values = {} if record.problem else exports.values_of(record.values, columns)
                    if values is None:
                        left_out += 1
                    else:
                        yield record, values

            bar = stack.enter_context(progress())
            task = bar.add_task("", total=1.0, rows="")
            run = Importer(User, UserWithId if with_ids else UserBody, "email").run(
                database.engine,
                users(),
                existing=existing,
                all_or_none=all_or_none,
                reject=reject,
            )
            started = time.monotonic()
            for counts in run:
                rate = counts.total / (time.monotonic() - started)
                bar.update(task, completed=records.position(), rows=f"{rate:,.0f} per second")
    except RefusedError as error:
        sys.exit(f"Nothing has changed: {error} rows do not fit")
    except (OSError, ExistsError, ValueError) as error:
        why = f"{file}: {error}"
        match error:
            case ExistsError():
                why = f"Stopped at {error}, which is there already"
            case UnicodeEncodeError():
                why = f"The encoding of this database has no {error.object[error.start]}"
            case OSError(filename=str(name), strerror=str(reason)):
                why = f"{name}: {reason}"
        is_there = counts.created + counts.updated > 0 and not all_or_none
        before = f"; before that, {counts.created} created, {counts.updated} updated"
        sys.exit(why + (before if is_there else ""))
    print(
        f"{counts.created} created, {counts.updated} updated, {counts.there} there already, "
        f"{counts.twice} twice in the file, {left_out} left out without an email, "
        f"{counts.rejected} rejected"
    )
    if counts.rejected:
        sys.exit(1 if rejected else "--rejected FILE writes down which they are, and why")


class UserWithId(UserBody):
    """A user who keeps the id of another database."""

    id: Annotated[UserId, Field(lt=2**62)]  # or there are none left for those who come later


@cli.command("export")
def export_users(
    file: Annotated[Path, typer.Argument(help="A CSV; or JSON Lines, if it is called .json...")],
) -> None:
    """Write all users to a file, which `import` can read; one that is there is replaced."""
    target = file.resolve()
    if target.exists() and not target.is_file():
        sys.exit(f"{file}: that is no file")
    part = target.with_name(f"{target.name}.part")  # nobody finds half of it under its name
    try:
        number = write_users(part, as_json=file.suffix.lower().startswith(".json"))
        if target.exists():
            shutil.copymode(target, part)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        sys.exit(f"{file}: {error.strerror}")
    print(f"{number} users in {file}")


def write_users(file: Path, *, as_json: bool) -> int:
    """Write all users to a file, a thousand at a time; return how many there are."""
    columns = list(UserRead.model_fields)
    query = select(*(User.__table__.c[name] for name in columns)).order_by(User.id)
    number = 0
    encoding = "utf-8" if as_json else "utf-8-sig"  # the mark tells Excel
    with database.SessionLocal() as db, file.open("w", encoding=encoding) as written:
        if not as_json:
            written.write(csv_lines([columns]))
        for rows in db.execute(query.execution_options(yield_per=CHUNK)).partitions():
            lines = (to_json(row._asdict()).decode() + "\n" for row in rows)
            written.write("".join(lines) if as_json else csv_lines(rows))
            number += len(rows)
    return number


def progress() -> Progress:
    """Return a bar on a terminal, and nothing elsewhere."""
    console = Console(stderr=True)
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]}"))
    return Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )


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
