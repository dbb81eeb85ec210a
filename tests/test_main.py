"""The contract of the API, call by call."""

import itertools
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import EmailStr, TypeAdapter, ValidationError
from sqlalchemy import Engine, event
from sqlalchemy.exc import IntegrityError

from core.letters import in_small_letters
from database import SessionLocal
from main import app
from models import User
from schemas import Email, domains
from tests.users import ADA, BOB, create, everything


@pytest.mark.parametrize("path", ["/users", "/users/"])
def test_no_users(client: TestClient, path: str) -> None:
    response = client.get(path, follow_redirects=False)
    assert response.status_code == 200
    assert response.json() == []
    assert response.headers["X-Total-Count"] == "0"


@pytest.mark.parametrize(("path", "status"), [("/user", 200), ("/users", 201), ("/users/", 201)])
def test_create(client: TestClient, path: str, status: int) -> None:
    response = client.post(path, json=ADA)
    assert response.status_code == status
    assert response.json() == {"id": 1, **ADA, "is_active": True}
    assert response.headers["Location"] == "/users/1"
    assert client.get(response.headers["Location"]).json() == response.json()


def test_create_trims_the_name(client: TestClient) -> None:
    assert client.post("/user", json=ADA | {"name": " Ada\n"}).json()["name"] == "Ada"


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("Ada@Example.COM", "ada@example.com"),
        ("ZOÉ@ÉCOLE.example.com", "zoÉ@école.example.com"),  # a domain has no capitals at all
        ("ΟΔΟΣ@example.com", "ΟΔΟΣ@example.com"),
        ("İI@example.com", "İi@example.com"),
    ],
)
def test_emails_are_stored_in_small_letters(client: TestClient, typed: str, stored: str) -> None:
    """A to Z; what others become depends on a language."""
    body = {"name": "Ada", "email": typed}
    assert client.post("/user", json=body).json()["email"] == stored
    assert client.put("/users/1", json=body).json()["email"] == stored
    assert client.patch("/users/1", json={"email": typed}).json()["email"] == stored
    for email in (typed, stored):
        another = {"name": "Another", "email": email}
        assert client.post("/users/bulk", json=[BOB, another]).status_code == 409
        twice = client.post("/users/bulk", json=[BOB, another, {**another, "email": typed}])
        assert twice.status_code == 422
    assert [user["email"] for user in client.get("/users").json()] == [stored]


def test_location_behind_a_prefix(engine: Engine) -> None:
    response = TestClient(app, root_path="/api").post("/users", json=ADA)
    assert response.headers["Location"] == "/api/users/1"


@pytest.mark.parametrize("path", ["/user", "/users"])
@pytest.mark.parametrize("email", ["ada@example.com", "ADA@EXAMPLE.COM", "Ada@Example.com"])
def test_create_with_a_taken_email(client: TestClient, path: str, email: str) -> None:
    create(client, ADA)
    before = everything(client)
    response = client.post(path, json={"name": "Another", "email": email})
    assert response.status_code == 409
    assert response.json() == {"detail": "Email already registered"}
    assert everything(client) == before


def test_a_domain_that_is_known_changes_nothing() -> None:
    """The second address of a domain is as right or wrong as the first one."""
    ends = ["example.com", "EXAMPLE.com", "école.fr", "xn--cole-9oa.fr", "a", "x.test", "-x.de", ""]
    ends += [f"{'d' * 60}.{'e' * 60}.{'f' * 60}.de", "[127.0.0.1]", "example.com ", "a..de"]
    starts = ["a", "A.b+c_d-e", ".a", "a.", "a..b", "é", "a b", '"a b"', "", "x" * 64, "x" * 65]
    starts += ["postmaster", "a@b", "Ada <a", "\ud800", "a\n", "o'neil", "a\u0301"]
    email, plain = TypeAdapter(Email), TypeAdapter(EmailStr)
    for end, start in itertools.product(ends, ["a", *starts]):
        outcomes = []
        for kind in (email, plain):
            try:
                outcomes.append(in_small_letters(kind.validate_python(f"{start}@{end}")))
            except ValidationError:
                outcomes.append("")
        typed = f"{start}@{end}"
        if "<" not in typed and len(typed) <= 254:
            assert outcomes[0] == outcomes[1], typed
    assert "example.com" in domains


def test_letters_beyond_a_to_z_are_what_they_are(client: TestClient) -> None:
    """In the address; a search finds them in any case."""
    create(client, *({"name": "Z", "email": f"{zoe}@example.com"} for zoe in ("zoé", "ZOÉ")))
    response = client.post("/user", json={"name": "Z", "email": "Zoé@example.com"})
    assert response.status_code == 409
    found = client.get("/users", params={"query": "ZOÉ@"}).json()
    assert [user["email"] for user in found] == ["zoé@example.com", "zoÉ@example.com"]


@pytest.mark.parametrize("path", ["/user?user_id=1", "/users/1"])
def test_read(client: TestClient, path: str) -> None:
    create(client, ADA)
    response = client.get(path)
    assert response.status_code == 200
    assert response.json() == {"id": 1, **ADA, "is_active": True}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/user?user_id=7", None),
        ("GET", "/users/7", None),
        ("GET", f"/users/{2**63 - 1}", None),
        ("POST", "/user/7", BOB),
        ("PUT", "/users/7", BOB),
        ("PATCH", "/users/7", {"name": "Bob"}),
        ("PATCH", "/users/7", {}),
        ("DELETE", "/user?user_id=7", None),
        ("DELETE", "/users/7", None),
    ],
)
def test_unknown_user(client: TestClient, method: str, path: str, body: object) -> None:
    create(client, ADA)
    before = everything(client)
    response = client.request(method, path, json=body)
    assert response.status_code == 404
    assert response.json() == {"detail": "User not found"}
    assert everything(client) == before


@pytest.mark.parametrize(("method", "path"), [("POST", "/user/1"), ("PUT", "/users/1")])
def test_replace(client: TestClient, method: str, path: str) -> None:
    create(client, ADA)
    client.patch("/users/1", json={"is_active": False})
    response = client.request(method, path, json=BOB)
    assert response.status_code == 200
    assert response.json() == {"id": 1, **BOB, "is_active": False}
    assert client.get("/users/1").json() == response.json()


def test_replace_writes_every_field(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that UserBody may get one day."""
    create(client, ADA)
    monkeypatch.setattr(
        "schemas.UserBody.model_dump", lambda body, **options: BOB | {"is_active": False}
    )
    assert client.put("/users/1", json=BOB).json() == {"id": 1, **BOB, "is_active": False}
    assert client.get("/users/1").json() == {"id": 1, **BOB, "is_active": False}


@pytest.mark.parametrize(
    "changes",
    [{}, {"name": "Augusta"}, {"email": "augusta@example.com"}, {"is_active": False}, BOB],
)
def test_change(client: TestClient, changes: dict[str, object]) -> None:
    create(client, ADA)
    response = client.patch("/users/1", json=changes)
    assert response.status_code == 200
    assert response.json() == {"id": 1, **ADA, "is_active": True} | changes
    assert client.get("/users/1").json() == response.json()


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/user/2"), ("PUT", "/users/2"), ("PATCH", "/users/2")]
)
def test_change_to_a_taken_email(client: TestClient, method: str, path: str) -> None:
    create(client, ADA, BOB)
    before = everything(client)
    response = client.request(method, path, json=BOB | {"email": "ADA@example.com"})
    assert response.status_code == 409
    assert response.json() == {"detail": "Email already registered"}
    assert everything(client) == before


@pytest.mark.parametrize("path", ["/user?user_id=1", "/users/1"])
def test_delete(client: TestClient, path: str) -> None:
    create(client, ADA, BOB)
    response = client.delete(path)
    assert response.status_code == 200
    assert response.json() == {"detail": "User deleted"}
    assert everything(client) == [{"id": 2, **BOB, "is_active": True}]


def test_ids_are_never_used_twice(client: TestClient) -> None:
    create(client, ADA, BOB)
    client.delete("/users/2")
    assert create(client, BOB) == [3]


def test_bulk_keeps_the_order(client: TestClient) -> None:
    bodies = [{"name": f"N{i}", "email": f"{i}@example.com"} for i in range(1000, 0, -1)]
    response = client.post("/users/bulk", json=bodies)
    assert response.status_code == 201
    created = response.json()
    assert [{"name": user["name"], "email": user["email"]} for user in created] == bodies
    assert all(user["is_active"] for user in created)
    assert everything(client) == created  # the ids are in that order, too


@pytest.mark.parametrize(
    ("wrong", "status"), [(ADA, 409), (BOB | {"email": "BOB@example.com"}, 422)]
)
def test_bulk_is_all_or_nothing(client: TestClient, wrong: dict[str, str], status: int) -> None:
    create(client, ADA)
    before = everything(client)
    response = client.post("/users/bulk", json=[BOB, wrong])
    assert response.status_code == status
    assert everything(client) == before


# ---- Two people edit the same user


@pytest.mark.parametrize("path", ["/user?user_id=1", "/users/1"])
def test_what_a_client_has_already_is_not_sent(client: TestClient, path: str) -> None:
    create(client, ADA, BOB)
    tag = client.get("/users/1").headers["ETag"]
    assert client.get(path).headers["ETag"] == tag != client.get("/users/2").headers["ETag"]
    for sent in (tag, f'"x", {tag}', f"W/{tag}"):  # a proxy that compresses puts W/ before it
        response = client.get(path, headers={"If-None-Match": sent})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["ETag"] == tag
    changed = client.patch("/users/1", json={"is_active": False})
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 200
    assert changed.headers["ETag"] == client.get(path).headers["ETag"] != tag


EDITS = [
    ("PUT", "/users/1", BOB),
    ("POST", "/user/1", BOB),
    ("PATCH", "/users/1", {"name": "Bob"}),
    ("PATCH", "/users/1", {}),
    ("DELETE", "/users/1", None),
    ("DELETE", "/user?user_id=1", None),
]


@pytest.mark.parametrize(("method", "path", "body"), EDITS)
def test_only_if_it_is_still_that_user(
    client: TestClient, method: str, path: str, body: object
) -> None:
    create(client, ADA)
    tag = client.get("/users/1").headers["ETag"]
    client.patch("/users/1", json={"name": "Augusta"})
    before = everything(client)
    for stale in (tag, '"x"', f'"x", {tag}', "", f"W/{client.get('/users/1').headers['ETag']}"):
        response = client.request(method, path, json=body, headers={"If-Match": stale})
        assert response.status_code == 412
        assert response.json() == {"detail": "User has changed since: read it again"}
        assert everything(client) == before
    now = f'"x", {client.get("/users/1").headers["ETag"]}'
    assert client.request(method, path, json=body, headers={"If-Match": now}).status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), EDITS)
def test_any_user_or_none(client: TestClient, method: str, path: str, body: object) -> None:
    for tag in ("*", '"x"'):
        response = client.request(method, path, json=body, headers={"If-Match": tag})
        assert response.status_code == 404
    create(client, ADA)
    assert client.request(method, path, json=body, headers={"If-Match": "*"}).status_code == 200


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("method", "path", "body"), [EDITS[0], EDITS[2], EDITS[4]])
def test_a_row_that_does_not_read_back_as_it_is_stored(
    client: TestClient, engine: Engine, method: str, path: str, body: object
) -> None:
    """From a browser for SQLite, say; the table refuses that, unless it is told not to."""
    create(client, ADA)
    update = 'UPDATE "user" SET is_active = 2'
    with engine.connect() as connection, pytest.raises(IntegrityError, match="ck_user_is_active"):
        connection.exec_driver_sql(update)
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        connection.exec_driver_sql(update)
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")
    tag = client.get("/users/1").headers["ETag"]
    other = {"If-Match": tag.replace(tag[1:4], "xyz")}
    assert client.request(method, path, json=body, headers=other).status_code == 412
    response = client.request(method, path, json=body, headers={"If-Match": tag})
    assert response.status_code == 200


def test_health(client: TestClient) -> None:
    response = client.get("/health")
    assert response.status_code == 200
    assert response.json() == {"detail": "The database answers"}


def test_livez(client: TestClient, statements: list[str]) -> None:
    statements.clear()
    response = client.get("/livez")
    assert response.status_code == 200
    assert response.json() == {"detail": "The app is running"}
    assert statements == []


def test_home(client: TestClient) -> None:
    response = client.get("/", follow_redirects=False)
    assert response.status_code == 307
    assert response.headers["Location"] == "/docs"


def test_the_number_of_statements(client: TestClient, statements: list[str]) -> None:
    client.get("/users?query=a")  # the first one asks PostgreSQL for its language

    def sent(method: str, path: str, json: object = None) -> list[str]:
        statements.clear()
        assert client.request(method, path, json=json).status_code < 500
        return [statement.split()[0] for statement in statements]

    assert sent("POST", "/user", ADA) == ["INSERT"]
    assert sent("POST", "/user", ADA) == ["INSERT"]
    assert sent("POST", "/users", BOB) == ["INSERT"]
    bulk = [{"name": "N", "email": f"{i}@example.com"} for i in range(1000)]
    # SQLite, where a statement is no round trip, returns rows in order only one by one.
    inserts = 1000 if SessionLocal().get_bind().dialect.name == "sqlite" else 1
    ids = [] if inserts > 1 else ["SELECT"]
    assert sent("POST", "/users/bulk", bulk) == [*ids, *["INSERT"] * inserts]
    assert sent("GET", "/user?user_id=1") == ["SELECT"]
    assert sent("GET", "/users/99999") == ["SELECT"]
    assert sent("GET", "/users") == ["WITH"]
    assert sent("GET", "/users?page_size=1000&page=2") == ["WITH"]
    assert sent("GET", "/users?page_size=1000&page=3") == ["WITH", "SELECT"]
    assert sent("GET", "/users?query=ada") == ["WITH"]
    assert sent("GET", "/users?query=nobody") == ["WITH"]
    assert sent("PUT", "/users/1", ADA) == ["UPDATE"]
    assert sent("POST", "/user/1", ADA) == ["UPDATE"]
    assert sent("PATCH", "/users/1", {"name": "Augusta"}) == ["UPDATE"]
    assert sent("PATCH", "/users/1", {}) == ["SELECT"]
    assert sent("DELETE", "/users/1") == ["DELETE"]
    assert sent("DELETE", "/user?user_id=1") == ["DELETE"]
    assert sent("GET", "/users?after=0&page_size=1") == ["SELECT"]
    assert sent("POST", "/user", {}) == []
    assert sent("GET", "/docs") == []


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.skipif(sys.platform != "linux", reason="only there libpq writes a trace")
def test_the_number_of_round_trips(client: TestClient, engine: Engine, tmp_path: Path) -> None:
    """How often a call waits for PostgreSQL; SQLite is not at the other end of a wire."""
    client.get("/users?query=a")  # the first one asks PostgreSQL for its language
    engine.dispose()  # psycopg has prepared statements on it, and after DDL drops them, once
    trace = tmp_path / "trace"
    with trace.open("wb") as file:

        def start_trace(connection: object, record: Any, proxy: object) -> None:
            record.driver_connection.pgconn.trace(file.fileno())

        event.listen(Engine, "checkout", start_trace)

        def round_trips(method: str, path: str, json: object = None) -> int:
            file.truncate(0)
            assert client.request(method, path, json=json).status_code < 500
            # What we sent (F), each time we then waited: a Query, or a Sync after others.
            return len(re.findall(r"F\t\d+\t(?:Query|Sync)", trace.read_text()))

        # The async twin does all in transactions: BEGIN, the statement, COMMIT or ROLLBACK.
        create = read = 1 if client.app is app else 3
        assert round_trips("POST", "/user", ADA) == create
        assert round_trips("POST", "/user", ADA) == create
        assert round_trips("POST", "/users/bulk", [BOB]) == 3
        assert round_trips("GET", "/user?user_id=1") == read
        assert round_trips("GET", "/users/99999") == read
        assert round_trips("GET", "/users") == read
        assert round_trips("GET", "/users?page_size=1&page=2&query=a&order_by=-name") == read
        assert round_trips("GET", "/users?page_size=1&after=0") == read
        assert round_trips("GET", "/users?page=9") == read + 1
        assert round_trips("PUT", "/users/1", ADA) == 3
        assert round_trips("PATCH", "/users/1", {"name": "Augusta"}) == 3
        assert round_trips("DELETE", "/users/1") == 3
        assert round_trips("POST", "/user", {}) == 0
        event.remove(Engine, "checkout", start_trace)


def test_classic_code(client: TestClient) -> None:
    """The lines that every tutorial has run here as they are."""
    db = SessionLocal()
    user = User(name="Ada", email="ada@example.com")
    db.add(user)
    db.commit()
    db.refresh(user)
    assert user.id == 1
    assert db.query(User).all() == [user]
    assert db.query(User).filter(User.email == "ada@example.com").first() is user
    user.name = "Augusta"
    db.rollback()
    assert user.name == "Ada"
    db.delete(user)
    db.commit()
    db.close()
    assert everything(client) == []
