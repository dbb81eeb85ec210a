"""Who may come in."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from sqlalchemy import Engine, select, update

from database import SessionLocal
from examples.login import HASHER, Login, Tries, app, settings
from models import User
from tests.examples.conftest import Run
from tests.processes import run_python
from tests.users import ADA, BOB

ADMIN = {"name": "Grace", "email": "grace@example.com"}
PASSWORD = "correct horse battery"
HASH = HASHER.hash(PASSWORD)  # once: it is slow on purpose


@pytest.fixture
def client(engine: Engine) -> TestClient:
    """Client of an app with an admin, Grace (1), and two users, Ada (2) and Bob (3)."""
    with SessionLocal.begin() as db:
        for number, body in enumerate((ADMIN, ADA, BOB), start=1):
            db.add(User(**body))
            db.flush()
            db.add(Login(user_id=number, password_hash=HASH, is_admin=number == 1))
    return TestClient(app)


def log_in(client: TestClient, email: str, password: str = PASSWORD) -> dict[str, str]:
    """Return the header that shows who somebody is."""
    answer = client.post("/token", data={"username": email, "password": password})
    assert answer.status_code == 200
    assert answer.json()["token_type"] == "bearer"
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


CHANGES: list[tuple[str, str, Any]] = [
    ("POST", "/user", {"name": "Eve", "email": "eve@example.com"}),
    ("POST", "/users", {"name": "Eve", "email": "eve@example.com"}),
    ("POST", "/users/", {"name": "Eve", "email": "eve@example.com"}),
    ("POST", "/users/bulk", [{"name": "Eve", "email": "eve@example.com"}]),
    ("POST", "/user/3", {"name": "Eve", "email": "eve@example.com"}),
    ("PUT", "/users/3", {"name": "Eve", "email": "eve@example.com"}),
    ("PATCH", "/users/3", {"name": "Eve"}),
    ("DELETE", "/users/3", None),
    ("DELETE", "/user?user_id=3", None),
    ("DELETE", "/user?user_id=2&user_id=3", None),
]


def test_every_change_is_listed() -> None:
    paths = app.openapi()["paths"]
    own = {("POST", "/token"), ("PUT", "/users/{user_id}/password")}
    changing = {
        (method.upper(), path) for path, item in paths.items() for method in item if method != "get"
    }
    listed = {(method, path.split("?")[0].replace("3", "{user_id}")) for method, path, _ in CHANGES}
    assert changing - own == listed - {("POST", "/users/")}


def test_reading_is_free(client: TestClient) -> None:
    for path in ("/users", "/users/", "/users/1", "/user?user_id=1", "/health", "/docs"):
        assert client.get(path).status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_changing_takes_a_token(client: TestClient, method: str, path: str, body: object) -> None:
    before = client.get("/users").json()
    for header in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic Z3JhY2U6eA=="}):
        answer = client.request(method, path, json=body, headers=header)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json() == {"detail": "Log in first"}
    answer = client.request(method, path, json=body, headers=log_in(client, ADA["email"]))
    assert answer.status_code == 403
    assert client.get("/users").json() == before
    answer = client.request(method, path, json=body, headers=log_in(client, ADMIN["email"]))
    assert answer.is_success
    assert client.get("/users").json() != before


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_a_question_gives_no_rights(
    client: TestClient, method: str, path: str, body: object
) -> None:
    """Whatever else is asked for: what counts is whom the call changes."""
    before = client.get("/users").json()
    ada = log_in(client, ADA["email"])
    asked = (
        f"{path}{'&' if '?' in path else '?'}user_id=3"
        if "DELETE" in method
        else f"{path}?user_id=2"
    )
    assert client.request(method, asked, json=body, headers=ada).status_code == 403
    assert client.get("/users").json() == before


def test_many_new_passwords_with_one_token(client: TestClient) -> None:
    """The first one ends the token, for those as well that were on their way."""
    ada = log_in(client, ADA["email"])

    def change(number: int) -> int:
        data = {"password": f"a new password, number {number}"}
        return TestClient(app).put("/users/2/password", data=data, headers=ada).status_code

    with ThreadPoolExecutor(10) as clients:
        assert Counter(clients.map(change, range(10))) == {200: 1, 401: 9}


def test_a_password_in_broken_unicode(client: TestClient) -> None:
    """Some clients may say how they write their text; it can turn out to be none."""
    part = '--B\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    content = part.format("username", ADA["email"]) + part.format("password", "\\ud800") + "--B--"
    kind = "multipart/form-data; boundary=B; charset=unicode_escape"
    answer = client.post("/token", content=content.encode(), headers={"Content-Type": kind})
    assert answer.status_code == 422


def test_users_change_themselves(client: TestClient) -> None:
    ada = log_in(client, "ADA@example.com")
    assert client.patch("/users/2", json={"name": "Augusta"}, headers=ada).status_code == 200
    assert client.put("/users/2", json=ADA, headers=ada).status_code == 200
    assert client.delete("/user?user_id=2", headers=ada).status_code == 200
    assert client.patch("/users/2", json={"name": "Ghost"}, headers=ada).status_code == 401


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "1", "version": 1, "exp": 1_000_000_000},
        {"sub": "1", "version": 2, "exp": 9_000_000_000},
        {"sub": "7", "version": 1, "exp": 9_000_000_000},
    ],
)
def test_tokens_that_are_worth_nothing(client: TestClient, claims: dict[str, Any]) -> None:
    """Old, of another password, of nobody; and what somebody else has signed, or nobody."""
    good = {"sub": "1", "version": 1, "exp": 9_000_000_000}
    tokens = [
        jwt.encode(claims, settings.secret_key, "HS256"),
        jwt.encode(good, "another" * 6, "HS256"),
        jwt.encode(good, None, "none"),
    ]
    for token in tokens:
        header = {"Authorization": f"Bearer {token}"}
        assert client.delete("/users/3", headers=header).status_code == 401
    header = {"Authorization": f"Bearer {jwt.encode(good, settings.secret_key, 'HS256')}"}
    assert client.delete("/users/3", headers=header).status_code == 200


def test_a_new_password_ends_the_tokens_of_the_old_one(client: TestClient) -> None:
    ada = log_in(client, ADA["email"])
    new = {"password": "a longer one than that"}
    assert client.put("/users/3/password", data=new, headers=ada).status_code == 403
    assert client.put("/users/2/password", data=new).status_code == 401
    assert client.put("/users/2/password", data=new, headers=ada).status_code == 200
    assert client.patch("/users/2", json={"name": "Augusta"}, headers=ada).status_code == 401
    wrong = {"username": ADA["email"], "password": PASSWORD}
    assert client.post("/token", data=wrong).status_code == 401
    ada = log_in(client, ADA["email"], new["password"])
    assert client.patch("/users/2", json={"name": "Augusta"}, headers=ada).status_code == 200


def test_an_admin_gives_passwords(client: TestClient) -> None:
    admin = log_in(client, ADMIN["email"])
    eve = {"name": "Eve", "email": "eve@example.com"}
    eve_id = client.post("/users", json=eve, headers=admin).json()["id"]
    for user_id, password, status in [
        (eve_id, PASSWORD, 200),
        (99, PASSWORD, 404),
        (2, "short", 422),
    ]:
        path, data = f"/users/{user_id}/password", {"password": password}
        assert client.put(path, data=data, headers=admin).status_code == status
    assert client.delete("/users/1", headers=log_in(client, eve["email"])).status_code == 403


def test_who_is_not_active_cannot_log_in(client: TestClient) -> None:
    ada = log_in(client, ADA["email"])
    with SessionLocal.begin() as db:
        db.execute(update(User).where(User.id == 2).values(is_active=False))
    assert client.patch("/users/2", json={"name": "Eve"}, headers=ada).status_code == 401
    answer = client.post("/token", data={"username": ADA["email"], "password": PASSWORD})
    assert (answer.status_code, answer.json()) == (401, {"detail": "Wrong email or password"})


@pytest.mark.parametrize("email", [ADA["email"], "nobody@example.com"])
def test_five_wrong_passwords(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, email: str
) -> None:
    """Known or not, the answers are the same; then there is a wait, for the right one, too."""
    wrong = {"username": email, "password": "wrong"}
    for _ in range(5):
        answer = client.post("/token", data=wrong)
        assert (answer.status_code, answer.json()) == (401, {"detail": "Wrong email or password"})
    for password in ("wrong", PASSWORD):
        answer = client.post("/token", data=wrong | {"password": password})
        assert answer.status_code == 429
        assert answer.headers["Retry-After"] == "60"
    log_in(client, BOB["email"])  # nobody else waits
    later = time.time() + 60
    monkeypatch.setattr(time, "time", lambda: later)
    assert client.post("/token", data=wrong).status_code == 401
    assert client.post("/token", data=wrong).status_code == 429
    if email == ADA["email"]:
        monkeypatch.setattr(time, "time", lambda: later + 60)
        log_in(client, email)
        assert client.post("/token", data=wrong).status_code == 401  # counts from one again


def test_many_guesses_at_once(client: TestClient) -> None:
    def guess(number: int) -> int:
        data = {"username": ADA["email"], "password": f"guess {number}"}
        return TestClient(app).post("/token", data=data).status_code

    with ThreadPoolExecutor(20) as clients:
        assert Counter(clients.map(guess, range(20))) == {401: 5, 429: 15}


def test_old_tries_are_forgotten(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    client.post("/token", data={"username": "nobody@example.com", "password": "wrong"})
    tomorrow = time.time() + 25 * 60 * 60
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    log_in(client, ADA["email"])
    with SessionLocal() as db:
        assert db.scalars(select(Tries)).all() == []


def test_unknown_takes_as_long_as_wrong(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes time is to compare a hash: one of the same kind, whoever is asked for."""
    compared: list[str] = []
    verify = HASHER.verify

    def counting(password: str, against: str) -> bool:
        compared.append(against.rpartition("$")[0].rpartition("$")[0])  # the kind, and how costly
        return verify(password, against)

    monkeypatch.setattr(HASHER, "verify", counting)
    for email in ("nobody@example.com", ADA["email"]):
        client.post("/token", data={"username": email, "password": "wrong"})
    assert len(compared) == 2
    assert compared[0] == compared[1]
    assert "argon2id" in compared[0]


@pytest.mark.parametrize("username", ["", "nobody", "a\0@example.com", "x" * 300 + "@example.com"])
def test_what_is_no_email(client: TestClient, username: str) -> None:
    answer = client.post("/token", data={"username": username, "password": "wrong"})
    assert answer.status_code == 422


@pytest.mark.parametrize("key", ["", "short"])
def test_it_does_not_start_without_a_key(tmp_path: Path, key: str) -> None:
    done = run_python("-c", "import examples.login", folder=tmp_path, SECRET_KEY=key)
    assert done.returncode == 1
    assert done.stderr.startswith("SECRET_KEY: ")
    assert done.stderr.count("\n") == 1


def test_the_first_admin(run: Run) -> None:
    make = ("manage", "make-admin", "Ada@example.com", "--password")
    done = run(*make, "a password of mine")
    assert (done.returncode, done.stderr) == (1, "No such user: create-user makes one\n")
    run("manage", "create-user", "Ada", "ada@example.com")
    done = run(*make, "short")
    assert (done.returncode, done.stderr) == (1, "password: 12 characters or more\n")
    done = run(*make, "a password of mine")
    assert (done.stdout, done.stderr) == ("Ada@example.com is an admin.\n", "")
    with SessionLocal() as db:
        login = db.get_one(Login, 1)
        assert login.is_admin
        assert HASHER.verify("a password of mine", login.password_hash)


SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.fixture
def users_stay(client: TestClient) -> Iterator[None]:
    before = client.get("/users").json()
    yield
    assert client.get("/users").json() == before
    with SessionLocal() as db:
        assert all(login.version == 1 for login in db.scalars(select(Login)))


@SCHEMA.parametrize()
@hypothesis_settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_fuzz_without_a_token(case: schemathesis.Case[Any], users_stay: None) -> None:
    """Whatever is sent to whatever call: nothing that changes something succeeds."""
    answer = case.call()
    assert answer.status_code < 500
    if case.method != "GET":
        assert not 200 <= answer.status_code < 300
