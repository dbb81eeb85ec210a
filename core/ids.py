"""Ids of PostgreSQL that somebody else has chosen, like an import by `COPY`."""

import re
from typing import Any, Protocol, TypeGuard

from sqlalchemy import Connection, exc, text

from core.sqlstates import UNIQUE_VIOLATION, sqlstate


class HasDiagnostics(Protocol):
    """An error of psycopg."""

    diag: Any


class IdsBehindError(exc.OperationalError):
    """A new row has got an id that a row has already; from now on, ids go on after the highest."""


def is_of_primary_key(error: BaseException | None) -> TypeGuard[HasDiagnostics]:
    """Tell whether a row has an id that another one has, if the key is called as usual.

    That is `pk_user`, as here, or `user_pkey`, as PostgreSQL calls it.
    """
    diagnostics: Any = getattr(error, "diag", None)
    unique = sqlstate(error) == UNIQUE_VIOLATION and diagnostics
    return bool(unique and re.search("^pk_|_pkey$", diagnostics.constraint_name or ""))


NUMBERED = text("""
    SELECT conrelid::regclass::text AS "table", quote_ident(attname) AS "column",
        pg_get_serial_sequence(conrelid::regclass::text, attname) AS "sequence"
    FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
    WHERE contype = 'p' AND cardinality(conkey) = 1 AND conname = :constraint
        AND conrelid = to_regclass(format('%I.%I', CAST(:schema AS text), CAST(:table AS text)))
""")


def sequence_behind(connection: Connection, error: HasDiagnostics) -> str | None:
    """Set a sequence to the highest id if it was behind that; say so, or return None if not."""
    where = error.diag
    names = {
        "constraint": where.constraint_name,
        "schema": where.schema_name,
        "table": where.table_name,
    }
    found = connection.execute(NUMBERED, names).first()
    if found is None or found.sequence is None:
        return None
    highest = f"(SELECT max({found.column}) FROM {found.table})"  # noqa: S608
    mend = f"SELECT setval('{found.sequence}', {highest})"
    behind = f"FROM {found.sequence} WHERE last_value < {highest}"
    try:
        number = connection.scalar(text(f"{mend} {behind}"))
    except exc.ProgrammingError:  # a role that may not look, or may not do so
        return f"if the ids of {found.table} are behind those that are there, {mend} mends that"
    if number is None:
        return None
    return f"the ids of {found.table} were behind, and go on after {number} now: try again"
