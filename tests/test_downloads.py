"""A list as a file: all of it, in its order, a piece at a time."""

import csv
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import Session

import crud
from core import lists
from core.records import open_records
from models import User
from tests.users import create

ORDERS = ["id", "-id", "name", "-name", "email", "-email"]
QUESTIONS = [
    *("", "query=n", "query=É", "is_active=true", "is_active=false&query=n"),
    *("query=zz", "query=%F0%9F%92%83"),
]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read two rows at a time in place of a thousand."""
    monkeypatch.setattr(lists, "CHUNK", 2)


@pytest.fixture
def people(engine: Engine) -> None:
    """Users, many of whom have the same name."""
    names = ["Nn", "É", "Nn", "n", "én", "Nn", "a", "É", "Nn"]
    rows = [
        {"name": name, "email": f"{9 - n}@example.com", "is_active": n % 3 > 0}
        for n, name in enumerate(names)
    ]
    with engine.begin() as connection:
        connection.execute(insert(User), rows)


def rows_of(content: str) -> list[dict[str, str]]:
    assert content.startswith("\ufeffid,name,email,is_active\n")
    return list(csv.DictReader(StringIO(content.removeprefix("\ufeff"))))


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("order_by", ORDERS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_all_that_is_asked_for(client: TestClient, order_by: str, question: str) -> None:
    answer = client.get(f"/users.csv?order_by={order_by}&{question}")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == "attachment"
    listed = client.get(f"/users?order_by={order_by}&{question}&page_size=1000").json()
    assert rows_of(answer.text) == [{key: str(user[key]) for key in user} for user in listed]


def test_nobody(client: TestClient) -> None:
    assert rows_of(client.get("/users.csv").text) == []


def pages(db: Session, order_by: str) -> Iterator[list[int]]:
    """Yield the ids of each piece, after which the transaction has ended."""
    for page in crud.all_users(db, crud.users.query_model(order_by=order_by)):
        db.rollback()
        yield [user.id for user in page]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("order_by", ORDERS)
def test_what_nobody_changes_is_there_once(engine: Engine, order_by: str) -> None:
    """Whatever becomes of the row after which it goes on: it may go, or get another name."""
    seen: list[int] = []
    changed: list[int] = []
    changes = ['DELETE FROM "user" WHERE id = :id'] + [
        f"UPDATE \"user\" SET name = '{name}', email = '{name}' WHERE id = :id" for name in "0z"
    ]
    with Session(engine) as db:
        for page, change in zip(pages(db, order_by), [*changes, "SELECT :id", "SELECT :id"]):
            seen += page
            with engine.begin() as other:
                other.execute(text(change), {"id": page[-1]})
            changed += page[-1:] if change in changes else []
    kept = [number for number in range(1, 10) if number not in changed]
    assert [seen.count(number) for number in kept] == [1] * len(kept)
    assert len(changed) == 3


def test_no_formulas(client: TestClient, tmp_path: Path) -> None:
    """What a spreadsheet would take for one is none, and is read as what it was."""
    names = ["=1+1", "+49", "-x", "@a", "'=q", "a,b", 'the "q"', "Éric", "'t", "; c"]
    create(client, *({"name": name, "email": f"n{n}@example.com"} for n, name in enumerate(names)))
    sent = client.get("/users.csv").content
    shown = {row["name"] for row in rows_of(sent.decode())}
    assert shown >= {"'=1+1", "'+49", "'-x", "'@a", "''=q", "'t"}
    file = tmp_path / "users.csv"
    file.write_bytes(sent)
    with open_records(str(file)) as records:
        assert [row.values["name"] for row in records.rows] == names


@pytest.mark.parametrize(
    ("question", "place"),
    [
        ("page=2", "page"),
        ("after=1", "after"),
        ("order_by=age", "order_by"),
        ("is_active=2", "is_active"),
        ("query=%00", "query"),
    ],
)
def test_what_is_no_question(client: TestClient, question: str, place: str) -> None:
    answer = client.get(f"/users.csv?{question}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", place]


def test_what_cannot_be_read_is_an_error(client: TestClient, engine: Engine) -> None:
    """And not a file that ends early."""
    with engine.begin() as connection:
        connection.execute(text('ALTER TABLE "user" RENAME TO gone'))
    client = TestClient(client.app, raise_server_exceptions=False)
    assert client.get("/users.csv").status_code == 500


@pytest.mark.usefixtures("people")
def test_whoever_wants_the_headers_gets_no_more(
    client: TestClient, engine: Engine, statements: list[str]
) -> None:
    client = TestClient(client.app)  # which does not wait for all of the answer
    client.get("/users.csv")
    needed = len(statements)
    statements.clear()
    answer = client.head("/users.csv")
    assert (answer.headers["Content-Disposition"], answer.content) == ("attachment", b"")
    assert len(statements) <= needed - 2


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("order_by", ["name", "-email"])
def test_a_search_goes_on_along_an_index(engine: Engine, order_by: str) -> None:
    """Where each piece sorted all that is found, a million would take a thousand sorts."""
    listing = crud.users.listing
    for kind in ("like", "glob"):
        asked = frozenset({kind, "size", "last_0", "last_1"})
        statement = lists.rest_statement(listing, crud.users.columns, order_by, asked)
        sql = str(statement.compile(engine))
        values = ["x"] * sql.count("?")
        with engine.connect() as connection:
            plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", tuple(values)).all())
        assert "TEMP B-TREE" not in plan
