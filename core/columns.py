"""Columns hold on SQLite what they hold on PostgreSQL, and what is stored comes back as it was.

SQLite stores anything in any column. A value that would come back as another one is refused, by an
error that is answered with a 422; one that other code has stored, and that cannot be read, is None.
"""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from math import isfinite
from typing import Annotated, Any

from sqlalchemy import (
    DECIMAL,
    JSON,
    NUMERIC,
    TIMESTAMP,
    BigInteger,
    Column,
    Date,
    DateTime,
    Dialect,
    Engine,
    Enum,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    Table,
    Time,
    Uuid,
    event,
)
from sqlalchemy.orm import mapped_column
from sqlalchemy.types import TypeEngine

log = logging.getLogger(__name__)

# The primary key of a table, `id: Mapped[Id]`: 64 bits, because on PostgreSQL each refused row uses
# up an id. SQLite numbers the rows by itself only if the column is called INTEGER; its integers
# have 64 bits anyway.
Id = Annotated[
    int,
    mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, info={"never_again": True}
    ),
]

Process = Callable[[Any], Any] | None


@event.listens_for(Column, "after_parent_attach")
def use_ids_once(column: Column[Any], table: Table) -> None:
    """Let SQLite not give the id of the last deleted row to the next one."""
    if column.info.get("never_again"):
        table.kwargs["sqlite_autoincrement"] = True


# What has neither an order nor a text that says it: JSON, arrays, files.
NO_SCALARS = (object, dict, list, bytes)


def python_type(column: Column[Any]) -> type[Any]:
    """Return the type of the values of a column in Python; `object` if they have several."""
    try:
        return column.type.python_type
    except NotImplementedError:
        return object


def hold_values(engine: Engine) -> None:
    """Let all columns that an engine writes and reads do what the module says."""
    dialect = engine.dialect
    types = ON_SQLITE if engine.name == "sqlite" else ON_POSTGRESQL
    dialect.colspecs = dict(dialect.colspecs) | {
        kind: type(f"Own{base.__name__}", (own, base), {})
        for kind, own in types.items()
        for base in [dialect.colspecs.get(kind, kind)]
    }
    dialect.colspecs = dialect.colspecs | {
        StoredNumeric: StoredNumeric
    }  # and no other type in its place


def json_text(value: Any) -> str:
    """Return a value as JSON; raises ValueError for NaN and infinity, which JSON does not have.

    Half a character of UTF-16 stays one, and is refused by the driver.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


@cache
def say(kind: str, error: str) -> None:
    """Write to the log, once, that there is something that nobody can read."""
    log.warning("A stored value cannot be read as %s, and is read as null: %s", kind, error)


# ---- Types


class Readable(TypeEngine[Any]):
    """Reads None where there is something that its type does not allow."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Process:
        """Return what makes a value of Python of what the driver gives."""
        process = super().result_processor(dialect, coltype)
        if process is None:
            return None

        def read(value: Any) -> Any:
            try:
                return process(value)
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                say(str(self.__visit_name__), type(error).__name__)
                return None

        return read


class Finite(TypeEngine[Any]):
    """Refuses NaN, which SQLite stores as NULL, and infinity: JSON has neither."""

    def bind_processor(self, dialect: Dialect) -> Process:
        """Return what makes a value for the driver of one of Python."""
        process = super().bind_processor(dialect)

        def write(value: Any) -> Any:
            if value is not None and not Decimal(value).is_finite():
                raise OverflowError("a number has to be finite")
            return process(value) if process else value

        return write


class ExactNumeric(Numeric[Any]):
    """Reads numbers with the places of their column; SQLite stores 15 digits of any number."""

    def bind_processor(self, dialect: Dialect) -> Process:
        """Return what makes a value for the driver of one of Python, to compare or calculate."""
        return lambda value: None if value is None else float(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Process:
        """Return what makes a value of Python of what the driver gives."""
        places, exact = self.scale, self.asdecimal

        def read(value: Any) -> Any:
            if type(value) is float and places is not None and exact and isfinite(value):
                return Decimal(f"{value:.{places}f}")  # in a quarter of the time
            found = None if value is None else self.number(value)
            return float(found) if found is not None and not exact else found

        return read

    def number(self, value: Any) -> Decimal | None:
        """Return a stored number, or None if there is something else."""
        try:
            number = Decimal(f"{value:.15g}" if isinstance(value, float) else str(value))
            if self.scale is not None:
                number = number.quantize(Decimal(1).scaleb(-self.scale))
            if number.is_finite():
                return number
        except ArithmeticError:
            pass
        say("Numeric", "no number")
        return None


class StoredNumeric(ExactNumeric):
    """Rounds what is stored as PostgreSQL does, and refuses what would be another number."""

    def bind_processor(self, dialect: Dialect) -> Process:
        """Return what makes a value for the driver of one of Python, to be stored."""
        places = 0 if self.scale is None and self.precision is not None else self.scale
        digits = None if self.precision is None else self.precision - (places or 0)

        def write(value: Any) -> Any:
            if value is None:
                return None
            number = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
            if places is not None:
                number = number.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
            if digits is not None and abs(number) >= Decimal(10) ** digits:
                raise OverflowError(f"a number has more than {digits} digits before the point")
            stored = float(number)
            if self.number(stored) != number:
                raise OverflowError("a number has more digits than SQLite can store")
            return stored

        return write


def as_stored(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type of a value that is written to a column, and not compared with it."""
    numeric = type(kind) is Numeric or isinstance(kind, NUMERIC | DECIMAL)
    return kind.adapt(StoredNumeric) if numeric else kind


class UtcDateTime(Readable, DateTime):
    """A moment. The time zone of SQLite is UTC, as in its CURRENT_TIMESTAMP."""

    def bind_processor(self, dialect: Dialect) -> Process:
        """Return what makes a value for the driver of one of Python."""
        process = super().bind_processor(dialect)

        def write(value: Any) -> Any:
            if isinstance(value, datetime) and value.tzinfo:
                value = value.astimezone(UTC).replace(tzinfo=None)
            return process(value) if process else value

        return write

    def result_processor(self, dialect: Dialect, coltype: object) -> Process:
        """Return what makes a value of Python of what the driver gives."""
        process = super().result_processor(dialect, coltype)

        def read(value: Any) -> Any:
            found = process(value) if process else value
            return found.replace(tzinfo=UTC) if found and self.timezone else found

        def read_usual(value: Any) -> Any:
            try:  # in a third of the time, if it is as SQLAlchemy writes it
                return value and datetime.fromisoformat(f"{value}+00:00")
            except ValueError:
                return read(value)

        return read_usual if self.timezone else read


class WithinYears(DateTime):
    """Refuses a moment that is in the year 0 or 10000 in some time zone: nobody could read it."""

    def bind_processor(self, dialect: Dialect) -> Process:
        """Return what makes a value for the driver of one of Python."""
        process = super().bind_processor(dialect)

        def write(value: Any) -> Any:
            if isinstance(value, datetime) and value.tzinfo:
                day = timedelta(days=1)
                _ = value - day, value + day  # raises OverflowError
            return process(value) if process else value

        return write


class NamedEnum(Readable, Enum):
    """Refuses a text that is none of its names, as PostgreSQL does."""

    def bind_processor(self, dialect: Dialect) -> Process:
        """Return what makes a value for the driver of one of Python."""
        process: Process = super().bind_processor(dialect)  # type: ignore[no-untyped-call]

        def write(value: Any) -> Any:
            written = process(value) if process else value
            if written is not None and written not in self.enums:
                raise LookupError(f"not among the names of {self.name}")
            return written

        return write


class WholeJson(Readable, JSON):
    """Refuses a bare number that SQLite would store as another one: its column is numeric."""

    def bind_processor(self, dialect: Dialect) -> Process:
        """Return what makes a value for the driver of one of Python."""
        process: Process = super().bind_processor(dialect)  # type: ignore[no-untyped-call]

        def write(value: Any) -> Any:
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise OverflowError("a number has more than 64 bits")
            return process(value) if process else value

        return write


class OnlyBytes(LargeBinary):
    """Reads a text, which is no bytes for Python, as UTF-8."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Process:
        """Return what makes a value of Python of what the driver gives."""
        return lambda value: value.encode() if isinstance(value, str) else value


ON_SQLITE: dict[type[TypeEngine[Any]], type[TypeEngine[Any]]] = {
    Numeric: ExactNumeric,
    DateTime: UtcDateTime,
    TIMESTAMP: UtcDateTime,
    Enum: NamedEnum,
    LargeBinary: OnlyBytes,
    Float: Finite,
    JSON: WholeJson,
} | dict.fromkeys((Date, Time, Uuid), Readable)
ON_POSTGRESQL: dict[type[TypeEngine[Any]], type[TypeEngine[Any]]] = {
    Numeric: Finite,
    DateTime: WithinYears,
    Enum: Readable,
    Float: Finite,
}
