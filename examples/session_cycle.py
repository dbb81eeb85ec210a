"""The whole life of a session, step by step: `python -m examples.session_cycle`.

Engine, tables, session, query, results, close. A database that cannot be reached is one clear line
and exit code 1; the session is closed either way.
"""

import sys

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from core.engines import name_of
from database import SessionLocal, engine, init_db
from models import User


def main() -> None:
    """Go through the life of a session; exit with 1 if the database cannot be used."""
    print(f"1. Engine: {name_of(engine)}")
    db = SessionLocal()  # an object and no more, until it is used
    try:
        init_db()  # exits with a line of its own if the database is away
        print("2. Tables: there")
        db.connection()
        print("3. Session: open, with a connection from the pool")
        users = db.scalars(select(User).order_by(User.id))
        print("4. Query: sent")
        print("5. Results:")
        found = 0
        for user in users:
            print(f"   {user.id}: {user.name} <{user.email}>")
            found += 1
        print(f"   {found} in all")
    except SQLAlchemyError as error:
        sys.exit(f"Database error: {getattr(error, 'orig', error)}")
    finally:
        db.close()
        print("6. Session: closed")


if __name__ == "__main__":
    main()
