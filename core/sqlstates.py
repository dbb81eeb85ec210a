"""Errors of PostgreSQL by their code: psycopg has classes for them, and SQLite has no use for it.

To import psycopg takes 50 ms of a start, and 9 MB. The codes are those of
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

FEATURE_NOT_SUPPORTED = "0A000"
DIVISION_BY_ZERO = "22012"
UNTRANSLATABLE_CHARACTER = "22P05"
FOREIGN_KEY_VIOLATION = "23503"
UNIQUE_VIOLATION = "23505"
CHECK_VIOLATION = "23514"
READ_ONLY_SQL_TRANSACTION = "25006"
LOCK_NOT_AVAILABLE = "55P03"


def sqlstate(error: object) -> str | None:
    """Return the code of an error of PostgreSQL; None if it has none, or is no such error."""
    code: str | None = getattr(error, "sqlstate", None)
    return code
