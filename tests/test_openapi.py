"""The OpenAPI document: complete, and true whatever a fuzzer sends."""

import json
import re
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine

from main import app
from models import User
from schemas import UserRead
from tests.users import ADA

DOCUMENT = app.openapi()
TAGS = ["users", "user", "health"]  # calls of your own need not be documented as these are
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if operation["tags"][0] in TAGS
}


def resolved(node: Any) -> str:
    """Return `node` as JSON, with every reference replaced by what it refers to."""
    text = json.dumps(node)
    while match := re.search(r'"#/components/schemas/(\w+)"', text):
        schema = json.dumps(DOCUMENT["components"]["schemas"][match[1]])
        text = text.replace(match[0], schema)
    return text


def test_parameters_have_one_type() -> None:
    """None is null: clients generated for TypeScript would send the word, those for Python None."""
    for call, operation in OPERATIONS.items():
        for parameter in operation.get("parameters", ()):
            assert isinstance(parameter["schema"]["type"], str), (call, parameter["name"])
    assert "e+18" not in json.dumps(DOCUMENT)  # no number is too big for where it stands


@pytest.mark.parametrize("call", OPERATIONS)
def test_every_operation_is_documented(call: str) -> None:
    operation = OPERATIONS[call]
    assert operation["summary"]
    assert operation["description"]
    success = next(code for code in operation["responses"] if code.startswith("2"))
    assert '"example' in resolved(operation["responses"][success])
    for part in ("parameters", "requestBody"):
        assert part not in operation or '"example' in resolved(operation[part])

    errors = {"503"}
    if "parameters" in operation or "requestBody" in operation:
        errors |= {"422"}
    if "requestBody" in operation:
        errors |= {"409", "413"}
    if "user_id" in json.dumps(operation):
        errors |= {"404"}
    if call.startswith("DELETE"):
        errors |= {"409"}
    if "404" in errors:
        errors |= {"304"} if call.startswith("GET") else {"412"}
    assert set(operation["responses"]) == {success} | errors


def test_a_schema_reads_a_row() -> None:
    user = User(id=1, is_active=True, **ADA)
    assert UserRead.model_validate(user).model_dump() == {"id": 1, "is_active": True, **ADA}


def test_operations_can_be_told_apart() -> None:
    summaries = [operation["summary"] for operation in OPERATIONS.values()]
    assert len(set(summaries)) == len(summaries)
    for call, operation in OPERATIONS.items():
        of_lessons = re.fullmatch(r"[A-Z]+ /user(/.*)?", call) is not None
        assert operation["summary"].endswith(", as in lessons") == of_lessons
    assert {operation["tags"][0] for operation in OPERATIONS.values()} == set(TAGS)


@pytest.mark.parametrize("call", OPERATIONS)
def test_errors_show_themselves(call: str) -> None:
    """Each with an example of its own, and a 422 as it is really sent."""
    for status, answer in OPERATIONS[call]["responses"].items():
        if status == "304":  # which has no content
            continue
        (content,) = answer["content"].values()
        if status == "422":
            assert content["schema"] == {"$ref": "#/components/schemas/Invalid"}
        elif not status.startswith("2"):
            assert content["example"]["detail"] in (
                "User not found",
                "Email already registered",
                "Conflicts with other data",
                "Body larger than 1 MiB",
                "User has changed since: read it again",
                "Database unavailable, try again later",
            )
    assert ("User deleted" in resolved(OPERATIONS[call])) == call.startswith("DELETE")


SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", app).include(tag=TAGS)


@SCHEMA.parametrize()
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_fuzz(case: schemathesis.Case[Any], engine: Engine) -> None:
    """No 5xx, and no answer that the document does not allow."""
    case.call_and_validate(
        checks=[
            schemathesis.checks.not_a_server_error,
            schemathesis.checks.status_code_conformance,
            schemathesis.checks.content_type_conformance,
            schemathesis.checks.response_headers_conformance,
            schemathesis.checks.response_schema_conformance,
        ]
    )


def test_the_documentation_needs_no_internet(client: TestClient) -> None:
    page = client.get("/docs").text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert assets
    for asset in assets:
        assert asset.startswith("/")
        assert client.get(asset).status_code == 200
    assert "https://" not in page
