"""People from files of other programs, by `python -m examples.manage import`."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

import main
from core.imports import BATCH
from tests.examples.conftest import Run
from tests.server import ROOT
from tests.users import ADA, BOB, create

# What people export, each with the same two of them; with columns that nobody needs here.
EXPORTS = {
    "google.csv": (
        "First Name,Middle Name,Last Name,Notes,E-mail 1 - Label,E-mail 1 - Value,Phone 1 - Value\n"
        "Éric,,Blanc,,* Home,ERIC@example.com ::: other@example.com,1\n"
        'Zoé,,"Noir, fils","two\nlines",* Work,zoe@example.com,\n'
        "No,,Address,,,,2\n"
    ),
    "outlook.csv": (
        '"First Name","Last Name","E-mail Address"\n"Éric","Blanc","eric@example.com"\n'
        '"Zoé","Noir, fils","zoe@example.com"\n"No","Address",""\n'
    ),
    "outlook.fr.csv": (
        '"Prénom";"Deuxième prénom";"Nom";"Adresse de messagerie"\n'
        '"Éric";"";"Blanc";"eric@example.com"\n"Zoé";"";"Noir, fils";"zoe@example.com"\n'
        ";;;\nNo;;Address;\n"
    ),
    "outlook.de.csv": (
        "Vorname\tNachname\tE-Mail-Adresse\tAktiv\nÉric\tBlanc\teric@example.com\tWAHR\n"
        "Zoé\tNoir, fils\tzoe@example.com\t\nNo\tAddress\t\tFALSCH\n"
    ),
    "mailchimp.csv": (
        "Email Address,First Name,Last Name,MEMBER_RATING\neric@example.com,Éric,Blanc,2\n"
        'zoe@example.com,Zoé,"Noir, fils",2\n,No,Address,1\n'
    ),
    "wordpress.csv": (
        "ID,user_login,user_email,display_name\n1,e,eric@example.com,Éric Blanc\n"
        '2,z,zoe@example.com,"Zoé\nNoir, fils"\n3,n,,No Address\n'
    ),
    "keycloak.json": json.dumps(
        {
            "realm": "x",
            "users": [
                {"firstName": "Éric", "lastName": "Blanc", "email": "eric@example.com"},
                {"firstName": "Zoé", "lastName": "Noir, fils", "email": "zoe@example.com"},
                {"firstName": "No", "lastName": "Address", "enabled": True},
            ],
        },
        indent=2,
    ),
    "auth0.json": (
        '{"user_id":"a|1","email":"eric@example.com","name":"Éric Blanc","identities":[{"a":1}]}\n'
        '{"user_id":"a|2","email":"zoe@example.com","name":"Zoé Noir, fils"}\n{"user_id":"a|3"}\n'
    ),
    "contacts.de.csv": (  # Google's again, and what some write by hand
        "Vorname;Name;E-mail 1 - Value;E-mail 2 - Value\n"
        "Éric;Blanc;, eric@example.com;x@example.com\n"
        "Zoé;Noir, fils;;zoe@example.com\nNo;Address;;\n"
    ),
    "supabase.csv": (
        "id,email,raw_user_meta_data\n"
        'a1,eric@example.com,"{""full_name"": ""Éric Blanc"", ""x"": {}}"\n'
        'a2,zoe@example.com,"{""full_name"": ""Zoé Noir, fils""}"\n'
        "a3,,{}\n"
    ),
    "supabase.json": json.dumps(
        [
            {"email": "eric@example.com", "raw_user_meta_data": {"full_name": "Éric Blanc"}},
            {"email": "zoe@example.com", "raw_user_meta_data": {"full_name": "Zoé Noir, fils"}},
            {"email": None, "raw_user_meta_data": {}},
        ]
    ),
}


def users(run: Run) -> list[str]:
    return run("manage", "list-users").stdout.splitlines()


def counts(created: int = 0, **others: int) -> str:
    found = {"updated": 0, "there": 0, "twice": 0, "left_out": 0, "rejected": 0} | others
    return (
        "{created} created, {updated} updated, {there} there already, {twice} twice in the file, "
        "{left_out} left out without an email, {rejected} rejected"
    ).format(created=created, **found)


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export(run: Run, tmp_path: Path, name: str) -> None:
    """The second time, nothing changes."""
    path = tmp_path / name
    path.write_text(EXPORTS[name])
    for expected in (counts(2, left_out=1), counts(there=2, left_out=1)):
        done = run("manage", "import", str(path))
        assert (done.returncode, done.stderr) == (0, "")
        first, last = done.stdout.splitlines()
        assert first.startswith(f"{path}: ")
        assert "email: " in first
        assert last == expected
        assert users(run) == [
            "1: Éric Blanc <eric@example.com>",
            "2: Zoé Noir, fils <zoe@example.com>",
        ]


def test_columns_that_have_to_be_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("a,b,c\nAda,Lovelace,ada@example.com\n")
    for options, said in (
        ([], "say which column it is with --name: a, b, c"),
        (["--name=a"], "say which column it is with --email: a, b, c"),
        (["--name=a+x", "--email=c"], "there is no column x, but: a, b, c"),
    ):
        done = run("manage", "import", str(path), *options)
        assert (done.returncode, done.stderr) == (1, f"{path}: {said}\n")
    assert run("manage", "import", str(path), "--name=a + b", "--email=c").returncode == 0
    assert users(run) == ["1: Ada Lovelace <ada@example.com>"]


MIXED = (
    "name,email,is_active\n"
    "Bob,bob@example.com,false\n"
    "Ada,ADA@example.com,\n"
    "Bad,bad,\n"
    "Bob again,BOB@example.com,true\n"
    ",nameless@example.com,\n"
    "Eve,eve@example.com,perhaps\n"
    "Zoe,zoe@example.com,true,4\n"
)


@pytest.mark.parametrize("existing", ["skip", "update", "stop"])
def test_who_is_there_already(engine: Engine, run: Run, tmp_path: Path, existing: str) -> None:
    client = TestClient(main.app)
    create(client, {"name": "Augusta", "email": "ada@example.com"})
    client.patch("/users/1", json={"is_active": False})
    path, rejected = tmp_path / "people.csv", tmp_path / "rejected.csv"
    path.write_text(MIXED)
    done = run("manage", "import", str(path), f"--existing={existing}", f"--rejected={rejected}")
    assert done.returncode == 1
    found = {user["email"]: user for user in client.get("/users").json()}
    assert found["ada@example.com"]["is_active"] is False  # its cell is empty
    if existing == "stop":
        stopped = "Stopped at ada@example.com, which is there already\n"
        assert (done.stderr, len(found)) == (stopped, 1)
        return
    kind = "there" if existing == "skip" else "updated"
    assert done.stdout.splitlines()[-1] == counts(1, **{kind: 1}, twice=1, rejected=4)
    assert found["ada@example.com"]["name"] == ("Augusta" if existing == "skip" else "Ada")
    assert found["bob@example.com"]["is_active"] is False
    assert len(found) == 2

    # Those that are refused are as they were, with the words of the API; mended, they fit.
    with rejected.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["name", "email", "is_active", "line", "reason"]
    assert [row[:-1] for row in rows] == [
        ["Bad", "bad", "", "4"],
        ["Bob again", "BOB@example.com", "true", "5"],
        ["", "nameless@example.com", "", "6"],
        ["Eve", "eve@example.com", "perhaps", "7"],
        ["Zoe", "zoe@example.com", "true", "4", "8"],
    ]
    said = client.post("/user", json={"name": "Bad", "email": "bad"}).json()["detail"][0]["msg"]
    assert rows[0][-1] == f"email: {said}"
    assert rows[1][-1] == "email: The same as in line 2"
    assert rows[4][-1] == "4 cells, where the first line has 3"
    rejected.write_text(
        rejected.read_text().replace("perhaps", "yes").replace("Bad,bad", "D,d@x.de")
    )
    again = run("manage", "import", str(rejected))
    assert again.stdout.splitlines()[-1] == counts(2, there=1, rejected=2)
    assert "--rejected FILE writes down which they are, and why" in again.stderr


def test_a_number_for_a_name(run: Run, tmp_path: Path) -> None:
    path, rejected = tmp_path / "people.json", tmp_path / "rejected.json"
    path.write_text('[{"name": 5, "email": "a@x.de"}, {"name": "A\\u0000", "email": "b@x.de"}]')
    assert run("manage", "import", str(path), f"--rejected={rejected}").returncode == 1
    rows = [json.loads(line) for line in rejected.read_text("utf-8-sig").splitlines()]
    assert [row["line"] for row in rows] == [1, 2]
    assert rows[0]["reason"] == "name: Input should be a valid string"
    assert users(run) == []
    # What is there already is not written over.
    done = run("manage", "import", str(path), f"--rejected={rejected}")
    assert (done.returncode, "File exists" in done.stderr) == (1, True)


@pytest.mark.parametrize("good", [True, False])
def test_all_or_none(run: Run, tmp_path: Path, good: bool) -> None:
    path = tmp_path / "people.csv"
    rows = "".join(f"N,{n}@example.com\n" for n in range(BATCH + 10))
    path.write_text(f"name,email\n{rows}" + ("" if good else "N,bad\n"))
    done = run("manage", "import", "--all-or-none", str(path))
    assert done.returncode == (0 if good else 1)
    assert done.stderr == ("" if good else "Nothing has changed: 1 rows do not fit\n")
    assert len(users(run)) == (BATCH + 10 if good else 0)
    path.write_text("name,email\nN,bad\nN,worse\n")
    done = run("manage", "import", "--all-or-none", str(path))
    assert done.stderr == "Nothing has changed: 2 rows do not fit\n"


def test_ids_are_in_the_order_of_the_file(run: Run, tmp_path: Path) -> None:
    """And what is there already uses up none."""
    path = tmp_path / "people.csv"
    emails = [f"{n * 7919 % 10007}@example.com" for n in range(BATCH * 2 + 1)]
    path.write_text("name,email\n" + "".join(f"N,{email}\n" for email in emails))
    for _ in range(2):
        assert run("manage", "import", str(path)).returncode == 0
    path.write_text("name,email\nAda,ada@example.com\n")
    assert run("manage", "import", str(path)).returncode == 0
    expected = [*emails[:10007], "ada@example.com"]
    assert users(run) == [
        f"{n}: {'Ada' if n == len(expected) else 'N'} <{email}>"
        for n, email in enumerate(expected, 1)
    ]


def test_stopped_with_all_or_none(run: Run, tmp_path: Path) -> None:
    """At the first one of those who are there; and nobody is created."""
    for name in ("late", "later"):
        run("manage", "create-user", "N", f"{name}@example.com")
    path = tmp_path / "people.csv"
    rows = "".join(f"N,{n}@example.com\n" for n in range(BATCH))
    path.write_text(f"name,email\n{rows}N,late@example.com\nN,later@example.com\n")
    for options, before, number in (
        (["--all-or-none"], "", 2),
        ([], f"; before that, {BATCH} created, 0 updated", BATCH + 2),
    ):
        done = run("manage", "import", "--existing=stop", *options, str(path))
        said = f"Stopped at late@example.com, which is there already{before}\n"
        assert (done.returncode, done.stderr) == (1, said)
        assert len(users(run)) == number


def test_a_field_that_comes_late(run: Run, tmp_path: Path) -> None:
    """Many leave out what is as usual."""
    path = tmp_path / "people.jsonl"
    lines = [{"email": f"{n}@example.com", "firstName": "N"} for n in range(BATCH)]
    late = {"email": "late@example.com", "firstName": "A", "lastName": "B", "enabled": False}
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, late]))
    assert run("manage", "import", str(path)).returncode == 0
    assert users(run)[-1] == f"{BATCH + 1}: A B <late@example.com>"
    exported = tmp_path / "out.JSONL"
    run("manage", "export", str(exported))
    active = [json.loads(line)["is_active"] for line in exported.read_text().splitlines()]
    assert active == [*[True] * BATCH, False]


def test_where_nothing_can_be_exported_to(run: Run, tmp_path: Path) -> None:
    """One line says so, and nothing is left behind; what is no file stays what it is."""
    folder = tmp_path / "out"
    folder.mkdir()
    for path, why in (
        (folder, "that is no file"),
        (folder / "none" / "x.csv", "No such file or directory"),
        (Path("/dev/null"), "that is no file"),
    ):
        done = run("manage", "export", str(path))
        assert (done.returncode, done.stderr) == (1, f"{path}: {why}\n")
    assert Path("/dev/null").is_char_device()
    file, link = folder / "x.csv", folder / "link.csv"
    file.touch(0o600)
    link.symlink_to(file)
    assert run("manage", "export", str(link)).returncode == 0
    assert link.is_symlink()
    assert file.read_text("utf-8-sig") == "id,name,email,is_active\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(folder.iterdir()) == [link, file]


@pytest.mark.parametrize("path", ["/", "nowhere.csv"])
def test_what_is_no_file(run: Run, path: str) -> None:
    done = run("manage", "import", path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{path}: ")
    assert done.stderr.count("\n") == 1


def test_killed_and_run_again(engine: Engine, url: str, tmp_path: Path) -> None:
    """It goes on where it was; nobody is lost, or there twice."""
    path = tmp_path / "people.csv"
    size = BATCH * 12
    path.write_text("name,email\n" + "".join(f"N,{n}@example.com\n" for n in range(size)))
    command = [sys.executable, "-m", "examples.manage", "import", str(path)]
    options: dict[str, Any] = {"cwd": ROOT, "env": os.environ | {"DATABASE_URL": url}}
    count = text('SELECT count(*), count(DISTINCT email) FROM "user"')
    with subprocess.Popen(command, **options, stdout=subprocess.DEVNULL) as process:
        while True:
            with engine.connect() as connection:
                there, _ = connection.execute(count).one()
            if there:
                break
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert there < size
    done = subprocess.run(command, **options, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with engine.connect() as connection:
        assert connection.execute(count).one() == (size, size)
    created = int(done.stdout.splitlines()[-1].split()[0])
    assert 0 < created < size


NAMES = ["=1+1", "'=1+1", "''-x", "+49", "@Ada", "'quoted'", 'a,"b;', "Éric", "x" * 100]


@pytest.mark.parametrize("name", ["people.csv", "people.json"])
def test_out_and_in_again(engine: Engine, run: Run, tmp_path: Path, name: str) -> None:
    """With ids, it is the same on the other side; a spreadsheet finds no formula."""
    client = TestClient(main.app)
    create(client, *({"name": n, "email": f"+{i}@x.de"} for i, n in enumerate(NAMES)), ADA)
    client.patch("/users/3", json={"is_active": False})
    client.delete("/users/2")
    before = client.get("/users").json()
    path = tmp_path / name
    for _ in range(2):  # the second replaces the first
        done = run("manage", "export", str(path))
        assert (done.stdout, done.stderr) == (f"{len(NAMES)} users in {path}\n", "")
    if name == "people.csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell[0] in "=+-@"]
    again = run("manage", "import", "--with-ids", str(path))
    assert again.stdout.splitlines()[-1] == counts(there=len(NAMES))
    for user in before:
        client.delete(f"/users/{user['id']}")
    with engine.begin() as connection:  # as in a new database
        if engine.name == "sqlite":
            connection.execute(text("DELETE FROM sqlite_sequence"))
        else:
            connection.execute(text("ALTER SEQUENCE user_id_seq RESTART"))
    assert run("manage", "import", "--with-ids", str(path)).returncode == 0
    assert client.get("/users").json() == before
    assert client.post("/users", json=BOB).json()["id"] == before[-1]["id"] + 1


def test_ids_of_others(run: Run, tmp_path: Path) -> None:
    run("manage", "create-user", "Ada", "ada@example.com")
    path = tmp_path / "people.csv"
    for rows, said in (
        ("id,name,email\n2,B,b@x.de\n1,C,c@x.de\n", "Stopped at id 1, which is there already"),
        ("id,name,email\n2,B,b@x.de\n2,C,c@x.de\n", "Stopped at id 2, which is there already"),
        ("name,email\nB,b@x.de\n", "there is no column id"),
    ):
        path.write_text(rows)
        done = run("manage", "import", "--with-ids", str(path))
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    path.write_text(f"ID,name,email\nx,B,b@x.de\n{2**63 - 1},C,c@x.de\n")
    done = run("manage", "import", "--with-ids", str(path))
    assert done.stdout.splitlines()[-1] == counts(rejected=2)
    assert users(run) == ["1: Ada <ada@example.com>"]
