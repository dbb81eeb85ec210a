"""Rows of a table of one's own, with values of several types."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import DateTime, Engine, Numeric, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from core.columns import Id
from core.imports import Counts, Existing, ExistsError, Importer
from core.records import Record


class Base(DeclarativeBase):
    """What the table derives from."""


class Ware(Base):
    """Something that is sold."""

    __tablename__ = "ware"
    id: Mapped[Id]
    sku: Mapped[str] = mapped_column(unique=True)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    since: Mapped[date]
    sold_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    in_stock: Mapped[bool]


class WareBody(BaseModel):
    """What comes in."""

    sku: str
    price: Decimal = Decimal("9.90")
    since: date
    sold_at: datetime | None = None
    in_stock: bool = True


FULL = {
    "sku": "a\tb\\N",
    "price": "0.10",
    "since": "2026-01-02",
    "sold_at": "2026-01-02T12:00:00+02:00",
    "in_stock": "no",
}
STORED = {
    "sku": "a\tb\\N",
    "price": Decimal("0.10"),
    "since": date(2026, 1, 2),
    "sold_at": datetime(2026, 1, 2, 10, tzinfo=UTC),
    "in_stock": False,
}


@pytest.fixture
def wares(engine: Engine) -> Iterator[Engine]:
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)


def run(engine: Engine, *rows: dict[str, Any], existing: Existing = Existing.skip) -> Counts:
    pairs = ((Record(n, "", row), row) for n, row in enumerate(rows, 1))
    *_, counts = Importer(Ware, WareBody, "sku").run(engine, pairs, existing=existing)
    return counts


def stored(engine: Engine) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        found = connection.execute(select(Ware.__table__).order_by(Ware.id)).mappings()
        return [{name: row[name] for name in STORED} for row in found]


def test_values_are_stored_as_the_columns_have_them(wares: Engine) -> None:
    plain = {"sku": "b", "since": "2026-01-03"}
    assert run(wares, FULL, plain, FULL) == Counts(created=2, twice=1)
    defaults = {"price": Decimal("9.90"), "sold_at": None, "in_stock": True}
    assert stored(wares) == [STORED, {"sku": "b", "since": date(2026, 1, 3), **defaults}]
    assert run(wares, FULL, plain, existing=Existing.update) == Counts(there=2)


def test_what_a_row_does_not_say_stays(wares: Engine) -> None:
    run(wares, FULL)
    change = {"sku": FULL["sku"], "since": "2027-01-01"}
    new = {"sku": "c", "since": "2026-01-01", "price": 1}
    assert run(wares, new, change, existing=Existing.update) == Counts(created=1, updated=1)
    assert stored(wares)[0] == STORED | {"since": date(2027, 1, 1)}
    assert stored(wares)[1]["price"] == 1


def test_nothing_at_all(wares: Engine) -> None:
    assert run(wares) == Counts()
    assert run(wares, {"sku": "x"}) == Counts(rejected=1)
    assert stored(wares) == []


def test_what_was_not_to_be_there(wares: Engine) -> None:
    run(wares, FULL)
    new = {"sku": "c", "since": "2026-01-01"}
    with pytest.raises(ExistsError, match="a\tb"):
        run(wares, new, FULL, existing=Existing.stop)
    assert len(stored(wares)) == 1
