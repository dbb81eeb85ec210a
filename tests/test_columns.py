"""What a column holds comes back as it was stored, on both databases, or is refused."""

import enum
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict
from pydantic.types import Base64Bytes
from sqlalchemy import (
    JSON,
    DateTime,
    Engine,
    Enum,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import database
from core import columns
from core.startup import create_app
from database import SessionDep


class Base(DeclarativeBase):
    """Tables of these tests alone."""


class Colour(enum.Enum):
    """A choice, whose names are stored."""

    red = "r"
    blue = "b"


class Thing(Base):
    """A column of each kind."""

    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    amount: Mapped[Decimal | None] = mapped_column(Numeric)
    ratio: Mapped[float | None] = mapped_column(Numeric(10, 2, asdecimal=False))
    at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    seen: Mapped[datetime | None]
    day: Mapped[date | None]
    hour: Mapped[time | None]
    colour: Mapped[Colour | None]
    size: Mapped[str | None] = mapped_column(Enum("S", "M", name="size"))
    data: Mapped[bytes | None] = mapped_column(LargeBinary)
    more: Mapped[Any] = mapped_column(JSON, nullable=True)
    took: Mapped[timedelta | None] = mapped_column(Interval)
    key: Mapped[UUID | None]
    count: Mapped[int | None] = mapped_column(Integer)
    weight: Mapped[float | None]


class ThingBody(BaseModel):
    """A thing as a client writes one, without limits."""

    price: Decimal | None = None
    amount: Decimal | None = None
    ratio: float | None = None
    at: datetime | None = None
    seen: datetime | None = None
    day: date | None = None
    hour: time | None = None
    colour: Colour | None = None
    size: str | None = None
    data: Base64Bytes | None = None
    more: Any = None
    took: timedelta | None = None
    key: UUID | None = None
    count: int | None = None
    weight: float | None = None


class ThingRead(ThingBody):
    """A thing as a client reads one."""

    model_config = ConfigDict(from_attributes=True)

    id: int


@pytest.fixture
def client(engine: Engine) -> Iterator[TestClient]:
    """Client of an app with that table, as a course writes it."""
    Base.metadata.create_all(engine)
    app: FastAPI = create_app(database)

    @app.post("/things", response_model=ThingRead)
    def create(body: ThingBody, db: SessionDep) -> Thing:
        thing = Thing(**body.model_dump())
        db.add(thing)
        db.commit()
        return thing

    @app.get("/things", response_model=list[ThingRead])
    def read(db: SessionDep) -> list[Thing]:
        return list(db.scalars(select(Thing).order_by(Thing.id)))

    yield TestClient(app)
    with engine.begin() as connection:
        Base.metadata.drop_all(connection)


STAYS = [
    ("price", "12.50", "12.50"),
    ("price", "-99999999.99", "-99999999.99"),
    ("price", "2.675", "2.68"),  # both round
    ("price", "-0.005", "-0.01"),
    ("price", 19.99, "19.99"),
    ("amount", "123456789.123456", "123456789.123456"),
    ("amount", "0.1", "0.1"),
    ("ratio", 2.675, 2.68),
    ("seen", "2026-11-28T12:00:00.123456", "2026-11-28T12:00:00.123456"),
    ("seen", "2026-11-28T12:00:00Z", "2026-11-28T12:00:00"),
    ("day", "0001-01-01", "0001-01-01"),
    ("hour", "23:59:59.5", "23:59:59.500000"),
    ("colour", "r", "r"),
    ("size", "M", "M"),
    ("data", "/wABAg==", "/wABAg=="),
    ("more", {"é": [1, None, "\x7f", {"a": 1.5}]}, {"é": [1, None, "\x7f", {"a": 1.5}]}),
    ("more", 2**63 - 1, 2**63 - 1),
    ("weight", 0.1, 0.1),
    ("took", "P1DT1S", "P1DT1S"),
    ("took", "-PT1S", "-PT1S"),
    ("key", "12345678-1234-5678-1234-567812345678", "12345678-1234-5678-1234-567812345678"),
]


@pytest.mark.parametrize(("name", "sent", "read"), STAYS)
def test_what_fits_comes_back(client: TestClient, name: str, sent: object, read: object) -> None:
    answer = client.post("/things", json={name: sent})
    assert answer.status_code == 200
    assert answer.json()[name] == read
    assert client.get("/things").json()[0][name] == read


def test_what_is_compared_is_not_rounded(engine: Engine, client: TestClient) -> None:
    """Nor limited; and a factor is the one that was written."""
    for price in ("12.34", "12.35", "12.36"):
        client.post("/things", json={"price": price})
    with Session(engine) as db:
        for condition, found in [
            (Thing.price > Decimal("12.345"), 2),
            (Thing.price == Decimal("12.345"), 0),
            (Thing.price.in_([Decimal("12.345"), Decimal("12.36")]), 1),
            (Thing.price < Decimal("1000000000"), 3),
            (Thing.price == Decimal("12.35"), 1),
        ]:
            assert len(db.scalars(select(Thing).where(condition)).all()) == found, condition
        db.execute(update(Thing).where(Thing.id == 1).values(price=Thing.price * Decimal("1.005")))
        db.execute(update(Thing).where(Thing.id == 2).values(price=Decimal("2.675")))
        prices = db.scalars(select(Thing.price).order_by(Thing.id)).all()
        assert prices == [Decimal("12.40"), Decimal("2.68"), Decimal("12.36")]
        assert db.scalar(select(func.sum(Thing.price))) == Decimal("27.44")


@pytest.mark.parametrize("hours", [0, 2, -11])
def test_a_moment_comes_back(engine: Engine, client: TestClient, hours: int) -> None:
    """With its time zone; in which one, the database may decide."""
    noon = datetime(2026, 11, 28, 12, tzinfo=timezone(timedelta(hours=hours)))
    answer = client.post("/things", json={"at": noon.isoformat()})
    assert datetime.fromisoformat(answer.json()["at"]) == noon
    with Session(engine) as db:
        thing = db.scalars(select(Thing).where(Thing.at == noon)).one()
        assert thing.at == noon
        assert thing.at.tzinfo is not None
        assert db.scalars(select(Thing).where(Thing.at > noon)).all() == []


def test_bytes_come_back(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as db:
        db.add(Thing(data=bytes(range(256))))
        db.commit()
        assert db.scalars(select(Thing.data)).one() == bytes(range(256))
        db.rollback()
        Base.metadata.drop_all(db.connection())
        db.commit()


REFUSED = [
    ("price", '"12345678901234567890"'),
    ("price", '"123456789.00"'),
    ("price", '"99999999.995"'),
    ("price", '"1e400"'),
    ("price", "1e30"),
    ("amount", '"1e200000"'),
    ("at", '"0001-01-01T00:00:00+02:00"'),
    ("at", '"9999-12-31T23:59:59-02:00"'),
    ("seen", '"9999-12-31T23:59:59-02:00"'),
    ("size", '"XL"'),
    ("more", '{"a": NaN}'),
    ("more", '{"a": 1e999}'),
    ("more", r'{"a": "\ud800"}'),
    ("count", str(2**63)),
    ("weight", "NaN"),
    ("weight", "1e999"),
]


@pytest.mark.parametrize(("name", "sent"), REFUSED)
def test_what_does_not_fit_is_refused(client: TestClient, name: str, sent: str) -> None:
    content = f'{{"{name}": {sent}}}'.encode()
    answer = client.post("/things", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert client.get("/things").json() == []


@pytest.mark.parametrize(
    ("name", "value"), [("amount", "0.12345678901234567890"), ("more", 12345678901234567890123)]
)
def test_what_only_postgresql_can_hold(
    client: TestClient, engine: Engine, name: str, value: object
) -> None:
    """More digits than a number of SQLite has."""
    answer = client.post("/things", json={name: value})
    if engine.name == "postgresql":
        assert answer.json()[name] == value
    else:
        assert answer.status_code == 422


# What other code can have written, and Python has no value for.
UNREADABLE = {
    "sqlite": {
        "price": "'abc'",
        "amount": "9e999",
        "at": "'yesterday'",
        "seen": "7",
        "day": "'2026-02-30'",
        "hour": "'noon'",
        "colour": "'green'",
        "size": "'XL'",
        "more": "'{'",
        "took": "'long'",
        "key": "'x'",
    },
    "postgresql": {
        "amount": "'NaN'",
        "at": "'infinity'",
        "seen": "'4713-01-01 00:00:00 BC'",
        "day": "'infinity'",
        "hour": "'24:00:00'",
        "took": "interval '11800000 years'",
    },
}


def test_what_nobody_can_read_is_null(
    client: TestClient, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """A list goes on, and the log says what there is, once."""
    columns.say.cache_clear()
    client.post("/things", json={"price": "1.00"})
    for name, value in UNREADABLE[engine.name].items():
        with engine.begin() as connection:
            connection.execute(text(f"INSERT INTO thing ({name}, count) VALUES ({value}, 1)"))
    for _ in range(2):
        answer = client.get("/things")
        assert answer.status_code == 200, answer.text
        _, *things = answer.json()
        assert len(things) == len(UNREADABLE[engine.name])
        for thing, name in zip(things, UNREADABLE[engine.name], strict=True):
            assert thing[name] is None
            assert thing["count"] == 1
    assert 3 <= caplog.text.count("A stored value cannot be read as") <= len(things)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_text_where_bytes_should_be(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as db:
        db.execute(text("INSERT INTO thing (data) VALUES ('é')"))
        assert db.scalars(select(Thing.data)).one() == "é".encode()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_values_in_the_file(engine: Engine) -> None:
    """As SQLAlchemy writes them otherwise, so that other programs read them."""
    Base.metadata.create_all(engine)
    moment = datetime(2026, 11, 28, 12, tzinfo=UTC)
    values = {"price": Decimal("1.5"), "at": moment, "more": {"é": 1}, "colour": Colour.red}
    with engine.begin() as connection:
        connection.execute(insert(Thing), values)
        stored = connection.exec_driver_sql("SELECT price, at, more, colour FROM thing").one()
        assert tuple(stored) == (1.5, "2026-11-28 12:00:00.000000", '{"é": 1}', "red")
        assert json.loads(stored[2]) == {"é": 1}
