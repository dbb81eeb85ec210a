"""Lines of CSV, in which a spreadsheet finds no formula.

https://owasp.org/www-community/attacks/CSV_Injection
"""

import csv
import re
from collections.abc import Iterable
from io import StringIO

from pydantic_core import to_json

begins_formula = re.compile(r"'*[=+\-@\t\r]").match


def csv_lines(rows: Iterable[Iterable[object]], delimiter: str = ",") -> str:
    """Return a line of CSV for each row; what has parts of its own is JSON in there."""
    lines = StringIO()
    writer = csv.writer(lines, delimiter=delimiter, lineterminator="\n")
    writer.writerows([cell_of(value) for value in row] for row in rows)
    return lines.getvalue()


def cell_of(value: object) -> object:
    """Return a cell, with a quote before what would begin a formula; `plain` takes it away."""
    if isinstance(value, str):
        return f"'{value}" if begins_formula(value) else value
    return to_json(value).decode() if isinstance(value, (list, dict)) else value


def plain(cell: str) -> str:
    """Return a cell without the quote that keeps it from being a formula."""
    return cell[1:] if cell.startswith("'") and begins_formula(cell) else cell
