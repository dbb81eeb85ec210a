"""The database: its engine, its sessions and its tables. core/ makes them work under load."""

import sys
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy import Engine, MetaData
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from core import tables
from core.engines import explain, new_engine
from core.sessions import in_turn
from core.settings import Settings, load

settings = load(Settings)
# create_engine(), with limits: core/engines.py.
engine = new_engine(settings.database_url, debug=settings.debug, replica=settings.read_database_url)
# expire_on_commit stays on: after a commit, what you read is what the database holds.
SessionLocal = sessionmaker(autocommit=False, autoflush=False, bind=engine)


class Base(DeclarativeBase):
    """What every table in models.py derives from."""

    metadata = MetaData(naming_convention=tables.NAMES)


def create_tables(bind: Engine) -> None:
    """Create the tables in a new database, and look at those of an old one; once per engine.

    Raises SQLAlchemyError if the database cannot be used, or needs a migration.
    """
    import models  # not above: it needs this file

    tables.create_once(bind, Base.metadata, models)


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
    tables.start_anew(bind)
    try:
        create_tables(bind)
    except SQLAlchemyError as error:
        sys.exit(explain(error, bind))
