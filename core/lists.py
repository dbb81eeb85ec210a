"""Lists of any table: in which orders, by which filters and searches, and page by page.

A statement is built once, with a parameter for each value that changes, and an index serves it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Enum,
    Index,
    Integer,
    Row,
    Select,
    String,
    Table,
    bindparam,
    case,
    event,
    func,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    type_coerce,
)
from sqlalchemy.exc import DataError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import NULLTYPE

from core.columns import NO_SCALARS, python_type
from core.fts import fts_of, match
from core.queries import COUNTED, ListQuery, RowsQuery, value_of
from core.searches import (
    SEARCHES,
    contains,
    kind_of_search,
    parameters,
    trigrams_for,
    unknown_letter,
)
from core.tables import index_for_searches, table_of

CHUNK = 1000  # rows that are read at once where all are asked for
SIZE = bindparam("size", type_=Integer)
SKIPPED, AFTER = (bindparam(name, type_=BigInteger) for name in ("skipped", "after"))
NOTHING = "id IS NULL"


@dataclass(frozen=True, eq=False)
class Listing:
    """What a list of a table can be asked for, by names of columns."""

    table: Table
    order_by: Sequence[str]
    filter_by: Sequence[str]
    search: Sequence[str]

    @property
    def id(self) -> Column[int]:
        """The primary key, which also tells rows apart that are equal in an order."""
        return self.table.primary_key.columns[0]

    def keys(self, order: str, asked: frozenset[str] = frozenset()) -> list[Column[Any]]:
        """Return the columns that decide an order, without ties; what all rows have in common not.

        `asked` are the names of parameters.
        """
        column = self.table.c[order]
        if f"is_{order}" in asked or column is self.id:
            return [self.id]
        return [column] if column.unique else [column, self.id]

    def index(self, *columns: Column[Any]) -> Index | None:
        """Return the index on these columns, if there is one."""
        return next((each for each in self.table.indexes if tuple(each.columns) == columns), None)


class GoneError(LookupError):
    """The row after which a page begins is gone; the text says so to a client."""


class Found(NamedTuple):
    """The rows of a page."""

    rows: Sequence[Row[Any]]
    goes_on: bool  # whether there are more behind them
    total: int | None  # how many there are, or COUNTED + 1; None where pages have no numbers


# ---- What a table says


def listed(
    model: type[DeclarativeBase],
    *,
    order_by: Sequence[str] = (),
    filter_by: Sequence[str] = (),
    search: Sequence[str] = (),
    fts: bool = False,
) -> None:
    """Say what a list of a table can be ordered by, beside its id, filtered by and searched for.

    Each order, alone and with each filter, gets the index that serves it; so does the search, on
    PostgreSQL, and with `fts` on SQLite, too: docs/production.md says what that costs. Raises
    TypeError for a column with which that cannot be.
    """
    table = table_of(model)
    if table in listings:
        raise TypeError(f"{table}: what its lists can be asked for is said already")
    if [key.name for key in table.primary_key] != ["id"] or python_type(table.c.id) is not int:
        raise TypeError(f"{table}: its primary key has to be called id, and a whole number")
    for name in (*order_by, *filter_by, *search):
        if name not in table.c or table.c[name].name != name:
            raise TypeError(f"{table} has no column that is called {name}, here and there")
    for column in (table.c[name] for name in search):
        if not isinstance(column.type, String) or isinstance(column.type, Enum):
            raise TypeError(f"{column} cannot be searched: it is no text")
    listing = Listing(table, ["id", *order_by], filter_by, search)
    wanted: list[list[Column[Any]]] = []
    for column in (table.c[name] for name in order_by):
        if column.nullable:
            raise TypeError(f"{column} may be NULL, which databases sort differently")
        if isinstance(column.type, Enum) and column.type.native_enum:
            raise TypeError(f"{column}: databases sort it alike with Enum(..., native_enum=False)")
        if python_type(column) in NO_SCALARS:
            raise TypeError(f"{column} has no order")
        if not column.unique:
            wanted.append(listing.keys(column.name))
    for column in (table.c[name] for name in filter_by):
        value_of(column)
        if not column.unique:
            wanted += [[column, *listing.keys(order)] for order in listing.order_by]
    for columns in (tuple(dict.fromkeys(columns)) for columns in wanted):
        if not listing.index(*columns):
            Index(free_name(table, columns), *columns)
    # SQLite believes what an ANALYZE has found when there was one row, and would look at all of
    # them, unless there is an index of which it knows nothing. This one never has a row.
    Index(f"ix_{table}_none", listing.id, sqlite_where=text(NOTHING))
    if search:
        index_for_searches(table, *search, fts=fts)
    listings[table] = listing


def leave_empty(table: Table) -> None:
    """Leave all rows out of ix_..._none on PostgreSQL, too.

    As an argument of Index, `postgresql_where` would load the dialect of PostgreSQL with each app
    on SQLite: 20 ms and 2 MB.
    """
    for index in table.indexes:
        if index.name == f"ix_{table}_none":
            index.kwargs["postgresql_where"] = text(NOTHING)


@event.listens_for(Table, "before_create")
def choose_indexes(table: Table, connection: Connection, **_: Any) -> None:
    """Leave all rows out of it where a table is created on PostgreSQL."""
    if connection.dialect.name == "postgresql":
        leave_empty(table)


def free_name(table: Table, columns: Sequence[Column[Any]]) -> str | None:
    """Return a name for an index if the usual one is taken: a_b and c is called like a and b_c."""
    name = "_".join(["ix", table.name, *(column.name for column in columns)])
    return f"{name}_" if name in {index.name for index in table.indexes} else None


# Not in Table.info, which Alembic writes to migrations.
listings = WeakKeyDictionary[Table, Listing]()


def listing_of(table: Table) -> Listing:
    """Return what listed() has said of a table; by id alone, if nothing."""
    return listings.get(table) or Listing(table, ["id"], [], [])


# ---- A page of it


def find_page(
    db: Session, listing: Listing, columns: tuple[Column[Any], ...], asked: ListQuery
) -> Found:
    """Return a page of a list. That takes one statement, and one more if nothing is on the page.

    Raises GoneError if the row after which it begins is gone, and with it the place in the order.
    """
    values = values_of(db, listing, asked)
    names = frozenset(values)
    try:
        rows = db.execute(page_statement(listing, columns, asked.order_by, names), values).all()
    except DataError as error:
        if unknown_letter(error) is None:
            raise
        return Found([], False, None if asked.after is not None else 0)  # so no row has it
    page = rows[: asked.page_size]
    goes_on = len(rows) > len(page)
    if asked.after is not None:
        # The next id is known without that row; what to go on from in another order is not.
        order = asked.order_by.removeprefix("-")
        if asked.after and not rows and listing.keys(order, names) != [listing.id]:
            there = select(listing.id).where(listing.id == asked.after)
            if db.execute(there).first() is None:
                name = listing.table.name
                raise GoneError(f"No {name} has this id any more: begin again, with after=0")
        return Found(page, goes_on, None)
    if goes_on:
        total = rows[0][-1]
    elif rows or asked.page == 1:
        total = (asked.page - 1) * asked.page_size + len(page)
    else:
        total = db.scalar(count_statement(listing, names), values)
    return Found(page, goes_on, total)


def find_all(
    db: Session, listing: Listing, columns: tuple[Column[Any], ...], asked: RowsQuery
) -> Iterator[Sequence[Row[Any]]]:
    """Yield all rows of a list, a thousand at a time, each time those behind the last one.

    Between two of them, the transaction may end. What nobody changes meanwhile is there once.
    """
    values = conditions_of(db, listing, asked) | {"size": CHUNK}
    while True:
        statement = rest_statement(listing, columns, asked.order_by, frozenset(values))
        try:
            rows = db.execute(statement, values).all()
        except DataError as error:
            if unknown_letter(error) is None:
                raise
            return  # so no row has it
        if rows:
            yield rows
        if len(rows) < CHUNK:
            return
        last = rows[-1][len(columns) :]
        values |= {f"last_{number}": value for number, value in enumerate(last)}


def values_of(db: Session, listing: Listing, asked: ListQuery) -> dict[str, Any]:
    """Return what is asked for, as parameters of a statement, and by name what applies."""
    values = conditions_of(db, listing, asked)
    values["size"] = asked.page_size + 1  # one more shows whether it goes on
    if asked.after is None:
        values["skipped"] = (asked.page - 1) * asked.page_size
    elif asked.after > 0:
        values["after"] = asked.after
    return values


def avoid_trigrams(db: Session, listing: Listing, asked: RowsQuery, values: dict[str, Any]) -> None:
    """Have FTS5 look for what is rare only, where it would have to sort or leave out all it finds.

    What many rows have is found sooner along the index of the order.
    """
    filtered = any(name.startswith("is_") for name in values)
    if "trigrams" in values and (filtered or asked.order_by.removeprefix("-") != "id"):
        found = {"trigrams": values["trigrams"], "most": COUNTED}
        if db.scalar(common_statement(listing), found):
            del values["trigrams"]
            values["walk"] = True


def conditions_of(db: Session, listing: Listing, asked: RowsQuery) -> dict[str, Any]:
    """Return what is searched for and filtered by, as parameters of a statement."""
    values: dict[str, Any] = {}
    if wanted := asked.text():
        values |= parameters(wanted, kind_of_search(db, listing.table.name, wanted))
        if groups := trigrams_for(db, listing.table.name, wanted):
            values["trigrams"] = groups
    for name in listing.filter_by:
        if (value := getattr(asked, name)) is not None:
            values[f"is_{name}"] = value
    avoid_trigrams(db, listing, asked, values)
    return values


# ---- Statements


@cache
def page_statement(
    listing: Listing, columns: tuple[Column[Any], ...], order_by: str, asked: frozenset[str]
) -> Select[Any]:
    """Return the SELECT of a page, for the parameters of these names.

    By number, it also counts, if another page follows:

        WITH page AS (SELECT ... FROM ... WHERE ... ORDER BY ... LIMIT :size OFFSET :skipped)
        SELECT page.*, CASE WHEN (SELECT count(*) FROM page) = :size THEN ... END AS total
        FROM page ORDER BY ...

    After a row, the database goes straight to where it begins, by an index:

        SELECT ... FROM user WHERE ... AND
            (name, id) > (SELECT name, id FROM user WHERE id = :after)
        ORDER BY name, id LIMIT :size
    """
    order = order_by.removeprefix("-")
    keys = listing.keys(order, asked)
    page = matching(listing, select(*columns), order, asked, walk="walk" in asked)
    page = page.order_by(*directed(as_found(listing, keys, asked), order_by)).limit(SIZE)
    if "after" in asked:
        page = page.where(beyond(listing, keys, order_by, asked))
    if "skipped" not in asked:
        return page
    found = page.offset(SKIPPED).cte(f"page_of_{listing.table.name}")
    goes_on = select(func.count()).select_from(found).scalar_subquery() == SIZE
    total = case((goes_on, count_statement(listing, asked).scalar_subquery()))
    again = directed([found.c[key.name] for key in keys], order_by)
    return select(found, total.label(f"total_of_{listing.table.name}")).order_by(*again)


@cache
def rest_statement(
    listing: Listing, columns: tuple[Column[Any], ...], order_by: str, asked: frozenset[str]
) -> Select[Any]:
    """Return the SELECT of the rows behind those read so far, for the parameters of these names.

    It goes on from the values of the last row, which may have been moved or deleted since. They are
    sent as the database has said them: in Python, a number may be rounded.

        SELECT ..., name, id FROM user WHERE ... AND (name, id) > (:last_0, :last_1)
        ORDER BY name, id LIMIT :size
    """
    order = order_by.removeprefix("-")
    keys = listing.keys(order, asked)
    statement = select(*columns, *(type_coerce(key, NULLTYPE) for key in keys))
    statement = matching(listing, statement, order, asked, walk=order != "id")
    if "last_0" in asked:
        last = [bindparam(f"last_{number}", type_=NULLTYPE) for number in range(len(keys))]
        found = as_found(listing, keys, asked)
        here, there = (tuple_(*keys), tuple_(*last)) if len(keys) > 1 else (found[0], last[0])
        statement = statement.where(later(here, there, order_by))
    return statement.order_by(*directed(as_found(listing, keys, asked), order_by)).limit(SIZE)


@cache
def common_statement(listing: Listing) -> Select[Any]:
    """Return the SELECT that tells whether FTS5 finds more than :most rows."""
    index = fts_of(listing.table.name)
    more = select(index.c.rowid).where(match(index)).limit(1).offset(bindparam("most"))
    return select(more.exists())


def as_found(
    listing: Listing, keys: Sequence[ColumnElement[Any]], asked: frozenset[str]
) -> Sequence[ColumnElement[Any]]:
    """Return the keys of an order; if it is by id alone, the ids in the order that FTS5 has."""
    by_id = list(keys) == [listing.id] and "trigrams" in asked
    return [fts_of(listing.table.name).c.rowid] if by_id else keys


@cache
def count_statement(listing: Listing, asked: frozenset[str]) -> Select[Any]:
    """Return the SELECT of the total alone, which is COUNTED + 1 if there are more."""
    table = listing.table
    one = matching(listing, select(literal_column("1")).select_from(table), "id", asked)
    if asked & SEARCHES:
        # Whatever matches is found once.
        return select(func.count()).select_from(one.limit(COUNTED + 1).subquery())
    # To skip rows of an index takes half the time of counting them.
    more = one.order_by(listing.id).limit(1).offset(COUNTED).exists()
    count = matching(listing, select(func.count()).select_from(table), "id", asked)
    return select(case((more, COUNTED + 1), else_=count.scalar_subquery()))


def matching(
    listing: Listing,
    statement: Select[Any],
    order: str,
    asked: frozenset[str],
    *,
    walk: bool = False,
) -> Select[Any]:
    """Return `statement` for only those rows that are asked for.

    SQLite is told which index to walk, or none. It would believe the statistics of an ANALYZE from
    when there was one row, and look at all of them. A search has it look at all rows and sort those
    it finds, unless the order is to be a `walk` that goes on later.
    """
    table = listing.table
    filters = [name for name in listing.filter_by if f"is_{name}" in asked]
    hint = ""
    if (asked & SEARCHES and not walk) or (order == "id" and not filters):
        hint = "NOT INDEXED"  # as they are stored
    elif filters and not any(table.c[name].unique for name in filters):
        index = listing.index(table.c[filters[0]], *listing.keys(order, asked))
        hint = f'INDEXED BY "{index.name}"' if index else ""
    columns = [table.c[name] for name in filters]
    conditions = [each == bindparam(f"is_{each.name}", type_=each.type) for each in columns]
    for kind in asked & SEARCHES:
        where = (contains(table.c[name], kind, "whole" in asked) for name in listing.search)
        conditions.append(or_(*where))
    if "trigrams" in asked:  # finds these rows, and perhaps a few more
        fts = fts_of(table.name)
        conditions += [fts.c.rowid == listing.id, match(fts)]
    return statement.where(*conditions).with_hint(table, hint, "sqlite")


def directed(columns: Sequence[ColumnElement[Any]], order_by: str) -> list[ColumnElement[Any]]:
    """Return what to order by: the columns, all of them downwards if `order_by` begins with -."""
    return [column.desc() if order_by.startswith("-") else column for column in columns]


def beyond(
    listing: Listing, keys: list[Column[Any]], order_by: str, asked: frozenset[str]
) -> ColumnElement[bool]:
    """Return the condition that a row comes after the one with the id :after."""
    here: ColumnElement[Any] = as_found(listing, [listing.id], asked)[0]
    there: ColumnElement[Any] = AFTER
    if keys != [listing.id]:
        last = listing.table.alias("last")
        of_last = select(*(last.c[key.name] for key in keys)).where(last.c.id == AFTER)
        here, there = tuple_(*keys), of_last.scalar_subquery()
    return later(here, there, order_by)


def later(
    here: ColumnElement[Any], there: ColumnElement[Any], order_by: str
) -> ColumnElement[bool]:
    """Return the condition that what is here comes after what is there, in an order."""
    return here < there if order_by.startswith("-") else here > there
