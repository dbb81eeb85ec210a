"""A second table: what the first one has, with numbers, a date, a moment, a choice."""

import csv
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from io import StringIO
from itertools import product
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
import sqlalchemy
from anyio.from_thread import BlockingPortal
from fastapi import Depends, FastAPI, Request, Response
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, computed_field
from sqlalchemy import (
    JSON,
    REAL,
    DateTime,
    Engine,
    ForeignKey,
    Identity,
    MetaData,
    Numeric,
    String,
    UniqueConstraint,
    insert,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from core import lists
from core.columns import Id
from core.errors import HANDLERS
from core.lists import listed, page_statement, values_of
from core.middleware import AnswerHead
from core.queries import ListQuery, RowsQuery
from core.responses import IfMatch, csv_response, page_response, precondition, row_response
from core.rows import Rows
from core.sessions import read_only, searches
from core.tables import NAMES
from database import SessionDep, SessionLocal, get_db
from tests.server import quick_client


class Category(StrEnum):
    """What a product is."""

    BOOK = "book"
    GAME = "game"
    TOY = "toy"


class Level(Enum):
    """A choice whose values are numbers."""

    LOW = 1
    HIGH = 2


class Base(DeclarativeBase):
    """What these tables derive from."""

    metadata = MetaData(naming_convention=NAMES)


class Shop(Base):
    """Where it is sold."""

    __tablename__ = "shop"
    id: Mapped[Id]


class Product(Base):
    """Something that is sold."""

    __tablename__ = "product"
    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(100))
    sku: Mapped[str] = mapped_column(String(20), unique=True, info={"taken": "SKU in use"})
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    category: Mapped[Category] = mapped_column(sqlalchemy.Enum(Category, native_enum=False))
    in_stock: Mapped[bool]
    since: Mapped[date]
    size: Mapped[int]  # a name that statements use themselves
    sold_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    shop_id: Mapped[int | None] = mapped_column(ForeignKey("shop.id"))
    __table_args__ = (UniqueConstraint("name", "since", info={"taken": "Twice on one day"}),)


listed(
    Product,
    order_by=["name", "sku", "price", "category", "since", "size"],
    filter_by=["category", "in_stock", "price", "since", "size", "sku", "sold_at", "shop_id"],
    search=["name", "sku"],
)


class ProductRead(BaseModel):
    """All of its columns."""

    id: int
    name: str
    sku: str
    price: Decimal
    category: Category
    in_stock: bool
    since: date
    size: int
    sold_at: datetime | None
    shop_id: int | None


products = Rows(Product, ProductRead)
COUNT = 30


def rows() -> list[dict[str, Any]]:
    """Return products, many of them alike in each of their columns."""
    draw = random.Random(1)
    start = datetime(2026, 1, 1, 12, tzinfo=UTC)
    return [
        {
            "name": draw.choice(["Ada's", "Éclair", "éclair", "Zoo"]),
            "sku": f"{'aB'[n % 2]}-{n * 7 % COUNT:03}",
            "price": Decimal(draw.choice(["9.90", "10.00", "100.05", "0.10"])),
            "category": draw.choice(list(Category)),
            "in_stock": draw.random() < 0.5,
            "since": date(2026, 1, 1) + timedelta(n),
            "size": draw.choice([-5, 0, 2**31 - 1]),
            "sold_at": draw.choice([None, start, start + timedelta(hours=1)]),
            "shop_id": draw.choice([None, 1]),
        }
        for n in range(COUNT)
    ]


def app_of(shown: Rows[Any]) -> FastAPI:
    """Return an app with a list of these rows, and with each of them."""
    app = FastAPI(exception_handlers=HANDLERS)
    app.add_middleware(AnswerHead)
    app.state.database = SimpleNamespace(Base=Base)
    path = f"/{shown.table}s"

    @app.get(path)
    @searches("query")
    def list_rows(
        request: Request, asked: Annotated[ListQuery, Depends(shown.query)], db: SessionDep
    ) -> Response:
        return page_response(request, asked, shown.page(db, asked))

    @app.get(f"{path}.csv")
    @searches("query")
    def export_rows(
        asked: Annotated[RowsQuery, Depends(shown.query_for_all)],
        db: Annotated[Session, Depends(get_db)],
    ) -> Response:
        return csv_response(db, shown, shown.all(db, asked))

    @app.get(path + "/{number}")
    @read_only
    def read_row(request: Request, number: int, db: SessionDep) -> Response:
        found = shown.first(db, shown.held, row_id=number)
        assert found
        return row_response(found, request=request)

    return app


@pytest.fixture
def shop(engine: Engine, portal: BlockingPortal) -> Iterator[TestClient]:
    """Client of an app with these products."""
    app = app_of(products)

    @app.post("/products")
    def create_product(body: ProductRead, db: SessionDep) -> Response:
        (created,) = products.insert(db, [body.model_dump(exclude={"id"})])
        db.commit()
        return row_response(created)

    @app.delete("/products/{number}")
    def delete_product(number: int, db: SessionDep, if_match: IfMatch = None) -> None:
        products.hold(db, number, precondition(if_match))
        db.execute(sqlalchemy.delete(products.table).where(products.c.id == number))
        db.commit()

    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Shop), [{}])
        connection.execute(insert(Product), rows())
    yield quick_client(app, portal)
    Base.metadata.drop_all(engine)


ORDERS = [
    f"{sign}{name}"
    for name in ("id", "name", "sku", "price", "category", "since", "size")
    for sign in ("", "-")
]
QUESTIONS = [
    "",
    "category=toy",
    "in_stock=false",
    "price=10",
    "category=game&in_stock=true",
    "sold_at=2026-01-01T14:00:00%2B01:00",
    "shop_id=1",
    "size=-5",
    "query=A",
    "query=É&category=book",
]


def walk(client: TestClient, page: str) -> Iterator[Any]:
    """Yield the answers from a page on, along rel=next."""
    following: str | None = page
    while following:
        answer = client.get(following)
        yield answer
        following = answer.links.get("next", {}).get("url")


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()]


def test_each_order_with_each_filter(shop: TestClient) -> None:
    """By number and by `after`: everything once, and in the same order."""
    everything = {each["id"]: each for each in shop.get("/products").json()}
    assert len(everything) == COUNT
    for order_by, question in product(ORDERS, QUESTIONS):
        path = f"/products?order_by={order_by}&{question}"
        answer = shop.get(f"{path}&page_size=1000")
        expected = ids(answer)
        assert expected
        assert answer.headers["X-Total-Count"] == str(len(expected))
        keys = [everything[number][order_by.strip("-")] for number in expected]
        if order_by.strip("-") in ("price", "id", "since", "size"):
            keys = [float(key) if isinstance(key, str) and "." in key else key for key in keys]
            assert keys == sorted(keys, reverse=order_by.startswith("-"))
        for start in ("&page=1", "&after=0"):
            walked = [n for each in walk(shop, f"{path}{start}&page_size=9") for n in ids(each)]
            assert walked == expected, path


def test_all_rows_as_a_file(shop: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each order, whatever it is by: prices, days, choices."""
    monkeypatch.setattr(lists, "CHUNK", 4)
    for order_by, question in product(ORDERS, QUESTIONS):
        asked = f"order_by={order_by}&{question}"
        lines = csv.DictReader(StringIO(shop.get(f"/products.csv?{asked}").text.strip("\ufeff")))
        listed = shop.get(f"/products?{asked}&page_size=1000").json()
        texts = [{name: str("" if v is None else v) for name, v in row.items()} for row in listed]
        assert list(lines) == texts, asked


def test_filters_are_documented() -> None:
    """Also those of a Decimal, which is a number or a text; none is null."""
    (call,) = app_of(products).openapi()["paths"]["/products"].values()
    schemas = {each["name"]: each["schema"] for each in call["parameters"]}
    assert [each["type"] for each in schemas["price"]["anyOf"]] == ["number", "string"]
    assert (schemas["in_stock"]["type"], schemas["since"]["format"]) == ("boolean", "date")
    assert "null" not in str(schemas)


def test_what_a_filter_finds(shop: TestClient) -> None:
    everything = shop.get("/products?page_size=1000").json()
    for question, matches in (
        ("category=toy", lambda each: each["category"] == "toy"),
        ("in_stock=0", lambda each: not each["in_stock"]),
        ("price=10.0", lambda each: each["price"] == "10.00"),
        ("price=10.001", lambda each: False),
        ("since=2026-01-05", lambda each: each["since"] == "2026-01-05"),
        ("sold_at=2026-01-01T12:00:00Z", lambda each: each["sold_at"] == "2026-01-01T12:00:00Z"),
        ("sku=a-000", lambda each: each["sku"] == "a-000"),
        ("shop_id=", lambda each: True),
        ("shop_id=null&price=null", lambda each: True),
        ("sku=null", lambda each: each["sku"] == "null"),
        ("shop_id=1&size=0", lambda each: each["shop_id"] == 1 and each["size"] == 0),
        ("price=1e30", lambda each: False),
        ("query=B-0", lambda each: each["sku"].startswith("B-0")),
        ("query=b-0", lambda each: each["sku"].startswith("B-0")),
        ("query=éCLAIR", lambda each: each["name"].lower() == "éclair"),
    ):
        expected = [each["id"] for each in everything if matches(each)]
        assert ids(shop.get(f"/products?page_size=1000&{question}")) == expected, question


NO_FILTERS = (
    ("category=BOOK", "category"),
    ("category=car", "category"),
    ("in_stock=maybe", "in_stock"),
    ("price=NaN", "price"),
    ("price=cheap", "price"),
    ("since=2026-02-30", "since"),
    ("sold_at=2026-01-01T12:00:00", "sold_at"),
    ("size=1.5", "size"),
    ("price=1e200000", "price"),
    ("size=2147483648", "size"),
    ("shop_id=9223372036854775808", "shop_id"),
    ("sku=123456789012345678901", "sku"),
    ("sku=%00", "sku"),
    ("order_by=sold_at", "order_by"),
    ("colour=red", "colour"),
)


@pytest.mark.parametrize(
    "number",
    [
        "INTEGER GENERATED ALWAYS AS IDENTITY",  # which nobody may choose
        "INTEGER DEFAULT nextval('numbers')",  # of a sequence that is not the column's own
        "SERIAL",
    ],
)
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_many_at_once_wherever_their_ids_come_from(engine: Engine, number: str) -> None:
    class Own(DeclarativeBase): ...

    class Tag(Own):
        __tablename__ = "tag"
        id: Mapped[int] = mapped_column(Identity(always="ALWAYS" in number), primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)

    class TagRead(BaseModel):
        id: int
        name: str

    names = ["c", "a", "b"]
    with Session(engine) as db:
        db.execute(text("CREATE SEQUENCE numbers"))
        db.execute(text(f"CREATE TABLE tag (id {number} PRIMARY KEY, name TEXT UNIQUE)"))
        created = Rows(Tag, TagRead).insert(db, [{"name": name} for name in names], unique="name")
    assert [tag.name for tag in created] == names
    assert [tag.id for tag in created] == ([1, 2, 3] if number == "SERIAL" else [3, 1, 2])


def test_what_is_no_filter(shop: TestClient) -> None:
    for question, parameter in NO_FILTERS:
        answer = shop.get(f"/products?{question}")
        assert answer.status_code == 422, question
        places = [each["loc"] for each in answer.json()["detail"]]
        assert places == [["query", parameter]], question


def plan(engine: Engine, asked: ListQuery) -> list[str]:
    """Return how the database goes about a page of 3000 products."""
    with Session(engine) as db:
        values = values_of(db, products.listing, asked)
    statement = page_statement(
        products.listing, products.columns, asked.order_by, frozenset(values)
    )
    sql = statement.params(values).compile(engine, compile_kwargs={"literal_binds": True})
    with engine.begin() as connection:
        return [
            str(line)
            for line in connection.exec_driver_sql(
                f"EXPLAIN {'QUERY PLAN' if engine.name == 'sqlite' else ''} {sql}"
            )
        ]


@pytest.mark.parametrize("analyzed", ["never", "with one row", "now"])
def test_an_index_serves_each_order(engine: Engine, analyzed: str) -> None:
    """Alone and with each filter, from the start and from the middle on."""
    Base.metadata.create_all(engine)
    many = [
        {**row, "sku": f"n{n}", "since": date(2026, 1, 1) + timedelta(n), "shop_id": None}
        for n, row in enumerate(rows() * 50)
    ]
    with engine.begin() as connection:
        connection.execute(insert(Product), many[:1])
        if analyzed == "with one row":
            connection.execute(text("ANALYZE"))
        connection.execute(insert(Product), many[1:])
        if analyzed == "now" or engine.name == "postgresql":
            connection.execute(text("ANALYZE"))
    filters = {"category": "toy", "in_stock": "false", "price": "10", "size": "0"}
    for order in ORDERS:
        for asked in [{}, *({name: value} for name, value in filters.items())]:
            for after in (None, 1500):
                query = {"order_by": order, "after": after, **asked}
                lines = plan(engine, products.query_model.model_validate(query))
                sorts = [line for line in lines if "TEMP B-TREE" in line or "Sort Key" in line]
                # The page itself is sorted once more, behind the CTE.
                if engine.name == "sqlite" or not asked:  # PostgreSQL may sort some hundred
                    assert len(sorts) <= (after is None), (query, lines)
                if engine.name == "sqlite" and asked:
                    (name,) = asked
                    second = "id" if order.strip("-") == name else order.strip("-")
                    assert any(f"ix_product_{name}_{second}" in line for line in lines), lines
    Base.metadata.drop_all(engine)


def test_what_is_taken(shop: TestClient) -> None:
    """By a rule of one column, of two, and one that says nothing."""
    new = shop.get("/products?page_size=1").json()[0]
    assert shop.post("/products", json=new).status_code == 409
    other = {**new, "name": "New"}
    assert shop.post("/products", json=other).json() == {"detail": "SKU in use"}
    other = {**new, "sku": "new"}
    assert shop.post("/products", json=other).json() == {"detail": "Twice on one day"}
    other = {**new, "sku": "new", "name": "New", "shop_id": 7}
    assert shop.post("/products", json=other).json() == {"detail": "Conflicts with other data"}


def test_only_if_it_is_still_that_product(shop: TestClient) -> None:
    tag = shop.get("/products/30").headers["ETag"]
    assert shop.head("/products/30").headers["ETag"] == tag
    for sent in (tag, f"W/{tag}", "*"):
        assert shop.get("/products/30", headers={"If-None-Match": sent}).status_code == 304
    stale = shop.delete("/products/30", headers={"If-Match": '"x"'})
    assert stale.json() == {"detail": "Product has changed since: read it again"}
    assert stale.status_code == 412
    assert shop.delete("/products/30", headers={"If-Match": tag}).status_code == 200


def test_ids_are_never_used_twice(shop: TestClient) -> None:
    new = {**shop.get("/products/30").json(), "name": "New"}
    shop.delete("/products/30")
    assert shop.post("/products", json=new).json()["id"] == 31


# ---- What goes out


class Shown(BaseModel):
    """Not the columns alone."""

    model_config = ConfigDict(alias_generator=lambda name: f"its_{name}", populate_by_name=True)

    id: int
    price: Annotated[float, PlainSerializer(lambda price: round(price * 2))]
    name: str = Field(max_length=5)
    colour: str = "red"

    @computed_field
    def label(self) -> str:
        """Return what stands on it."""
        return f"{self.name}: {self.price}"


def test_the_schema_is_what_goes_out(engine: Engine) -> None:
    shown = Rows(Product, Shown)
    assert products.is_plain
    assert not shown.is_plain
    Base.metadata.create_all(engine)
    client = TestClient(app_of(shown))
    with engine.begin() as connection:
        row = {**rows()[0], "name": "Chess", "price": Decimal("1.25"), "shop_id": None}
        connection.execute(insert(Product), [row])
    expected: dict[str, object] = {
        "its_id": 1,
        "its_price": 2,
        "its_name": "Chess",
        "its_colour": "red",
    }
    expected["its_label"] = "Chess: 1.25"
    assert client.get("/products/1").json() == expected
    assert client.get("/products").json() == [expected]
    Base.metadata.drop_all(engine)


def test_what_cannot_be_shown() -> None:
    class Wrong(BaseModel):
        id: int
        nickname: str

    with pytest.raises(TypeError, match=r"Wrong\.nickname has no column in the table product"):
        Rows(Product, Wrong)


class Given(BaseModel):
    """What pydantic adds when a row is there."""

    id: int
    name: str

    def model_post_init(self, context: Any, /) -> None:
        """Hide it."""
        self.name = "hidden"


class Left(BaseModel):
    """A field that may be left out."""

    id: int
    name: str = Field(exclude_if=lambda name: name == "Zoo")


@pytest.mark.parametrize("schema", [Given, Left])
def test_what_is_not_plain(schema: type[BaseModel]) -> None:
    assert not Rows(Product, schema).is_plain


class Page(Base):
    """Names that statements use themselves, an index called like another, a choice of numbers."""

    __tablename__ = "page"

    id: Mapped[Id]
    total: Mapped[int]
    start: Mapped[int]
    start_date: Mapped[int]
    date: Mapped[int]
    level: Mapped[Level] = mapped_column(sqlalchemy.Enum(Level, native_enum=False))


listed(Page, order_by=["date"], filter_by=["start", "start_date", "level"])


class PageRead(BaseModel):
    """Without an id, and without what decides the order."""

    total: int


def test_names_of_ones_own(engine: Engine) -> None:
    """And a schema that does not show what a page goes on from."""
    pages = Rows(Page, PageRead)
    Base.metadata.create_all(engine)
    client = TestClient(app_of(pages))
    with engine.begin() as connection:
        for n in range(5):
            row = {"start": n, "start_date": 1, "date": 9 - n, "level": Level(n % 2 + 1)}
            connection.execute(insert(Page), [{"total": n, **row}])
    for order, expected in (("id", [0, 1, 2, 3, 4]), ("date", [4, 3, 2, 1, 0])):
        for start in ("page=1", "after=0"):
            answers = list(walk(client, f"/pages?{start}&order_by={order}&page_size=2"))
            assert {each.headers.get("X-Total-Count", "5") for each in answers} == {"5"}
            assert [row["total"] for each in answers for row in each.json()] == expected
    assert client.get("/pages?level=2").json() == [{"total": 1}, {"total": 3}]
    assert client.get("/pages?level=3").status_code == 422
    Base.metadata.drop_all(engine)


def test_rows_that_are_created_together(shop: TestClient) -> None:
    """Nothing is written for none, and nothing is lost of those that say more than the first."""
    with SessionLocal() as db:
        assert products.insert(db, []) == []
        with pytest.raises(ValueError, match="need the same columns"):
            products.insert(db, [{"name": "A"}, {"name": "B", "sku": "b"}])


# ---- What cannot be listed


class Odd(Base):
    """Columns that not every list can have."""

    __tablename__ = "odd"
    id: Mapped[Id]
    page: Mapped[int]
    maybe: Mapped[str | None]
    kind: Mapped[Category]
    blob: Mapped[bytes]
    more: Mapped[Any] = mapped_column(JSON)
    real: Mapped[float] = mapped_column(REAL)
    inside: Mapped[int] = mapped_column("outside")


class Heir(Odd):
    """Rows of the same table."""


class Keyless(Base):
    """A key that is no number."""

    __tablename__ = "keyless"
    code: Mapped[str] = mapped_column(String(10), primary_key=True)


@pytest.mark.parametrize(
    ("model", "declared", "said"),
    [
        (Odd, {"order_by": ["maybe"]}, "odd.maybe may be NULL"),
        (Odd, {"order_by": ["kind"]}, "native_enum=False"),
        (Odd, {"order_by": ["more"]}, "odd.more has no order"),
        (Odd, {"order_by": ["nothing"]}, "has no column that is called nothing"),
        (Odd, {"order_by": ["inside"]}, "has no column that is called inside"),
        (Odd, {"search": ["page"]}, "odd.page cannot be searched"),
        (Odd, {"search": ["kind"]}, "odd.kind cannot be searched"),
        (Odd, {"filter_by": ["page"]}, "its name has another meaning in the URL"),
        (Odd, {"filter_by": ["blob"]}, "its values cannot be told in a URL"),
        (Odd, {"filter_by": ["more"]}, "its values cannot be told in a URL"),
        (Odd, {"filter_by": ["real"]}, "its values cannot be told in a URL"),
        (Product, {}, "is said already"),
        (Heir, {}, "Heir has no table of its own"),
        (Keyless, {}, "its primary key has to be called id, and a whole number"),
    ],
)
def test_what_cannot_be_listed(model: type[Base], declared: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        listed(model, **declared)
