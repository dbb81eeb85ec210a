"""Texts in which only A to Z have small letters: a rule that means the same everywhere.

What lower() makes of other letters depends on the language of a database, on its version, and on
the program that asks; in Turkish, that is so even for I.
"""

from functools import cache
from string import ascii_lowercase, ascii_uppercase
from typing import Any

from sqlalchemy import ColumnClause, column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.types import Boolean

SMALL = str.maketrans(ascii_uppercase, ascii_lowercase)


def in_small_letters(text: str) -> str:
    """Return a text with a to z for A to Z, and nothing else changed."""
    return text.translate(SMALL)


@cache
def cases() -> dict[str, str]:
    """Return for each capital letter itself and its small ones; for a sigma, these are two."""
    same = dict(zip("*?[", "*?[", strict=True))  # plain characters, in brackets
    for letter in map(chr, range(0x20000)):  # there are no letters with capitals beyond
        if letter.upper() != letter and len(letter.upper()) == 1:
            same[letter.upper()] = same.get(letter.upper(), letter.upper()) + letter
    return same


class HasNoCapitals(ColumnElement[bool]):
    """The condition that a text has none of the letters A to Z, for a CheckConstraint."""

    inherit_cache = True
    type = Boolean()

    def __init__(self, name: str) -> None:
        self.column: ColumnClause[Any] = column(name)


@compiles(HasNoCapitals)
def with_lower(condition: HasNoCapitals, compiler: SQLCompiler, **options: Any) -> str:
    """Return it for PostgreSQL, where a collation says of which letters there are small ones."""
    name = compiler.process(condition.column, **options)
    return f'({name} COLLATE "C") = lower({name} COLLATE "C")'


@compiles(HasNoCapitals, "sqlite")
def with_glob(condition: HasNoCapitals, compiler: SQLCompiler, **options: Any) -> str:
    """Return it for SQLite, whose LIKE and lower() can be changed, whose GLOB not."""
    return f"{compiler.process(condition.column, **options)} NOT GLOB '*[A-Z]*'"
