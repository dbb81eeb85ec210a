"""Bad input gets a clear answer and changes nothing."""

import gzip
import json
import traceback
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from pydantic import BaseModel
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError, IntegrityError, NotSupportedError

import database
from core.errors import HANDLERS
from core.startup import create_app
from database import SessionDep
from main import app
from models import User
from tests.users import ADA, BOB, create, everything

JSON = {"Content-Type": "application/json"}

BAD_BODIES = [
    {},
    {"name": "Bob"},
    {"email": "bob@example.com"},
    BOB | {"name": ""},
    BOB | {"name": " \t"},
    BOB | {"name": "x" * 101},
    BOB | {"name": "a\0b"},
    BOB | {"name": "a\x1b[2Jb"},
    BOB | {"name": "a\nb"},
    BOB | {"name": "a\x7fb"},
    BOB | {"name": "a\x9bb"},
    BOB | {"name": None},
    BOB | {"name": 7},
    BOB | {"name": ["Bob"]},
    BOB | {"email": ""},
    BOB | {"email": "bob"},
    BOB | {"email": "bob@"},
    BOB | {"email": "bob@example"},
    BOB | {"email": "b\0b@example.com"},
    BOB | {"email": f"{'b' * 64}@{'e' * 63}.{'e' * 63}.{'e' * 63}.com"},
    BOB | {"email": "bob@" + "ü." * 21 + "org"},
    BOB | {"email": None},
    [BOB],
    "Bob",
    7,
    None,
]


@pytest.mark.parametrize("body", BAD_BODIES)
def test_bad_body(client: TestClient, body: object) -> None:
    create(client, ADA)
    before = everything(client)
    for method, path in [("POST", "/user"), ("POST", "/users"), ("PUT", "/users/1")]:
        response = client.request(method, path, json=body)
        assert response.status_code == 422
        assert set(response.json()["detail"][0]) == {"type", "loc", "msg"}
    assert everything(client) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"name": None},
        {"email": None},
        {"is_active": None},
        {"is_active": "maybe"},
        {"is_activ": False},
        {"id": 7},
        {"name": "Eve", "mail": "eve@example.com"},
        {"name": ""},
        [],
    ],
)
def test_bad_changes(client: TestClient, changes: object) -> None:
    create(client, ADA)
    before = everything(client)
    assert client.patch("/users/1", json=changes).status_code == 422
    assert everything(client) == before


@pytest.mark.parametrize("bodies", [[], [BOB] * 1001, [BOB, {}], {}, None])
def test_bad_bulk(client: TestClient, bodies: object) -> None:
    assert client.post("/users/bulk", json=bodies).status_code == 422
    assert everything(client) == []


WRONG_COLUMNS = {"Name": "Bob", "E-mail": "bob@example.com", "Phone": 1}


@pytest.mark.parametrize("wrong", [20, 21, 1000])
def test_the_first_mistakes_of_many(client: TestClient, wrong: int) -> None:
    """Each row has five. To write them all down would make everybody else wait."""
    good = [{"name": "N", "email": f"n{n}@example.com"} for n in range(1000 - wrong)]
    answer = client.post("/users/bulk", json=good + [WRONG_COLUMNS] * wrong)
    assert answer.status_code == 422
    *mistakes, last = answer.json()["detail"]
    places = [
        ["body", row, name]
        for row in range(1000 - wrong, 1000)
        for name in ("name", "email", *WRONG_COLUMNS)
    ]
    if wrong == 20:
        assert [*mistakes, last] == [
            {"type": mistake["type"], "loc": place, "msg": mistake["msg"]}
            for mistake, place in zip([*mistakes, last], places, strict=True)
        ]
    else:
        assert [mistake["loc"] for mistake in mistakes] == places[:100]
        assert {mistake["type"] for mistake in mistakes} == {"missing", "extra_forbidden"}
        assert last == {
            "type": "too_many_mistakes",
            "loc": ["body"],
            "msg": f"{wrong * 5} mistakes: above are the first 100",
        }
    assert everything(client) == []


@pytest.mark.parametrize("fields", [101, 90_000])
def test_more_fields_than_any_table_has(client: TestClient, fields: int) -> None:
    create(client, ADA)
    body = ADA | {f"f{number}": 1 for number in range(fields - 2)}
    for method, path, sent in (
        ("POST", "/user", body),
        ("PUT", "/users/1", body),
        ("PATCH", "/users/1", body),
        ("POST", "/users/bulk", [body]),
    ):
        answer = client.request(method, path, json=sent)
        assert answer.status_code == 422
        (mistake,) = answer.json()["detail"]
        assert mistake["msg"] == f"Object should have at most 100 fields, not {fields}"


def test_mistakes_of_an_endpoint_of_ones_own() -> None:
    """Whose schema has no limits: at least the answer has one."""
    app = FastAPI(exception_handlers=HANDLERS)

    @app.post("/numbers")
    def add(numbers: list[int]) -> int:
        return sum(numbers)

    answer = TestClient(app).post("/numbers", json=["x"] * 1000)
    assert len(answer.json()["detail"]) == 101
    assert answer.json()["detail"][-1]["msg"] == "1000 mistakes: above are the first 100"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\xfd",
        b'{"name": "\\ud800", "email": "bob@example.com"}',
        b'{"name": "Bob", "email": "\\ud800@example.com"}',
        b'{"name": "Bob", "email": "bob@example.com", "\\ud800": NaN, "name": NaN}',
        b'{"name": NaN, "email": Infinity}',
        b'{"name": ' + b"1" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 900 + b"]" * 900,
    ],
    ids=lambda content: repr(content[:40]),
)
def test_garbage(client: TestClient, content: bytes) -> None:
    for path in ("/user", "/users/bulk"):
        response = client.post(path, content=content, headers=JSON)
        assert response.status_code == 422
        assert set(response.json()["detail"][0]) == {"type", "loc", "msg"}
    assert everything(client) == []


@pytest.mark.parametrize(
    ("content", "reason", "place"),
    [
        (b'{"name": "Ada" "email"', "JSON decode error: Expecting ',' delimiter", 15),
        (b"{'name'", "JSON decode error: Expecting property name enclosed in double quotes", 1),
    ],
)
def test_why_json_cannot_be_read(
    client: TestClient, content: bytes, reason: str, place: int
) -> None:
    (mistake,) = client.post("/user", content=content, headers=JSON).json()["detail"]
    assert mistake == {"type": "json_invalid", "loc": ["body", place], "msg": reason}


@pytest.mark.parametrize(
    "content",
    ['{"name": "Zoé"}'.encode("latin-1"), gzip.compress(b"{}")],
    ids=["latin-1", "gzip"],
)
def test_a_body_in_another_encoding(client: TestClient, content: bytes) -> None:
    """As PowerShell 5 sends it, or who compresses what is sent."""
    (mistake,) = client.post("/user", content=content, headers=JSON).json()["detail"]
    reason = "JSON decode error: send text in UTF-8, and nothing compressed"
    assert mistake == {"type": "json_invalid", "loc": ["body"], "msg": reason}


def test_a_body_that_is_not_declared_as_json(client: TestClient) -> None:
    """What `curl -d` does without a header; the answer says what is missing."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for headers in ({}, form):
        response = client.post("/user", content=b'{"name": "Ada"}', headers=headers)
        assert response.status_code == 422
        assert "Content-Type: application/json" in response.json()["detail"][0]["msg"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_one_mebibyte(client: TestClient, chunked: bool) -> None:
    text = b'{"name": "' + b"x" * 2**20 + b'"}'
    content = iter([text[:1000], text[1000:]]) if chunked else text
    response = TestClient(client.app).post("/user", content=content, headers=JSON)
    assert response.status_code == 413
    assert response.json() == {"detail": "Body larger than 1 MiB"}
    assert everything(client) == []


def test_a_body_of_exactly_one_mebibyte(client: TestClient) -> None:
    body = b'{"name": "Ada", "email": "ada@example.com"}'
    assert client.post("/user", content=body.ljust(2**20), headers=JSON).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/user",
        "/user?user_id=",
        "/user?user_id=x",
        "/user?user_id=0",
        "/users/x",
        "/users/-1",
        "/users/1.5",
        f"/users/{2**63}",
        f"/users/{'9' * 5000}",
        "/users?page=0",
        "/users?page=x",
        f"/users?page={10**30}",
        "/users?page_size=0",
        "/users?page_size=1001",
        "/users?order_by=is_active",
        "/users?order_by=name,email",
        "/users?is_active=maybe",
        "/users?query=%00",
        f"/users?query={'x' * 255}",
        "/users?skip=1&limit=1",
        "/users/?pagesize=1",
        "/users?after=-1",
        f"/users?after={2**63}",
        "/users?after=1&page=2",
        "/users?page=10001&page_size=1",
        "/users?page=11&page_size=1000",
        f"/users?page={10**300}",
    ],
)
def test_bad_parameters(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 422
    assert set(response.json()["detail"][0]) == {"type", "loc", "msg"}


@pytest.mark.parametrize("nothing", ["", "null"])
def test_what_a_form_or_a_client_sends_for_nothing(client: TestClient, nothing: str) -> None:
    create(client, ADA)
    for parameters in (f"is_active={nothing}&after={nothing}", f"after={nothing}&page=1"):
        answer = client.get(f"/users?{parameters}")
        assert (answer.status_code, len(answer.json())) == (200, 1)
        assert answer.headers["X-Total-Count"] == "1"


@pytest.mark.parametrize(
    ("method", "path", "sent", "name"),
    [
        ("PATCH", "/users/1", {"is_activ": False}, ["body", "is_activ"]),
        ("GET", "/users?skip=1", None, ["query", "skip"]),
    ],
)
def test_what_is_misspelt_is_named(
    client: TestClient, method: str, path: str, sent: object, name: list[str]
) -> None:
    create(client, ADA)
    (mistake,) = client.request(method, path, json=sent).json()["detail"]
    assert mistake["loc"] == name


@pytest.mark.parametrize("host", ["[", "a b", "::", ""])
def test_a_broken_host_header(client: TestClient, host: str) -> None:
    for path in ("/users", "/user/", "/"):
        response = client.get(path, headers={"Host": host}, follow_redirects=False)
        assert response.status_code in (200, 307)


@pytest.mark.parametrize(
    "statement",
    ['ALTER TABLE "user" RENAME COLUMN name TO nom', 'ALTER TABLE "user" RENAME TO utilisateur'],
)
def test_what_does_not_pass_is_no_503(engine: Engine, statement: str) -> None:
    """A missing table or column is not there one second later, either."""
    with engine.begin() as connection:
        connection.execute(text(statement))
    client = TestClient(app, raise_server_exceptions=False)
    for response in (client.get("/users"), client.post("/user", json=ADA)):
        assert response.status_code == 500
        assert response.json() == {"detail": "Internal Server Error"}


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_what_postgresql_cannot_do_is_no_503(engine: Engine) -> None:
    """Only a plan for an old table passes, of all that is a FeatureNotSupported."""
    own = FastAPI(exception_handlers=HANDLERS)

    @own.get("/")
    def lock_a_union(db: SessionDep) -> None:
        db.execute(text("SELECT 1 UNION SELECT 2 FOR UPDATE"))

    with pytest.raises(NotSupportedError):
        TestClient(own).get("/")
    assert TestClient(own, raise_server_exceptions=False).get("/").status_code == 500


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("said", "status"), [("failure on connection marked as essential", 503), ("it is broken", 500)]
)
def test_a_part_of_citus_is_away(engine: Engine, said: str, status: int) -> None:
    """It says so as an internal error, of which others do not pass."""
    own = FastAPI(exception_handlers=HANDLERS)

    @own.get("/")
    def fail(db: SessionDep) -> None:
        raised = f"RAISE EXCEPTION '{said}: 10.0.0.1:5432' USING ERRCODE = 'internal_error'"
        db.execute(text(f"DO $$ BEGIN {raised}; END $$"))

    assert TestClient(own, raise_server_exceptions=False).get("/").status_code == status


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_full_disk_passes(engine: Engine) -> None:
    with engine.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))
    client = TestClient(app)
    bodies = [{"name": "N" * 100, "email": f"{'n' * 50}@{n}.example.com"} for n in range(100)]
    response = client.post("/users/bulk", json=bodies)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert everything(client) == []


def test_no_personal_data_in_an_error(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a 500 writes to the log has the statement, but not what a user typed."""
    nameless = {"name": None, "email": "secret@example.com"}
    monkeypatch.setattr("schemas.UserBody.model_dump", lambda body: nameless)
    with pytest.raises(IntegrityError) as caught:
        TestClient(app).post("/user", json=ADA)
    report = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "INSERT INTO" in report
    assert "secret" not in report


class Anything(BaseModel):
    """A user, of whom the schema checks next to nothing."""

    id: int = 1
    name: str = "Eve"
    email: str = "eve@example.com"


@pytest.fixture
def own(engine: Engine) -> TestClient:
    """Client of the app with calls that somebody has added to it, and a table of theirs."""
    own = FastAPI(exception_handlers=HANDLERS)
    user = 'user_id BIGINT REFERENCES "user" (id)'
    with engine.begin() as connection:
        connection.execute(
            text(f"CREATE TABLE badge (number INT PRIMARY KEY, code INT UNIQUE, {user})")
        )

    @own.post("/badges")
    def create_badge(number: int, code: int, user_id: int, db: SessionDep) -> None:
        badge = {"number": number, "code": code, "user_id": user_id}
        db.execute(text("INSERT INTO badge VALUES (:number, :code, :user_id)"), badge)
        db.commit()

    @own.post("/pasted")
    def create_user(body: Anything, db: SessionDep) -> None:
        db.add(User(**body.model_dump()))
        db.commit()

    @own.get("/divided")
    def divide(db: SessionDep) -> None:
        db.execute(text("SELECT 1 / 0"))

    @own.get("/refuse")
    def refuse() -> None:
        raise HTTPException(400, "Not today")

    own.mount("/", app)
    return TestClient(own)


def test_conflicts_of_other_tables(own: TestClient) -> None:
    """A unique value or key that is there, a reference to nothing, a user that is referred to."""
    create(own, ADA, BOB)
    assert own.post("/badges?number=1&code=7&user_id=1").status_code == 200
    for conflict in ("number=1&code=8&user_id=1", "number=2&code=7&user_id=1"):
        response = own.post(f"/badges?{conflict}")
        assert response.status_code == 409
        assert response.json() == {"detail": "Conflicts with other data"}
    assert own.post("/badges?number=2&code=8&user_id=7").status_code == 409
    response = own.delete("/users/1")
    assert (response.status_code, response.json()) == (409, {"detail": "Conflicts with other data"})
    assert own.delete("/users/2").status_code == 200
    assert [user["id"] for user in own.get("/users").json()] == [1]


@pytest.mark.parametrize(
    "value",
    [{"id": 2**63}, {"id": -(10**30)}, {"name": "x" * 101}, {"email": "E"}, {"name": "\ud800"}],
)
def test_what_no_column_holds(
    own: TestClient, value: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A field of one's own, of which the schema does not know how large it may be."""
    content = json.dumps({"email": "secret@example.com"} | value)
    response = own.post("/pasted", content=content, headers=JSON)
    assert response.status_code == 422
    assert response.json()["detail"][0]["msg"].startswith("A value is too large")
    assert "Value refused by the database" in caplog.text
    assert "secret" not in caplog.text
    assert everything(own) == []


@pytest.mark.parametrize("number", [2**63, -(10**30)])
def test_a_parameter_that_no_column_holds(own: TestClient, number: int) -> None:
    assert own.post(f"/badges?number={number}&code=1&user_id=1").status_code == 422


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_what_postgresql_cannot_hold(own: TestClient) -> None:
    assert own.post("/pasted", json={"name": "a\0b"}).status_code == 422
    assert own.post(f"/badges?number={2**31}&code=1&user_id=1").status_code == 422


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_wrong_formula_is_a_mistake_of_ours(own: TestClient) -> None:
    with pytest.raises(DataError):
        own.get("/divided")


def test_a_400_of_somebody_else_stays_one(own: TestClient) -> None:
    response = own.get("/refuse")
    assert (response.status_code, response.json()) == (400, {"detail": "Not today"})


def test_other_broken_constraints_are_not_a_conflict(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column that must have a value; PostgreSQL quotes the whole row in its error."""
    nameless = {"name": None, "email": "uq_user_email@example.com"}
    monkeypatch.setattr("schemas.UserBody.model_dump", lambda body: nameless)
    body = nameless | {"name": "Ada"}
    with pytest.raises(IntegrityError):
        TestClient(app).post("/user", json=body)
    response = TestClient(app, raise_server_exceptions=False).post("/user", json=body)
    assert response.status_code == 500
    assert response.json() == {"detail": "Internal Server Error"}


# ---- What real clients send


@pytest.mark.parametrize(
    ("method", "path", "more", "name"),
    [
        ("POST", "/user", {"nick": "A"}, "nick"),
        ("POST", "/users", {"id": 1}, "id"),
        ("PUT", "/users/1", {"is_activ": False}, "is_activ"),
        ("PUT", "/users/1", {"id": 2}, "id"),
        ("POST", "/user/1", {"id": 2}, "id"),
        ("PATCH", "/users/1", {"id": 2}, "id"),
    ],
)
def test_nothing_is_dropped_in_silence(
    client: TestClient, method: str, path: str, more: dict[str, Any], name: str
) -> None:
    create(client, ADA)
    before = client.get("/users").json()
    response = client.request(method, path, json=BOB | more)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", name]
    assert client.get("/users").json() == before


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_whole_record_comes_back(client: TestClient, method: str) -> None:
    """As react-admin sends it: with its id."""
    create(client, ADA)
    record = client.get("/users/1").json() | {"name": "Augusta", "is_active": False}
    response = client.request(method, "/users/1", json=record)
    assert response.json() == record == client.get("/users/1").json()
    assert client.put("/users/1", json=ADA).json()["is_active"] is False  # what is not sent stays


def test_a_user_who_is_not_active_from_the_start(client: TestClient) -> None:
    assert client.post("/users", json=ADA | {"is_active": False}).json()["is_active"] is False
    bodies = [BOB, {"name": "Eve", "email": "eve@example.com", "is_active": False}]
    bulk = client.post("/users/bulk", json=bodies).json()
    assert [user["is_active"] for user in bulk] == [True, False]


@pytest.mark.parametrize("name", ["\u200b", "\u200d \ufeff", "a\u202eb", "\u2066x\u2069", "\u00ad"])
def test_names_that_nobody_can_read(client: TestClient, name: str) -> None:
    assert client.post("/user", json=ADA | {"name": name}).status_code == 422


@pytest.mark.parametrize(
    "name",
    [
        "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",
        "\U0001f469\u200d\U0001f680",
        "O'Neil",
        "王芳",
        "-",
    ],
)
def test_names_that_people_have(client: TestClient, name: str) -> None:
    assert client.post("/user", json=ADA | {"name": name}).json()["name"] == name


def test_an_email_with_a_name(client: TestClient) -> None:
    response = client.post("/user", json=ADA | {"email": "Ada <ada@example.com>"})
    assert response.status_code == 422
    assert "write it without a name" in response.json()["detail"][0]["msg"]


@pytest.mark.parametrize("question", ["is_active=", "after=", "query="])
def test_a_parameter_that_is_empty(client: TestClient, question: str) -> None:
    create(client, ADA, BOB)
    response = client.get(f"/users?{question}")
    assert [user["id"] for user in response.json()] == [1, 2]


@pytest.mark.parametrize(
    ("bodies", "said"),
    [
        ([BOB, ADA | {"email": "ADA@example.com"}], "Email already registered: ada@example.com"),
        (
            [BOB, {"name": "Eve", "email": "eve@example.com"}, BOB, BOB],
            [
                {
                    "type": "twice",
                    "loc": ["body", row, "email"],
                    "msg": "The same as in row 0 of this list",
                }
                for row in (2, 3)
            ],
        ),
    ],
)
def test_the_bulk_call_says_which_email_is_taken(
    client: TestClient, bodies: list[dict[str, str]], said: object
) -> None:
    """By somebody who is there, or by another row of the list."""
    create(client, ADA)
    response = client.post("/users/bulk", json=bodies)
    assert response.status_code == (409 if isinstance(said, str) else 422)
    assert response.json() == {"detail": said}
    assert len(client.get("/users").json()) == 1


@pytest.mark.parametrize("path", ["/users", "/users/1", "/user?user_id=1", "/health", "/docs"])
def test_head(client: TestClient, path: str) -> None:
    """As monitors ask: the headers of GET, and nothing else."""
    create(client, ADA)
    response = client.head(path)
    assert response.status_code == 200
    assert response.content == b""
    assert response.headers["Content-Length"] == client.get(path).headers["Content-Length"]
    assert client.head("/users/99").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/users", "GET, HEAD, POST"),
        ("POST", "/users/1", "GET, HEAD, PUT, PATCH, DELETE"),
        ("PUT", "/user", "GET, HEAD, POST, DELETE"),
        ("POST", "/health", "GET, HEAD"),
    ],
)
def test_what_is_allowed(client: TestClient, method: str, path: str, allowed: str) -> None:
    response = client.request(method, path)
    assert response.status_code == 405
    assert response.json() == {"detail": "Method Not Allowed"}
    assert response.headers["Allow"] == allowed


@pytest.mark.parametrize("path", ["/", "/docs/"])
def test_the_way_to_the_documentation(path: str) -> None:
    """Behind a proxy, below a prefix, and whatever `Host` says."""
    client = TestClient(app, root_path="/api", headers={"Host": "evil.example"})
    assert client.get(path, follow_redirects=False).headers["Location"] == "/api/docs"


def test_a_browser_may_read_a_500(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database.settings, "cors_origins", "http://localhost:5173")
    own = create_app(database)

    @own.get("/broken")
    def broken() -> None:
        raise ZeroDivisionError

    client = TestClient(own, raise_server_exceptions=False)
    response = client.get("/broken", headers={"Origin": "http://localhost:5173"})
    assert response.status_code == 500
    assert response.json() == {"detail": "Internal Server Error"}
    assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:5173"
    with pytest.raises(ZeroDivisionError):  # the server's log has it
        TestClient(own).get("/broken")
