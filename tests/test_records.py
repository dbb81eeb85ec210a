"""Files as people have them, and what is none."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from core.records import COLUMNS, LINES, LONGEST, FileError, Record, open_records

PEOPLE = [
    {"name": "Éric Blanc", "email": "eric@example.com"},
    {"name": "Zoé, dite « Zo »", "email": "zoe@example.com"},
]
CSV = 'name,email\nÉric Blanc,eric@example.com\n\n"Zoé, dite « Zo »",zoe@example.com\n'


def read(path: Path | str, encoding: str = "") -> tuple[str, list[Record]]:
    with open_records(str(path), encoding) as records:
        return records.kind, list(records.rows)


def values(rows: list[Record]) -> list[Any]:
    return [row.values for row in rows]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str, ends: str) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(CSV.replace("\n", ends).encode(encoding))
    kind, rows = read(path)
    assert kind.startswith("CSV with commas, ")
    assert values(rows) == PEOPLE
    assert [row.line for row in rows] == [2, 4]
    if encoding == "cp1252":
        assert values(read(path, encoding)[1]) == PEOPLE


def test_a_letter_beyond_ascii_far_behind(tmp_path: Path) -> None:
    """What an encoding is told by stands at the end."""
    path = tmp_path / "people.csv"
    many = "".join(f"User {n},{n}@example.com\n" for n in range(20_000))
    path.write_bytes(f"name,email\n{many}Chloé Lefèvre,chloe@example.com\n".encode("cp1252"))
    assert values(read(path)[1])[-1] == {"name": "Chloé Lefèvre", "email": "chloe@example.com"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("name,email\nAda,ada@example.com\n", "CSV with commas"),
        ("name;email\nAda;ada@example.com", "CSV with semicolons"),
        ("\n\nname\temail\nAda\tada@example.com\n", "CSV with tabs"),
        ("sep=|\nname|email\nAda|ada@example.com\n", "CSV with |"),
        ('"na""me";"email"\n"Ada";"ada@example.com"\n', "CSV with semicolons"),
        ('{"name": "Ada", "email": "ada@example.com"}\n', "JSON Lines"),
        ('[{"name": "Ada", "email": "ada@example.com"}]', "JSON"),
        ('{"realm": "x", "n": [{"name": "Ada", "email": "ada@example.com"}]}', "JSON"),
        ('{\n"n": [\n{"name": "Ada", "email": "ada@example.com"}]}', "JSON"),
        ('{"x": [], "y": ["z"], "n": [{"name": "Ada", "email": "ada@example.com"}]}', "JSON"),
        ('name;"email, or not"\nAda;ada@example.com', "CSV with semicolons"),
    ],
)
def test_kinds(tmp_path: Path, text: str, kind: str) -> None:
    path = tmp_path / "people"
    path.write_text(text)
    assert read(path)[0] == f"{kind}, utf-8"
    (row,) = read(path)[1]
    assert list(row.values.values()) == ["Ada", "ada@example.com"]


def test_a_row_on_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text('name,email\n"Ada\nLovelace",a\n"B ""B""",b\nC\nD,d,e\n')
    rows = read(path)[1]
    assert rows == [
        (2, '"Ada\nLovelace",a\n', {"name": "Ada\nLovelace", "email": "a"}, ""),
        (4, '"B ""B""",b\n', {"name": 'B "B"', "email": "b"}, ""),
        (5, "C\n", {"name": "C"}, ""),
        (6, "D,d,e\n", {}, "3 cells, where the first line has 2"),
    ]


def test_json_within_json(tmp_path: Path) -> None:
    path = tmp_path / "people.json"
    path.write_text('{"a": {"b": {"c": 1}}, "d": [1]}\n\n{"d": null}\n[1]\n{bad\n')
    with open_records(str(path)) as records:
        assert records.columns == ["a.b.c", "d"]
        rows = list(records.rows)
        assert values(rows) == [{"a.b.c": 1, "d": [1]}, {"d": None}, {}, {}]
        assert [row.line for row in rows] == [1, 3, 4, 5]
        assert rows[2].problem == "no object"
        assert rows[3].problem.startswith("no JSON: ")
        written = [records.with_reason(row, "why") for row in (rows[0], rows[3])]
        assert [json.loads(line) for line in written] == [
            {"a": {"b": {"c": 1}}, "d": [1], "line": 1, "reason": "why"},
            {"row": "{bad", "line": 5, "reason": "why"},
        ]


def test_columns_of_the_same_name(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("email,email,name\na,b,c\n")
    assert values(read(path)[1]) == [{"email": "a", "email (2)": "b", "name": "c"}]


def test_rows_that_are_refused_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text('name;email\n"Ada\nL";"a;b"\nB;b')
    with open_records(str(path)) as records:
        rows = list(records.rows)
        again = records.header + "".join(records.with_reason(row, "x; y") for row in rows)
    path.write_text(again)
    more = {"reason": "x; y"}
    assert values(read(path)[1]) == [
        {**rows[0].values, "line": "2", **more},
        {**rows[1].values, "line": "4", **more},
    ]


def test_the_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CSV.encode("utf-16"))))
    assert values(read("-")[1]) == PEOPLE


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\n \n", "it is empty"),
        (bytes(range(256)) * 20, "it is no text"),
        (b"[]", "there is no list of objects in it"),
        (b'{"a": {"b": 1},\n"c": 2}', "there is no list of objects in it"),
        (b'[{"a": 1}, {"a"', "no JSON: "),
        (b"PK\3\4xlsx", "a spreadsheet is to be saved as CSV"),
        (b"a," * COLUMNS + b"a", f"its first line has more than {COLUMNS} cells"),
        ("name\nZo\u00eb\n".encode() + b"Zo\xeb\n", "UTF-8 up to line 3, which is not"),
        (b"a," * LONGEST, f"its first line has more than {LONGEST} characters"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "people"
    path.write_bytes(content)
    with pytest.raises(FileError, match=said):
        read(path)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("utf-8", "it is not all utf-8"), ("ascii", "it is not all ascii"), ("x", "no encoding x")],
)
def test_another_encoding_than_is_said(tmp_path: Path, encoding: str, said: str) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(CSV.encode("cp1252"))
    with pytest.raises(FileError, match=said):
        read(path, encoding)


NAMES = {
    "cp1252": [
        *("Hélène Lefèvre", "François", "Zoë", "Jürgen Groß", "Käthe Müller", "José Núñez", "Peña"),
        *("Niccolò", "Noè", "João", "Åse", "Bjørn"),
    ],
    "cp1250": ["Jiří Dvořák", "Zdeněk Růžička", "Łukasz Wójcik", "Grażyna Świętosławska"],
    "cp1251": ["Иван Петров", "Анна Ёлкина"],
    "cp1253": ["Γιώργος Παπαδόπουλος", "Ελένη Νικολάου"],
}


@pytest.mark.parametrize("encoding", NAMES)
def test_a_few_names_tell_an_encoding(tmp_path: Path, encoding: str) -> None:
    """Of Western Europe, each of them."""
    path = tmp_path / "people.csv"
    together = [NAMES[encoding]]
    for names in [[name] for name in NAMES[encoding]] if encoding == "cp1252" else together:
        path.write_bytes("\n".join(["name", *names, ""]).encode(encoding))
        assert [row.values["name"] for row in read(path)[1]] == names


@pytest.mark.parametrize(
    ("rows", "refused", "found"),
    [
        ('"Ann,a\nB,b\nC,c\n', [2], ["B", "C"]),
        ('a,"Ann\nB,b\nC,c\n', [2], ["B", "C"]),
        ('"Ann,a\nB,b\n"C",c\n', [2], ["B", "C"]),
        ('A,a\n"Ann,a\n' + "B,b\n" * LINES, [3], ["A", *["B"] * LINES]),
        ('"Ann"x,a\n"B",b\n', [2], ["B"]),
        ('"A\nA",a\n"B,b', [4], ["A\nA"]),
    ],
)
def test_a_quote_that_is_never_closed(
    tmp_path: Path, rows: str, refused: list[int], found: list[str]
) -> None:
    """Nobody else is lost by it."""
    path = tmp_path / "people.csv"
    path.write_text(f"name,email\n{rows}")
    records = read(path)[1]
    assert [record.line for record in records if record.problem] == refused
    assert [record.values["name"] for record in records if not record.problem] == found


def test_objects_in_cells(tmp_path: Path) -> None:
    """As Supabase exports them."""
    path = tmp_path / "people.csv"
    path.write_text('email,data,x\na@b.de,"{""name"": ""Ada"", ""of"": {""x"": 1}}",{}\nb,{1,2\n')
    with open_records(str(path)) as records:
        assert records.columns == ["email", "data", "x", "data.name", "data.of.x"]
        assert records.header == "email,data,x,line,reason\n"
        ada, other = records.rows
    assert (ada.values["data.name"], ada.values["data.of.x"]) == ("Ada", 1)
    assert other.values == {"email": "b", "data": "{1", "x": "2"}


def test_rows_that_are_too_long(tmp_path: Path) -> None:
    """They are refused, and what follows is read."""
    path = tmp_path / "people.csv"
    long = "x" * 10 * LONGEST
    path.write_text(f'name,email\n{long},a\nB,b\n"{"y" * 9 * LONGEST}",d\nC,c\n')
    first, second, third, last = read(path)[1]
    assert (first.line, first.values) == (2, {})
    assert first.problem == f"longer than {LONGEST} characters"
    assert second.values == {"name": "B", "email": "b"}
    assert (third.line, third.problem) == (4, first.problem)
    assert (last.line, last.values) == (5, {"name": "C", "email": "c"})
    path.write_text(json.dumps({"name": long}) + '\n{"name": "B"}\n')
    assert [bool(row.problem) for row in read(path)[1]] == [True, False]


def test_a_file_that_somebody_writes(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("name,email\nA,a\n")

    def read_slowly() -> None:
        with open_records(str(path)) as records, path.open("a") as file:
            list(records.rows)
            file.write("B,b\n")

    with pytest.raises(FileError, match="written to it meanwhile"):
        read_slowly()


def test_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("name,email\n" + "Ada,ada@example.com\n" * 50_000)
    with open_records(str(path)) as records:
        before = records.position()
        list(records.rows)
        assert 0 <= before < 0.5 < records.position() == 1
