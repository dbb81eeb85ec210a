"""The records of a file, one after the other: CSV, JSON or JSON Lines, in whatever encoding.

However large the file is, only a piece of it is in memory.
"""

import codecs
import csv
import re
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from io import TextIOWrapper
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import chardet
import ijson  # type: ignore[import-untyped]
from pydantic_core import from_json, to_json

from core.cells import csv_lines, plain

LONGEST = 2**20  # characters of a line, or of a record; what is longer is a mistake
SAMPLE = 2**16  # bytes that tell an encoding
LOOKED_AT = 100  # records whose names are the columns
LINES = 1000  # of a record; a quote that is never closed would make one of all that follow
COLUMNS = 10_000
# What Western Europe writes, in the encoding that Excel has for it. Of a few names in it, chardet
# makes Polish, Greek or Hebrew ones: Peńa of Peña.
WESTERN = set("àáâãäåæçèéêëíîïñòóôöùúûüßœÀÁÂÃÄÅÆÇÈÉÊËÍÎÏÑÒÓÔÖÙÚÛÜŒ\u2019\u201c\u201d«»\u2013€°")


class FileError(ValueError):
    """A file that cannot be read as a table; the text says why."""


class TooLongError(ValueError):
    """A row that is a mistake; the text says why."""


class Record(NamedTuple):
    """A row of a file."""

    line: int  # where it begins; of a list in JSON, which one it is; from 1 on
    text: str  # as it stands in the file
    values: Mapping[str, Any]  # by the names of columns
    problem: str = ""  # why there are none


class Records(NamedTuple):
    """What is in a file."""

    kind: str  # how it is read, in words
    columns: list[str]
    rows: Iterator[Record]
    position: Callable[[], float]  # which part of the file has been read, from 0 to 1
    with_reason: Callable[[Record, str], str]  # a row as it was, its line, and why it is refused
    header: str  # what stands above such rows


@contextmanager
def open_records(path: str, encoding: str = "") -> Iterator[Records]:
    """Open a file, `-` for the standard input; raises FileError if it is no table, or OSError."""
    with ExitStack() as stack:
        given = sys.stdin.buffer if path == "-" else stack.enter_context(Path(path).open("rb"))
        file: BinaryIO = given
        if not given.seekable() or path == "-":
            file = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(given, file)
        size = file.seek(0, 2)
        encoding = encoding or encoding_of(file)
        file.seek(0)
        try:
            text = TextIOWrapper(file, encoding, newline="")
        except LookupError:
            raise FileError(f"there is no encoding {encoding}") from None
        try:
            kind, columns, rows, with_reason, header = table_in(text)
            kind += f", {encoding.removesuffix('-sig')}"
            position = lambda: file.tell() / size  # noqa: E731
            yield Records(kind, columns, rows, position, with_reason, header)
        except UnicodeDecodeError as error:
            raise FileError(f"it is not all {encoding}, say in which encoding: {error}") from None
        if file.seek(0, 2) != size:
            raise FileError("somebody has written to it meanwhile: import it once more")
        text.detach()


def encoding_of(file: BinaryIO) -> str:
    """Return the encoding of a file, as Python calls it. What is UTF-8 is so by no chance."""
    file.seek(0)
    telling = bytearray(file.read(SAMPLE // 8))
    if telling.startswith(b"PK\3\4"):
        raise FileError("it is no text: a spreadsheet is to be saved as CSV")
    if b"\0" not in telling:
        file.seek(0)
        if is_utf_8(file):
            return "utf-8-sig"
        file.seek(SAMPLE // 8)
        while len(telling) < SAMPLE and (line := file.readline(SAMPLE)):
            telling += b"" if line.isascii() else line
        if is_western(telling):
            return "cp1252"
    found = chardet.detect(bytes(telling))["encoding"]
    if found is None:
        raise FileError("it is no text")
    return found


def is_utf_8(file: BinaryIO) -> bool:
    """Tell whether all of a file is UTF-8; raises FileError if a part of it is, and not by chance.

    That comes of two programs that have written to it. In another encoding, all of it would change.
    """
    number, beyond_ascii = 0, False
    decoder = codecs.getincrementaldecoder("utf-8")()
    while piece := file.readline(LONGEST):
        try:
            number += piece.endswith(b"\n")
            beyond_ascii |= not decoder.decode(piece).isascii()
        except UnicodeDecodeError:
            if beyond_ascii:
                line = number + (not piece.endswith(b"\n"))
                raise FileError(
                    f"it is UTF-8 up to line {line}, which is not: mend it, or say an encoding"
                ) from None
            return False
    return not decoder.getstate()[0]  # the beginning of a letter


def is_western(telling: bytes | bytearray) -> bool:
    """Tell whether a text has what Western Europe writes, and no three of these letters in a row.

    In Cyrillic, in Greek, and so on, they are.
    """
    text = telling.decode("cp1252", errors="replace")
    beyond = "".join(letter if letter > "\x7f" else " " for letter in text)
    return set(beyond) - {" "} <= WESTERN and max(map(len, beyond.split()), default=3) < 3


def table_in(
    text: TextIOWrapper,
) -> tuple[str, list[str], Iterator[Record], Callable[[Record, str], str], str]:
    """Return what Records has of a text. A cell that is an object of JSON has columns as well."""
    lines = lines_of(text)
    number, first = next(((n, line) for n, line in enumerate(lines, 1) if line.strip()), (0, ""))
    start = first.lstrip()[:1]
    if not start:
        raise FileError("it is empty")
    if start in "[{":
        whole = start == "[" or is_part_of_object(
            first, next((line for line in lines if line.strip()), "")
        )
        text.seek(0)
        rows = json_records(text) if whole else json_lines(lines_of(text))
        columns, rows = columns_of(rows)
        if not columns:
            raise FileError("there is nobody in it")
        return "JSON" if whole else "JSON Lines", columns, rows, in_json, ""
    delimiter = max(",;\t|", key=re.sub('"[^"]*"', "", first).count)
    if first.strip().lower().startswith("sep="):  # so Excel is told which it is
        delimiter, first, number = first.strip()[4:] or ",", next(lines, ""), number + 1
    if len(first) > LONGEST:
        raise FileError(f"its first line has more than {LONGEST} characters")
    names = next(csv.reader([first], delimiter=delimiter))
    if len(names) > COLUMNS:
        raise FileError(f"its first line has more than {COLUMNS} cells")
    heads = [f"{name} ({n + 1})" if name in names[:n] else name for n, name in enumerate(names)]
    kind = {"\t": "tabs", ",": "commas", ";": "semicolons"}.get(delimiter, delimiter)
    columns, rows = columns_of(csv_records(lines, heads, delimiter, number))
    columns = list(dict.fromkeys([*heads, *columns]))
    header = csv_lines([[*heads, "line", "reason"]], delimiter)
    return f"CSV with {kind}", columns, rows, partial(in_csv, delimiter), header


def lines_of(text: TextIOWrapper) -> Iterator[str]:
    """Return the lines of a text; of one that is too long, no more than tells that."""
    while line := text.readline(LONGEST + 1):
        end = line
        while len(end) > LONGEST and not end.endswith("\n"):
            end = text.readline(LONGEST + 1)
        yield line


# ---- CSV


def csv_records(
    lines: Iterator[str], columns: list[str], delimiter: str, number: int
) -> Iterator[Record]:
    """Return the rows below the line with this number."""
    taken: list[str] = []
    again = deque[str]()

    def look() -> Iterator[str]:
        while line := again.popleft() if again else next(lines, ""):
            taken.append(line)
            if len(line) > LONGEST:
                raise TooLongError(f"longer than {LONGEST} characters")
            if len(taken) > LINES:
                raise TooLongError(f"it has a quote that no other closes within {LINES} lines")
            yield line

    csv.field_size_limit(LONGEST)
    reader = csv.reader(look(), delimiter=delimiter, strict=True)
    while True:
        line = number + 1
        problem = ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, TooLongError) as error:
            # It goes on with the next line, whatever has been taken for a part of this one.
            cells, problem = [], f"{error}"
            again.extendleft(reversed(taken[1:]))
            del taken[1:]
            reader = csv.reader(look(), delimiter=delimiter, strict=True)
        number += len(taken)
        text = "".join(taken)
        taken.clear()
        if len(cells) > len(columns):
            problem = f"{len(cells)} cells, where the first line has {len(columns)}"
        elif not any(cells) and not problem:
            continue
        values = {} if problem else dict(zip(columns, map(plain, cells)))
        yield Record(line, text, values | parts_of(values) if "{" in text else values, problem)


def parts_of(values: Mapping[str, str]) -> dict[str, Any]:
    """Return what is within cells that are objects of JSON, by names like `a.b`."""
    found: dict[str, Any] = {}
    for name, cell in values.items():
        if cell.startswith("{"):
            with suppress(ValueError):
                found |= flat(from_json(cell), f"{name}.")
    return found


def in_csv(delimiter: str, record: Record, reason: str) -> str:
    """Return a row of CSV as it was, with two cells more."""
    return record.text.rstrip("\r\n") + delimiter + csv_lines([[record.line, reason]], delimiter)


# ---- JSON


def in_json(record: Record, reason: str) -> str:
    """Return a row as a line of JSON, with two fields more."""
    row = from_json(record.text) if record.values else {"row": record.text.rstrip()}
    return to_json({**row, "line": record.line, "reason": reason}).decode() + "\n"


def is_part_of_object(line: str, following: str) -> bool:
    """Tell whether an object goes on below its first line, or has a list and nothing below it."""
    try:
        found = from_json(line)
    except ValueError:
        return not following.lstrip().startswith("{")
    return not following and any(isinstance(each, list) for each in found.values())


def json_lines(lines: Iterator[str]) -> Iterator[Record]:
    """Return the objects, one on each line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = from_json(line)
        except ValueError as error:
            too_long = f"longer than {LONGEST} characters" if len(line) > LONGEST else ""
            yield Record(number, line, {}, too_long or f"no JSON: {error}")
            continue
        yield record_of(number, line, found)


def json_records(text: TextIOWrapper) -> Iterator[Record]:
    """Return the objects in a list, or in the first list of objects within an object."""
    try:
        events = ijson.parse(Bytes(text))
        prefix = next(
            (
                prefix
                for (prefix, event, _), (_, following, _) in pairwise(events)
                if (event, following) == ("start_array", "start_map")
            ),
            None,
        )
        if prefix is None:
            raise FileError("there is no list of objects in it")
        text.seek(0)
        items = ijson.items(Bytes(text), f"{prefix}.item".lstrip("."), use_float=True)
        for number, found in enumerate(items, 1):
            yield record_of(number, to_json(found).decode() + "\n", found)
    except ijson.JSONError as error:
        raise FileError(f"no JSON: {str(error).splitlines()[0]}") from None


class Bytes:
    """A text as a parser of UTF-8 reads it."""

    def __init__(self, text: TextIOWrapper) -> None:
        self.text = text

    def read(self, size: int = -1) -> bytes:
        """Return the next characters in UTF-8."""
        return self.text.read(size).encode()


def record_of(number: int, text: str, found: object) -> Record:
    """Return a record of an object of JSON; what is within others has names like `a.b`."""
    if not isinstance(found, dict):
        return Record(number, text, {}, "no object")
    return Record(number, text, flat(found))


def flat(found: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the values of an object and of those within it."""
    values: dict[str, Any] = {}
    for name, value in found.items():
        inner = flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
        values |= inner
    return values


def columns_of(rows: Iterator[Record]) -> tuple[list[str], Iterator[Record]]:
    """Return the names in the first records, and all of them."""
    first = list(islice(rows, LOOKED_AT))
    return list(dict.fromkeys(name for row in first for name in row.values)), chain(first, rows)
