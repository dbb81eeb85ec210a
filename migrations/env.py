"""What `alembic` runs: migrations of the database that the app uses."""

import sys
from typing import Any

from alembic import context
from sqlalchemy.exc import OperationalError

import models  # noqa: F401, its tables enter themselves in Base.metadata
from database import Base, engine, explain, lock_schema


def ours(thing: Any, name: str | None, kind: str, reflected: bool, compared: Any) -> bool:
    """Leave tables alone that only the database knows: they belong to somebody else."""
    return not (kind == "table" and reflected and compared is None)


try:
    with engine.connect() as connection:
        if engine.name == "sqlite":
            # SQLite changes a table by copying it to a new one and dropping the old one, and that
            # must not delete what refers to it. Afterwards all is as it was.
            connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        lock_schema(connection)
        # All migrations in one transaction: whatever goes wrong, the database stays as it was.
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=engine.name == "sqlite",
            transactional_ddl=True,
            include_object=ours,
        )
        context.run_migrations()
        connection.commit()
except OperationalError as error:
    sys.exit(explain(error, engine))
finally:
    engine.dispose()
