"""The statements: order, filters, pages, and what they cost."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

import crud
import main
from core import lists, queries, responses
from core.engines import new_engine
from core.ids import IdsBehindError
from core.lists import count_statement, page_statement, values_of
from core.queries import ListQuery
from database import SessionLocal
from models import User
from schemas import UserBody
from tests.users import ADA, BOB, create

UserQuery = crud.users.query_model


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
    assert ordered == ids


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
        ("é%", []),
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


NAMES = ["ÉRIC", "éric", "Οδυσσέας", "ΟΔΥΣΣΈΑΣ", "İstanbul", "Straße", "王芳", "Ёлкина", "é", "👩"]
SPECIAL = '%_*[]^?"/\\-!'


@pytest.mark.parametrize("name", [*NAMES, *SPECIAL, *(f"x{each}éx" for each in SPECIAL)])
def test_a_search_finds_what_is_written(client: TestClient, name: str) -> None:
    """As it is, within a longer name, or in another case; and nothing else."""
    create(client, {"name": name, "email": "n@example.com"}, {"name": "Ixyz 12", "email": "o@o.de"})
    create(client, {"name": f"12{name}12", "email": "long@example.com"})

    def found(query: str) -> list[int]:
        return [user["id"] for user in client.get("/users", params={"query": query}).json()]

    assert found(name) == [1, 3]
    assert found(f"2{name}1") == [3]
    assert found(f"{name}x") == []
    for other in (name.upper(), name.lower()):
        if len(other) == len(name):  # the capitals of ß are two letters, İ has no single small one
            assert found(other) == [1, 3], other


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


ORDERS = ["id", "-id", "name", "-name", "email", "-email"]


def walk(client: TestClient, start: str, between: Callable[[list[int]], object] = id) -> list[int]:
    """Return the ids of all users from a page on; what is seen so far is told between pages."""
    walked: list[int] = []
    page: str | None = start
    while page:
        between(walked)
        response = client.get(page)
        assert response.status_code == 200, response.text
        walked += [user["id"] for user in response.json()]
        assert ("X-Total-Count" in response.headers) == ("after=" not in page)
        page = response.links.get("next", {}).get("url")
    return walked


@pytest.mark.parametrize("order_by", ORDERS)
@pytest.mark.parametrize(
    "question", ["", "&query=n", "&query=É", "&is_active=true", "&is_active=false"]
)
def test_pages_one_after_the_other(client: TestClient, order_by: str, question: str) -> None:
    """In each order, as on one page with all of them, also where names are the same."""
    names = ["Nn", "É", "Nn", "n", "én", "Nn", "a", "É", "Nn"]
    create(client, *({"name": n, "email": f"{9 - i}@example.com"} for i, n in enumerate(names)))
    for user_id in (2, 3, 5, 9):
        client.patch(f"/users/{user_id}", json={"is_active": False})
    question += f"&order_by={order_by}"
    everybody = [user["id"] for user in client.get(f"/users?page_size=1000{question}").json()]
    assert len(everybody) > 2
    for page_size in (1, 2, 3, 1000):
        assert walk(client, f"/users?after=0&page_size={page_size}{question}") == everybody
        assert walk(client, f"/users?page_size={page_size}{question}") == everybody


@pytest.mark.parametrize("order_by", ORDERS)
def test_pages_while_others_write(client: TestClient, order_by: str) -> None:
    """Whoever is there all the time is seen exactly once; whoever comes, at most once."""
    create(client, *({"name": f"N{i % 3}", "email": f"n{i}@example.com"} for i in range(20)))
    deleted: list[int] = []

    def write(walked: list[int]) -> None:
        unseen = (user_id for user_id in (3, 9, 15, 16) if user_id not in (*walked[-1:], *deleted))
        if user_id := next(unseen, None):
            client.delete(f"/users/{user_id}")
            deleted.append(user_id)
            create(client, {"name": f"N{user_id % 3}", "email": f"new{user_id}@example.com"})

    walked = walk(client, f"/users?after=0&page_size=3&order_by={order_by}", write)
    assert len(walked) == len(set(walked))
    assert len(deleted) == 4
    assert set(range(1, 21)) - set(deleted) <= set(walked)


@pytest.mark.parametrize("order_by", ORDERS)
def test_pages_after_a_deleted_user(
    client: TestClient, order_by: str, statements: list[str]
) -> None:
    create(client, ADA, BOB, ADA | {"email": "another@example.com"})
    client.delete("/users/2")
    for gone in (2, 99, 2**63 - 1):
        statements.clear()
        response = client.get("/users", params={"after": gone, "order_by": order_by})
        if order_by in ("id", "-id"):  # ids go on without the user
            ids = [1, 3] if order_by == "id" else [3, 1]
            left = [user_id for user_id in ids if (user_id > gone) == (order_by == "id")]
            assert [user["id"] for user in response.json()] == left
        else:
            assert response.status_code == 422
            assert response.json()["detail"] == [
                {
                    "type": "value_error",
                    "loc": ["query", "after"],
                    "msg": "No user has this id any more: begin again, with after=0",
                }
            ]
            assert len(statements) == 2
    # At the end of the list, nobody is left; that is no mistake.
    for last in (1, 3):
        assert client.get(f"/users?order_by={order_by}&after={last}").status_code == 200


def test_a_page_beyond_the_last(client: TestClient) -> None:
    create(client, ADA, BOB)
    for page in (3, 10_000):
        response = client.get("/users", params={"page_size": 1, "page": page})
        assert response.json() == []
        assert response.headers["X-Total-Count"] == "2"
        assert client.get(response.links["prev"]["url"]).json()[0]["id"] == 2
        assert "next" not in response.links


@pytest.fixture
def counted_to_four(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let pages have numbers up to user number 4, in place of 10,000."""
    for module in (lists, queries, responses):
        monkeypatch.setattr(module, "COUNTED", 4)
    for built in (page_statement, count_statement):
        built.cache_clear()
    yield
    for built in (page_statement, count_statement):
        built.cache_clear()


@pytest.mark.usefixtures("counted_to_four")
@pytest.mark.parametrize("question", ["", "&query=n", "&is_active=true&order_by=-name"])
@pytest.mark.parametrize("users", [3, 4, 5, 9])
def test_pages_have_numbers_as_far_as_users_are_counted(
    client: TestClient, users: int, question: str
) -> None:
    create(client, *({"name": f"N{i}", "email": f"n{i}@example.com"} for i in range(users)))
    ids = [user["id"] for user in client.get(f"/users?page_size=1000{question}").json()]
    for page_size in (1, 2, 3, 7):
        for page in range(1, 9):
            response = client.get(f"/users?page={page}&page_size={page_size}{question}")
            skipped = (page - 1) * page_size
            if skipped >= 4:
                assert response.status_code == 422
                assert "walk the list from after=0 on" in response.json()["detail"][0]["msg"]
                continue
            assert [user["id"] for user in response.json()] == ids[skipped : skipped + page_size]
            assert response.headers["X-Total-Count"] == str(min(users, 4))
            assert ("last" in response.links) == (users <= 4)
            assert ("next" in response.links) == (users > skipped + page_size)
            if "last" in response.links:
                assert client.get(response.links["last"]["url"]).status_code == 200
        assert walk(client, f"/users?page_size={page_size}{question}") == ids


def test_links_keep_the_question(client: TestClient) -> None:
    create(client, ADA, BOB)
    asked = {"query": "a&b=%é", "is_active": "true", "order_by": "-name"}
    link = client.get("/users", params=asked).links["first"]["url"]
    assert link == "/users?query=a%26b%3D%25%C3%A9&is_active=true&order_by=-name&page=1"


def fill(connection: Connection, users: int) -> None:
    numbers = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :users)"
    row = "SELECT 'User ' || n, n || '@example.com', n % 2 > 0 FROM n"
    insert = text(f'INSERT INTO "user" (name, email, is_active) {numbers} {row}')
    connection.execute(insert, {"users": users})


# What SQLite believes: how many users there were at the last ANALYZE, and how many of the first.
STATISTICS = {"none": 0, "one": 1, "ten": 10, "now": 3000}


def plan(
    engine: Engine, params: ListQuery, analyze: str = "", statistics: str = "none"
) -> list[str]:
    """Return how the database goes about a page of 3000 users, half of them inactive."""
    users = crud.users
    with Session(engine) as db:
        asked = values_of(db, users.listing, params)
    names = frozenset(asked)
    statement = page_statement(users.listing, users.columns, params.order_by, names)
    sql = statement.params(asked).compile(engine, compile_kwargs={"literal_binds": True})
    explain = "EXPLAIN QUERY PLAN" if engine.name == "sqlite" else f"EXPLAIN {analyze}"
    with engine.begin() as connection:
        before = STATISTICS[statistics] if engine.name == "sqlite" else 3000
        if before:
            fill(connection, before)
            if statistics == "ten":
                connection.execute(text('UPDATE "user" SET is_active = id > 4'))
            connection.execute(text("ANALYZE"))
        if before < 3000:
            connection.execute(text('DELETE FROM "user"'))
            fill(connection, 3000)
        return [str(line) for line in connection.exec_driver_sql(f"{explain} {sql}")]


@pytest.mark.parametrize("is_active", [None, True, False])
@pytest.mark.parametrize("after", [None, 1500])
@pytest.mark.parametrize("order_by", ORDERS)
@pytest.mark.parametrize(
    ("url", "statistics"),
    [("postgresql", "now"), *(("sqlite", statistics) for statistics in STATISTICS)],
    indirect=["url"],
)
def test_an_index_serves_the_order(
    engine: Engine, order_by: str, after: int | None, is_active: bool | None, statistics: str
) -> None:
    """Nothing sorts, counts or looks at the whole table to show a hundred rows of it.

    Whatever SQLite believes to know.
    """
    query = {"order_by": order_by, "after": after, "is_active": is_active}
    lines = plan(engine, UserQuery.model_validate(query), statistics=statistics)
    key = order_by.removeprefix("-")
    if engine.name == "sqlite":
        usual = {"id": "SCAN user'", "name": "ix_user_name_id", "email": "sqlite_autoindex_user_1"}
        if after and key == "id":
            usual["id"] = "PRIMARY KEY (rowid"
    else:
        usual = {"id": "pk_user", "name": "ix_user_name_id", "email": "uq_user_email"}
    served_by = [usual[key]]
    if is_active is not None:
        served_by = [f"ix_user_is_active_{key}"]
    if is_active is not None and key == "id" and engine.name == "postgresql":
        served_by.append("pk_user")  # as good, if half of the users are found there
    assert any(index in line for line in lines for index in served_by), lines
    # The page itself is sorted once more, behind the CTE.
    sorts = [line for line in lines if "TEMP B-TREE" in line or "Sort Key" in line]
    # And SQLite sorts once more what it reads in order, if it takes all of it for one row.
    again = statistics == "one" and is_active is True and key != "id"
    assert len(sorts) <= (after is None) + again, lines


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("query", ["zzzz", "é"])
@pytest.mark.parametrize("order_by", ["id", "name", "-email"])
@pytest.mark.parametrize("statistics", STATISTICS)
def test_a_search_reads_users_as_they_are_stored(
    engine: Engine, query: str, order_by: str, statistics: str
) -> None:
    """To look all of them up along an index would take SQLite ten times as long."""
    asked = UserQuery.model_validate({"query": query, "order_by": order_by})
    lines = plan(engine, asked, statistics=statistics)
    assert any("SCAN user'" in line for line in lines)
    assert not any("INDEX" in line for line in lines)


SCANS = [("nobody", 1), ("user 77", 1), ("user", 2)]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(("query", "scans"), SCANS)
def test_only_a_full_page_is_counted_postgresql(engine: Engine, query: str, scans: int) -> None:
    lines = plan(engine, UserQuery.model_validate({"query": query}), "ANALYZE")
    used = [line for line in lines if 'Scan on "user"' in line or 'on "user"' in line]
    assert sum("never executed" not in line for line in used) == scans


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("query", "scans"), SCANS)
def test_only_a_full_page_is_counted_sqlite(engine: Engine, query: str, scans: int) -> None:
    """Each name that is looked at is compared by the function that LIKE stands for."""
    looked_at: list[str] = []

    def like(pattern: str, text: str, escape: str) -> bool:
        if text.startswith("User"):
            looked_at.append(text)
        return pattern.strip("%") in text.lower()

    with engine.connect() as connection:
        fill(connection, 101)
        sqlite: Any = connection.connection.driver_connection
        sqlite.create_function("like", 3, like, deterministic=True)
        with Session(connection) as db:
            crud.list_users(db, UserQuery.model_validate({"query": query}))
    assert len(looked_at) == scans * 101


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("ids", [[1], [1, 2], [1, 5]], ids=str)
def test_ids_go_on_after_those_of_an_import(
    client: TestClient, engine: Engine, ids: list[int], statements: list[str]
) -> None:
    """As by psql, which leaves the sequence where it was; the next POST works, and so do others."""
    rows = "".join(f"{number},N,n{number}@example.com,true\n" for number in ids)
    raw = engine.raw_connection()
    driver: Any = raw.driver_connection
    with driver.cursor().copy('COPY "user" FROM STDIN (FORMAT csv)') as copy:
        copy.write(rows)
    raw.commit()
    raw.close()
    answers = [client.post("/users", json=ADA), client.post("/users", json=BOB)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert [answer.json()["id"] for answer in answers] == [max(ids) + 1, max(ids) + 2]
    statements.clear()
    bulk = [{"name": "N", "email": f"more{n}@example.com"} for n in range(3)]
    assert client.post("/users/bulk", json=bulk).status_code == 201
    assert len(statements) == 2  # for the ids and the rows; nothing is asked once more
    assert client.post("/users", json=ADA).status_code == 409


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_ids_of_somebody_who_has_written_before(engine: Engine) -> None:
    """A second try would lose what was written, so it is an error; the next try works."""
    with SessionLocal.begin() as db:
        db.add(User(id=2, name="Bob", email="bob@example.com", is_active=True))
        db.add(User(id=1, name="N", email="n@example.com", is_active=True))
    body = UserBody.model_validate(ADA)
    rename = text("UPDATE \"user\" SET name = 'Eve' WHERE id = 2")
    with SessionLocal() as db:
        db.execute(rename)
        with pytest.raises(IdsBehindError, match="go on after 2 now: try again"):
            crud.create_user(db, body)
    with SessionLocal.begin() as db:
        db.execute(rename)
        crud.create_user(db, body)
    with SessionLocal() as db:
        assert [row.id for row in db.query(User).order_by(User.id)] == [1, 2, 3]
        assert db.get_one(User, 2).name == "Eve"


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_ids_where_the_role_may_not_change_the_sequence(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the statement that mends it."""
    role = f"role_{uuid4().hex}"
    with engine.begin() as connection:
        schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
        for statement in (
            "INSERT INTO \"user\" SELECT n, 'N', n || '@x.de', true FROM generate_series(1, 9) n",
            f"CREATE ROLE {role} LOGIN",
            f"GRANT USAGE ON SCHEMA {schema} TO {role}",
            f'GRANT SELECT, INSERT ON "user" TO {role}',
            f"GRANT SELECT ON alembic_version TO {role}",
            f"GRANT USAGE ON SEQUENCE user_id_seq TO {role}",
        ):
            connection.exec_driver_sql(statement)
    other = new_engine(engine.url.set(username=role))
    SessionLocal.configure(bind=other)
    answer = TestClient(main.app).post("/users", json=ADA)
    other.dispose()
    assert answer.status_code == 503
    assert "SELECT setval('" in caplog.text
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")
