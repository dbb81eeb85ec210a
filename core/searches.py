"""How a text is found in others: in any case, in any language of the database, by its index."""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import Column, ColumnElement, Connection, Engine, String, bindparam, func, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from core.fts import common_groups, has_fts_index, trigrams
from core.letters import cases
from core.sqlstates import UNTRANSLATABLE_CHARACTER, sqlstate

log = logging.getLogger(__name__)

# How texts are compared on PostgreSQL, by the name of a parameter: with the capitals that this
# collation knows. The database's own, if it is of use: C knows A to Z only, and Turkish has another
# capital of i. Otherwise one that comes with each server since 17, or with ICU.
COLLATIONS = {
    "upper": "default",
    "upper_builtin": "pg_c_utf8",
    "upper_icu": "und-x-icu",
    "upper_ascii": "C",
}
# And on SQLite: if it is in ASCII, and if not.
SEARCHES = frozenset({"like", "glob", *COLLATIONS})


def parameters(wanted: str, kind: str) -> dict[str, str]:
    """Return what is asked for, as parameters of a statement that searches by `kind`."""
    if kind == "glob":
        return {kind: "*" + "".join(map(either_case, wanted)) + "*"}
    like = pattern(wanted)
    if kind in COLLATIONS and (hazy := without_sigma(like)) != like:
        return {kind: hazy, "whole": like}
    return {kind: like}


def pattern(wanted: str) -> str:
    """Return what LIKE finds wherever it stands; % and _ are plain characters."""
    plain = re.sub("([/%_])", r"/\1", wanted)
    return f"%{plain}%"


def without_sigma(pattern: str) -> str:
    """Return a pattern of LIKE with any character for a sigma, unless a letter follows it.

    Only then it is the usual one for sure, and not that of the end of a word.
    """
    found = ""
    for each in reversed(pattern):
        at_end = found[:1].upper() == found[:1].lower()
        found = ("_" if each in "Σσς" and at_end else each) + found
    return found


def contains(column: Column[Any], kind: str, whole: bool) -> ColumnElement[bool]:
    """Return the condition that the text that is asked for stands in a column."""
    wanted = bindparam(kind, type_=String)
    if kind == "like":
        # On SQLite, which looks at each row: 0.1 s for a million of them, and nobody else has to
        # wait meanwhile, because no Python is called. LIKE finds A for a, but not É for é.
        return column.like(wanted, escape="/")
    if kind == "glob":
        # With GLOB, we can ask for [éÉ], one of the two letters; it takes four times as long.
        return column.bool_op("GLOB")(wanted)

    # On PostgreSQL, which has an index on this. upper() and not lower(), because the Greek letter
    # sigma has two small forms and one capital.
    def capitals(of: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.upper(of.collate(COLLATIONS[kind]))

    found = capitals(column).like(capitals(wanted), escape="/")
    if not whole:
        return found
    # The index has each word in small letters, where a sigma at the end is another one; and what is
    # asked for may begin and end within a word. So the index gets less of it, and the rows that it
    # finds are looked through for the whole: || '' is on no index.
    rest = capitals(column).concat("").like(capitals(bindparam("whole")), escape="/")
    return found & rest


def either_case(letter: str) -> str:
    """Return what stands in a GLOB for a letter in any case, or for another character."""
    return f"[{letters}]" if (letters := cases().get(letter.upper())) else letter


def unknown_letter(error: DBAPIError) -> str | None:
    """Return the letter that the encoding of a database lacks, if that is the error; so has LATIN1.

    Nothing has been sent then; or the server says so, if it was told ?client_encoding=utf8.
    """
    original = error.orig
    if sqlstate(original) == UNTRANSLATABLE_CHARACTER:
        found = re.search(r"byte sequence ((?:0x\w\w ?)+) in", str(original))
        return bytes.fromhex(found[1].replace("0x", "")).decode() if found else None
    if isinstance(original, UnicodeEncodeError) and original.encoding != "utf-8":
        return original.object[original.start]
    return None  # or half a character, which no encoding has


# ---- Which kind it is


# Whether the database knows the capitals of é, or of what has its number, and of i, and has the
# same ones in each word (in Greek, eta with an accent has two); which of the collations are there;
# and of which one the index is. The letters are asked for by numbers, because there are encodings
# without them; some of these have no such numbers.
LETTER = """(SELECT chr(CASE
    WHEN getdatabaseencoding() = 'UTF8'
    OR pg_encoding_max_length(pg_char_to_encoding(getdatabaseencoding())) = 1
    THEN 233 ELSE 97 END) AS letter,
    chr(CASE getdatabaseencoding() WHEN 'UTF8' THEN 945 ELSE 97 END)
    || chr(CASE getdatabaseencoding() WHEN 'UTF8' THEN 942 ELSE 97 END) AS word) AS asked"""
LANGUAGE = text(f"""
    SELECT
        upper(letter) <> lower(letter) AND upper('i') = 'I'
            AND upper(word) = upper(left(word, 1)) || upper(right(word, 1)) AS has_capitals,
        ARRAY(
            SELECT collname::text FROM pg_collation
            WHERE collnamespace = 'pg_catalog'::regnamespace
            AND collencoding IN (-1, pg_char_to_encoding(getdatabaseencoding()))
        ) AS collations,
        pg_get_indexdef(to_regclass(:index)) AS definition
    FROM {LETTER}
""")  # noqa: S608


class Language(NamedTuple):
    """How a table of PostgreSQL is searched."""

    kind: str  # a key of COLLATIONS
    made: str  # the CREATE INDEX of the index of its searches; empty, if there is none

    def misses_index(self) -> bool:
        """Tell whether there is an index, and no search uses it."""
        in_collation = rf'COLLATE "?{COLLATIONS[self.kind]}\b'
        fits = self.kind == "upper" or re.search(in_collation, self.made)
        return bool(self.made) and not ("upper(" in self.made and fits)


def language_of(connection: Connection, table: str) -> Language:
    """Return how a table is searched: as its index says, which another server may have made."""
    found = connection.execute(LANGUAGE, {"index": f'"ix_{table}_search"'}).one()
    made = found.definition or ""
    index = made if "gin_trgm_ops" in made else ""  # or somebody else's
    for kind, collation in COLLATIONS.items():
        if re.search(rf'COLLATE "?{collation}\b', index):
            return Language(kind, index)
    if found.has_capitals:
        return Language("upper", index)
    usable = {"upper_builtin", "upper_icu"} & {
        kind for kind, collation in COLLATIONS.items() if collation in found.collations
    }
    return Language(min(usable, default="upper_ascii"), index)


kinds = WeakKeyDictionary[Engine, dict[str, str]]()
# The groups of letters that are common in a table with an index of FTS5; None: it has no index.
common = WeakKeyDictionary[Engine, dict[str, frozenset[str] | None]]()


def trigrams_for(db: Session, table: str, wanted: str) -> str | None:
    """Return what to ask the index of a table of SQLite for; None, if it has none, or of no use."""
    bind = db.get_bind()
    if bind.dialect.name != "sqlite":
        return None
    known = common.setdefault(bind.engine, {})
    if table not in known:
        connection = db.connection()
        is_there = has_fts_index(connection, table)
        known[table] = common_groups(connection, table) if is_there else None
    groups = known[table]
    return None if groups is None else trigrams(wanted, groups)


def kind_of_search(db: Session, table: str, wanted: str) -> str:
    """Return how a text is searched for in a table, as one of SEARCHES."""
    bind = db.get_bind()
    if bind.dialect.name == "sqlite":
        return "like" if wanted.isascii() else "glob"
    known = kinds.setdefault(bind.engine, {})
    if table not in known:
        known[table] = language_of(db.connection(), table).kind
    return known[table]


# ---- Its index


def create_search_index(connection: Connection, table: str, *columns: str) -> None:
    """Index the groups of three letters in the texts of these columns, where that is possible.

    That is PostgreSQL with the extension pg_trgm, which comes with it, and which the owner of a
    database may install. The index is called ix_..._search.
    """
    if connection.dialect.name != "postgresql":
        return
    reason = "it is in no schema of the search_path"
    try:
        with connection.begin_nested():
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
    except DBAPIError as error:
        reason = str(error.orig).splitlines()[0]
    there = "SELECT 1 FROM pg_opclass WHERE opcname = 'gin_trgm_ops' AND pg_opclass_is_visible(oid)"
    if not connection.scalar(text(there)):
        log.warning("Searches will look at every row, without pg_trgm: %s", reason)
        return
    connection.execute(text(search_index(table, columns, language_of(connection, table).kind)))
    if not language_of(connection, table).made:
        log.warning("Searches will look at every row: ix_%s_search is another index", table)


def search_index(table: str, columns: Sequence[str], kind: str = "upper") -> str:
    """Return the CREATE INDEX of it."""
    collation = "" if kind == "upper" else f' COLLATE "{COLLATIONS[kind]}"'
    indexed = ", ".join(f'upper("{each}"{collation}) gin_trgm_ops' for each in columns)
    return f'CREATE INDEX IF NOT EXISTS "ix_{table}_search" ON "{table}" USING gin ({indexed})'


def say_what_searches_miss(connection: Connection, tables: Mapping[str, Sequence[str]]) -> None:
    """Write to the log if the language of a database leaves its searches without É for é.

    Or without an index: a backup may come from a database of another language. `tables` are those
    that are searched, with the columns.
    """
    if connection.dialect.name != "postgresql" or not tables:
        return
    languages = {table: language_of(connection, table) for table in tables}
    for table, language in languages.items():
        if language.misses_index():
            log.warning(
                "Searches look at every row, for their index is of another language. Run this: "
                "DROP INDEX ix_%s_search; %s",
                table,
                search_index(table, tables[table], language.kind),
            )
    if any(language.kind == "upper_ascii" for language in languages.values()):
        log.warning(
            "Searches find letters beyond A to Z only as they are written: the language of this "
            "database does not know their capitals. docs/production.md names one that does"
        )
    has_index = connection.scalar(text("SELECT to_regproc('show_trgm') IS NOT NULL"))
    if has_index and connection.scalar(text(f"SELECT show_trgm(letter) = '{{}}' FROM {LETTER}")):  # noqa: S608
        log.warning(
            "Searches for letters beyond A to Z look at every row: the language of this database "
            "does not know that they are letters. docs/production.md names one that does"
        )
