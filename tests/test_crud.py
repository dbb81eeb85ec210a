"""The statements: order, filters, pages, and what they cost."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from crud import list_users, page_statement, parameters
from schemas import UserQuery
from tests.users import ADA, BOB, create


@pytest.mark.parametrize(
    ("order", "ids"),
    [
        ("id", [1, 2, 3, 4]),
        ("-id", [4, 3, 2, 1]),
        ("name", [2, 3, 1, 4]),
        ("-name", [4, 1, 3, 2]),
        ("email", [4, 3, 2, 1]),
        ("-email", [1, 2, 3, 4]),
    ],
)
def test_order(client: TestClient, order: str, ids: list[int]) -> None:
    for name, email in zip("caad", "zyxw", strict=True):
        create(client, {"name": name, "email": f"{email}@example.com"})
    ordered = [user["id"] for user in client.get("/users", params={"order_by": order}).json()]
    # Users 2 and 3 have the same name: the smaller id comes first, whatever the direction.
    assert ordered == ([4, 1, 2, 3] if order == "-name" else ids)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("a", ["Ada Lovelace", "Éric Blanc", "100% Bob_Smith"]),
        ("LOVE", ["Ada Lovelace"]),
        ("éRIC", ["Éric Blanc"]),
        ("ÉRIC", ["Éric Blanc"]),
        ("eric@EXAMPLE", ["Éric Blanc"]),
        ("%", ["100% Bob_Smith"]),
        ("_", ["100% Bob_Smith"]),
        ("\\", []),
        ("/", []),
        ("'", []),
        ("0% B", ["100% Bob_Smith"]),
        ("", ["Ada Lovelace", "Éric Blanc", "100% Bob_Smith"]),
    ],
)
def test_search(client: TestClient, query: str, found: list[str]) -> None:
    create(
        client,
        {"name": "Ada Lovelace", "email": "ada@example.com"},
        {"name": "Éric Blanc", "email": "eric@example.com"},
        {"name": "100% Bob_Smith", "email": "bob@example.com"},
    )
    response = client.get("/users", params={"query": query})
    assert [user["name"] for user in response.json()] == found
    assert response.headers["X-Total-Count"] == str(len(found))


def test_filter_by_activity(client: TestClient) -> None:
    create(client, ADA, BOB)
    client.patch("/users/2", json={"is_active": False})
    for active, ids in [("true", [1]), ("false", [2])]:
        response = client.get("/users", params={"is_active": active})
        assert [user["id"] for user in response.json()] == ids
        assert response.headers["X-Total-Count"] == "1"


@pytest.mark.parametrize("users", [0, 1, 2, 3, 4, 5, 6, 7])
def test_pages(client: TestClient, users: int) -> None:
    create(client, *({"name": f"N{i}", "email": f"n{i}@example.com"} for i in range(users)))
    for page_size in (1, 2, 3, 7, 1000):
        walked: list[int] = []
        pages = 0
        next_page: str | None = f"/users?query=n&page_size={page_size}"
        while next_page:
            response = client.get(next_page)
            walked += [user["id"] for user in response.json()]
            pages += 1
            assert response.headers["X-Total-Count"] == str(users)
            assert ("prev" in response.links) == (pages > 1)
            next_page = response.links.get("next", {}).get("url")
        assert walked == list(range(1, users + 1))
        assert pages == max(1, -(-users // page_size))
        assert client.get(response.links["last"]["url"]).json() == response.json()
        first = client.get(response.links["first"]["url"])
        assert [user["id"] for user in first.json()] == walked[:page_size]


@pytest.mark.parametrize("users", [0, 1, 2, 3, 4, 5, 6, 7])
def test_pages_one_after_the_other(client: TestClient, users: int) -> None:
    create(client, *({"name": f"N{i}", "email": f"n{i}@example.com"} for i in range(users)))
    for page_size in (1, 2, 3, 7, 1000):
        walked: list[int] = []
        next_page: str | None = f"/users?query=n&page_size={page_size}&after=0"
        while next_page:
            response = client.get(next_page)
            walked += [user["id"] for user in response.json()]
            assert "X-Total-Count" not in response.headers
            next_page = response.links.get("next", {}).get("url")
        assert walked == list(range(1, users + 1))


def test_pages_after_a_deleted_user(client: TestClient) -> None:
    create(client, ADA, BOB)
    client.delete("/users/1")
    assert [user["id"] for user in client.get("/users?after=1").json()] == [2]
    assert client.get(f"/users?after={2**63 - 1}").json() == []


def test_a_page_beyond_the_last(client: TestClient) -> None:
    create(client, ADA, BOB)
    for page in (3, 2**53):
        response = client.get("/users", params={"page_size": 1, "page": page})
        assert response.json() == []
        assert response.headers["X-Total-Count"] == "2"
        assert client.get(response.links["prev"]["url"]).json()[0]["id"] == 2
        assert "next" not in response.links


def test_links_keep_the_question(client: TestClient) -> None:
    create(client, ADA, BOB)
    asked = {"query": "a&b=%é", "is_active": "true", "order_by": "-name"}
    link = client.get("/users", params=asked).links["first"]["url"]
    assert link == "/users?query=a%26b%3D%25%C3%A9&is_active=true&order_by=-name&page=1"


def fill(connection: Connection, users: int) -> None:
    numbers = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :users)"
    row = "SELECT 'User ' || n, n || '@example.com', true FROM n"
    insert = text(f'INSERT INTO "user" (name, email, is_active) {numbers} {row}')
    connection.execute(insert, {"users": users})


def plan(engine: Engine, params: UserQuery) -> list[str]:
    """Return how the database goes about a page of 3000 users, line by line."""
    asked = parameters(params)
    statement = page_statement(params.order_by, frozenset(asked))
    sql = statement.params(asked).compile(engine, compile_kwargs={"literal_binds": True})
    with engine.begin() as connection:
        fill(connection, 3000)
        connection.execute(text("ANALYZE"))
        explain = "EXPLAIN QUERY PLAN" if engine.name == "sqlite" else "EXPLAIN ANALYZE"
        return [str(line) for line in connection.exec_driver_sql(f"{explain} {sql}")]


@pytest.mark.parametrize("order_by", ["name", "-name", "email", "-email"])
def test_an_index_serves_the_order(engine: Engine, order_by: str) -> None:
    """Nothing sorts the whole table to show a hundred rows of it."""
    index = {
        ("sqlite", "name"): "SCAN user USING INDEX ix_user_name",
        ("sqlite", "email"): "SCAN user USING INDEX sqlite_autoindex_user_1",
        ("postgresql", "name"): 'using ix_user_name on "user"',
        ("postgresql", "email"): 'using uq_user_email on "user"',
    }[engine.name, order_by.removeprefix("-")]
    assert any(index in line for line in plan(engine, UserQuery(order_by=order_by)))  # type: ignore[arg-type]


SCANS = [("nobody", 1), ("user 77", 1), ("user", 2)]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(("query", "scans"), SCANS)
def test_only_a_full_page_is_counted_postgresql(engine: Engine, query: str, scans: int) -> None:
    lines = [line for line in plan(engine, UserQuery(query=query)) if 'Scan on "user"' in line]
    assert sum("never executed" not in line for line in lines) == scans


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("query", "scans"), SCANS)
def test_only_a_full_page_is_counted_sqlite(engine: Engine, query: str, scans: int) -> None:
    """Each row that is looked at calls our lower()."""
    looked_at: list[str] = []

    def lower(text: str) -> str:
        looked_at.append(text)
        return text.lower()

    with engine.connect() as connection:
        fill(connection, 101)
        sqlite: Any = connection.connection.driver_connection
        sqlite.create_function("lower", 1, lower, deterministic=True)
        with Session(connection) as db:
            list_users(db, UserQuery(query=query))
    assert len(looked_at) == scans * 101
