#!/usr/bin/env bash
# fastapi 0.165.0: pydantic's Json[list[int]] works in a query model, and Json[list[int]] | None never.
#
# With `| None`, as for what may be left out, every value is a 422, "JSON input should be string":
# FastAPI sees a list in the union, takes the parameter for one that may be repeated, and hands
# pydantic a list with the text in it. pydantic alone takes the text. tuple is the same as list.
# Seen with pydantic 2.14.3 and Python 3.11. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fastapi==0.165.0 pydantic==2.14.3 httpx2==2.16.2
"$folder/venv/bin/python" - <<'PYTHON'
from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.testclient import TestClient
from pydantic import BaseModel, Json


class Needed(BaseModel):
    range: Json[list[int]]


class Wanted(BaseModel):
    range: Json[list[int]] | None = None


app = FastAPI()


@app.get("/needed")
def read_needed(asked: Annotated[Needed, Query()]) -> list[int]:
    return asked.range


@app.get("/wanted")
def read_wanted(asked: Annotated[Wanted, Query()]) -> list[int] | None:
    return asked.range


client = TestClient(app)
for path in ("/needed", "/wanted"):
    answer = client.get(path, params={"range": "[0,9]"})
    print(path, answer.status_code, answer.text)
assert client.get("/needed", params={"range": "[0,9]"}).json() == [0, 9]
refused = client.get("/wanted", params={"range": "[0,9]"})
assert (refused.status_code, refused.json()["detail"][0]["type"]) == (422, "json_type")
assert Wanted.model_validate({"range": "[0,9]"}).range == [0, 9]
PYTHON
