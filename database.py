"""The database: its engine, its sessions and its tables. core/ makes them work under load."""

import sys
from collections.abc import Iterator
from threading import Lock
from typing import Annotated

from fastapi import Depends
from sqlalchemy import Engine, MetaData
from sqlalchemy.exc import SQLAlchemyError, TimeoutError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from core import tables
from core.engines import explain, new_engine
from core.sessions import in_turn
from core.settings import settings
from core.sqlite import forget_file

# create_engine(), with limits: core/engines.py.
engine = new_engine(settings.database_url)
# expire_on_commit stays on: after a commit, what you read is what the database holds.
SessionLocal = sessionmaker(autocommit=False, autoflush=False, bind=engine)


class Base(DeclarativeBase):
    """What every table in models.py derives from."""

    # Constraints get names by these rules, so that migrations and error messages can name them.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


prepared: set[Engine] = set()  # those whose tables are there
preparing = Lock()


def create_tables(bind: Engine) -> None:
    """Create the tables in a new database, and look at those of an old one; once per engine.

    Raises SQLAlchemyError if the database cannot be used, or needs a migration.
    """
    import models  # not above: it needs this file

    if bind in prepared:
        return
    if not preparing.acquire(timeout=2):  # a migration may be running: no request waits for that
        raise TimeoutError("the tables are not there yet")
    try:
        if bind not in prepared:  # nobody has done so meanwhile
            with bind.begin() as connection:
                tables.create(connection, Base.metadata, models)
            prepared.add(bind)
    finally:
        preparing.release()


def start_anew(bind: Engine) -> None:
    """Look at the tables once more, and take the file of SQLite that is there now for the one."""
    prepared.discard(bind)
    forget_file(bind.url)


# FastAPI hands out no more sessions at once than the engine has connections; the others wait.
@in_turn(engine, create_tables)
def get_db() -> Iterator[Session]:
    """Yield a session and close it in the end, whatever happened in between."""
    db = SessionLocal()
    try:
        yield db
    finally:
        db.close()


# scope="function": the session ends before the answer is sent. An error at its end is not
# answered with 200, and a client that reads slowly does not keep a connection.
SessionDep = Annotated[Session, Depends(get_db, scope="function")]


def init_db(bind: Engine = engine) -> None:
    """Create the tables in a new database; exit with one line if it cannot be used."""
    start_anew(bind)
    try:
        create_tables(bind)
    except SQLAlchemyError as error:
        sys.exit(explain(error, bind))
