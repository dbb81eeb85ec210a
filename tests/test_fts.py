"""The index of searches on SQLite finds what a look at each row finds, and is kept up to date."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest
from pydantic import BaseModel
from sqlalchemy import Engine, MetaData, String, delete, insert, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from core import lists, searches
from core.columns import Id
from core.engines import close_all, new_engine, read_engine
from core.fts import (
    SAMPLE,
    common_groups,
    create_fts_index,
    drops,
    has_fts_index,
    refill_fts_indexes,
    trigrams,
)
from core.letters import cases
from core.lists import listed
from core.queries import RowsQuery, query_model
from core.rows import Rows
from core.tables import NAMES as CONSTRAINTS
from tests.languages import EMAILS, NAMES, SEARCHES


class Base(DeclarativeBase):
    """What this table derives from."""

    metadata = MetaData(naming_convention=CONSTRAINTS)


class Note(Base):
    """Something that is searched, with an index also on SQLite."""

    __tablename__ = "note"
    id: Mapped[Id]
    title: Mapped[str] = mapped_column(String(100))
    body: Mapped[str | None]
    done: Mapped[bool]


listed(Note, order_by=["title"], filter_by=["done"], search=["title", "body"], fts=True)


class NoteRead(BaseModel):
    """A note as it is shown."""

    id: int
    title: str
    body: str | None


notes = Rows(Note, NoteRead)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = new_engine(f"sqlite:///{tmp_path}/notes.db")
    Base.metadata.create_all(engine)
    rows = [
        {"title": name, "body": body, "done": number % 3 == 0}
        for number, (name, body) in enumerate(product(NAMES, [None, *EMAILS[::9]]))
    ]
    with engine.begin() as connection:
        connection.execute(insert(Note), rows)
    yield engine
    close_all(engine)


COMMON = frozenset({"com", "exa"})
AllNotes = query_model("AllNotes", ["id", "title"], [notes.c.done], ["title", "body"], RowsQuery)


def found(engine: Engine, *, by_index: bool, **asked: object) -> list[object]:
    """Return some pages of a list, by number and by `after`, and all rows of it."""
    searches.common[engine] = {"note": COMMON if by_index else None}
    with Session(engine) as db:
        pages = [
            notes.page(db, notes.query_model.model_validate(asked | {"page_size": 7} | start))
            for start in ({"page": 1}, {"page": 3}, {"after": 0}, {"after": 20})
        ]
        return [*pages, *notes.all(db, AllNotes.model_validate(asked))]


@pytest.fixture
def counted_to_one(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let two rows be as many as 10,001."""
    monkeypatch.setattr(lists, "COUNTED", 1)
    monkeypatch.setattr(lists, "CHUNK", 4)
    lists.page_statement.cache_clear()
    lists.count_statement.cache_clear()
    yield
    lists.page_statement.cache_clear()
    lists.count_statement.cache_clear()


def same_as_by_a_scan(engine: Engine, order_by: str, done: object) -> None:
    used = 0
    for wanted in SEARCHES:
        asked = {"order_by": order_by, "done": done, "query": wanted}
        by_index = found(engine, by_index=True, **asked)
        assert by_index == found(engine, by_index=False, **asked), wanted
        used += trigrams(wanted) is not None
    assert used > len(SEARCHES) / 2


@pytest.mark.parametrize("order_by", ["id", "-id", "title", "-title"])
@pytest.mark.parametrize("done", [None, True])
def test_the_same_as_by_a_look_at_each_row(engine: Engine, order_by: str, done: object) -> None:
    same_as_by_a_scan(engine, order_by, done)


@pytest.mark.usefixtures("counted_to_one")
@pytest.mark.parametrize("order_by", ["-id", "title"])
@pytest.mark.parametrize("done", [None, True])
def test_the_same_where_many_have_it(engine: Engine, order_by: str, done: object) -> None:
    same_as_by_a_scan(engine, order_by, done)


def test_each_letter_is_found_in_its_other_case() -> None:
    """Also where FTS5, whose Unicode is of an earlier year, does not know it."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE t USING fts5 (x, tokenize='trigram')")
        for letters in {each for each in cases().values() if len(each) > 1}:
            connection.execute("DELETE FROM t")
            connection.executemany("INSERT INTO t VALUES (?)", [(f"é{each}z",) for each in letters])
            for each in letters:
                asked = [trigrams(f"é{each}z")]
                count = connection.execute("SELECT count(*) FROM t WHERE t MATCH ?", asked)
                assert count.fetchone() == (len(letters),), letters


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        ("COMmon", '("mon")'),
        ("exacom", '("exa") AND ("com")'),
        ("ab", None),
        ("abc", '("abc")'),
        ("information", '("inf") AND ("orm") AND ("ati") AND ("ion")'),
        ('a"b', '("a""b")'),
        ("éta", '("éta")'),
        ("éia", '("éIa" OR "é\u0131a")'),
    ],
)
def test_what_is_asked_for(wanted: str, asked: str | None) -> None:
    assert trigrams(wanted, COMMON) == asked


def test_what_is_common(engine: Engine) -> None:
    """As the newest rows have it, and not as often as they have it."""
    newest = [
        {"title": "Ab abab abab ab", "body": "ends" if number < 10 else None, "done": True}
        for number in range(SAMPLE)
    ]
    with engine.begin() as connection:
        connection.execute(insert(Note), {"title": "Before", "body": "before", "done": True})
        connection.execute(insert(Note), newest)
        assert common_groups(connection, "note") == {"ab ", "b a", " ab", "aba", "bab"}
        connection.execute(update(Note).where(Note.done).values(body="ends"))
        assert common_groups(connection, "note") > {"end", "nds"}
    searches.common.clear()
    with Session(engine) as db:
        assert searches.trigrams_for(db, "note", "ends") == '("end") AND ("nds")'
        assert searches.trigrams_for(db, "note", "before Ab") == '("bef") AND ("ore")'


def ids(engine: Engine, wanted: str) -> list[int]:
    """Return the rows that the index has."""
    with Session(engine) as db:
        asked = AllNotes.model_validate({"query": wanted})
        return [note.id for page in notes.all(db, asked) for note in page]


def test_it_is_kept_up_to_date(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(delete(Note))
        new = {"title": "Something new", "body": None, "done": False}
        (number,) = connection.execute(insert(Note).values(new).returning(Note.id)).one()
    assert (ids(engine, "THING"), ids(engine, "changed")) == ([number], [])
    with engine.begin() as connection:
        connection.execute(update(Note).values(title="Another", body="is changed"))
    assert (ids(engine, "thing"), ids(engine, "CHANGED")) == ([], [number])
    with engine.begin() as connection:
        connection.execute(delete(Note))
        count = "SELECT count(*) FROM ix_note_search WHERE ix_note_search MATCH 'cha'"
        assert connection.scalar(text(count)) == 0


def test_an_index_serves_a_search(engine: Engine) -> None:
    with read_engine(engine).connect() as connection:
        for order_by in ("id", "-id"):
            asked = frozenset({"like", "trigrams", "size", "after"})
            statement = lists.page_statement(notes.listing, notes.columns, order_by, asked)
            sql = str(statement.compile(engine))
            values = ("x",) * sql.count("?")
            plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all())
            assert "VIRTUAL TABLE INDEX" in plan
            assert "TEMP B-TREE" not in plan


def test_a_copied_table_gets_it_back(engine: Engine) -> None:
    """As Alembic copies one, with rows that are changed meanwhile."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE copy AS SELECT * FROM note")
        connection.exec_driver_sql("DROP TABLE note")
        connection.exec_driver_sql("ALTER TABLE copy RENAME TO note")
        connection.exec_driver_sql("UPDATE note SET title = 'A copy' WHERE id = 3")
        assert not has_fts_index(connection, "note")
        refill_fts_indexes(connection)
        assert has_fts_index(connection, "note")
    assert ids(engine, "a copy") == [3]


def test_a_copy_without_a_column_of_it_has_none(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Triggers that name what is not there would refuse each write."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE copy AS SELECT id, title, body AS text FROM note")
        connection.exec_driver_sql("DROP TABLE note")
        connection.exec_driver_sql("ALTER TABLE copy RENAME TO note")
        refill_fts_indexes(connection)
        assert not has_fts_index(connection, "note")
        connection.exec_driver_sql("INSERT INTO note VALUES (0, 'title', 'text')")
        refill_fts_indexes(connection)
    assert caplog.text.count("alembic revision --autogenerate makes another") == 1


def test_an_index_of_what_is_not_there(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """As the way back from a migration may ask for one: nothing is left of it."""
    with engine.begin() as connection:
        for statement in drops("note"):
            connection.exec_driver_sql(statement)
        create_fts_index(connection, "note", "title", "gone")
        assert "Searches will look at every row" in caplog.text
        connection.execute(update(Note).values(title="Changed"))
        assert not has_fts_index(connection, "note")


def test_a_table_of_that_name_is_left_alone(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with engine.begin() as connection:
        for statement in (*drops("note"), "CREATE TABLE ix_note_search (title TEXT)"):
            connection.exec_driver_sql(statement)
        create_fts_index(connection, "note", "title", "body")
        refill_fts_indexes(connection)
        assert 'table "ix_note_search" already exists' in caplog.text
        connection.execute(update(Note).values(title="Changed"))  # no trigger stands in the way
    assert ids(engine, "changed")


@pytest.mark.parametrize("wanted", ["i" * 254, "é" + "is" * 126 + "i", "aß" * 127])
def test_a_long_text(engine: Engine, wanted: str) -> None:
    assert trigrams(wanted)
    assert ids(engine, wanted) == []


def test_without_it_each_row_is_looked_at(engine: Engine) -> None:
    expected = ids(engine, "example")
    searches.common.clear()
    with engine.begin() as connection:
        for statement in drops("note"):
            connection.exec_driver_sql(statement)
        assert not has_fts_index(connection, "note")
    assert ids(engine, "example") == expected
    with engine.begin() as connection:
        create_fts_index(connection, "note", "title", "body")
        create_fts_index(connection, "note", "title", "body")  # once more
        assert has_fts_index(connection, "note")
    searches.common.clear()
    assert ids(engine, "example") == expected
