#!/usr/bin/env bash
# SQLAlchemy 2.1.9: a copy of a table has forgotten which rule is for which database.
#
# CheckConstraint(...).ddl_if(dialect="sqlite") is left out where PostgreSQL is asked for. In the copy
# that Table.to_metadata() makes, it is there on each database. Two rules of one name, one for each
# database, then both stand in one CREATE TABLE, which SQLite accepts.
# Seen with Python 3.11. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sqlalchemy==2.1.9
"$folder/venv/bin/python" - <<'PYTHON'
from sqlalchemy import CheckConstraint, Column, Integer, MetaData, Table, create_engine
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

table = Table(
    "t",
    MetaData(),
    Column("a", Integer),
    CheckConstraint("a > 1", name="small").ddl_if(dialect="sqlite"),
    CheckConstraint("a > 2", name="small").ddl_if(dialect="postgresql"),
)
seen = {}
for name, each in (("table", table), ("copy", table.to_metadata(MetaData()))):
    for dialect in (sqlite.dialect(), postgresql.dialect()):
        sql = str(CreateTable(each).compile(dialect=dialect))
        seen[name, dialect.name] = sql.count("CONSTRAINT small CHECK")
print(seen)
assert seen == {
    ("table", "sqlite"): 1,
    ("table", "postgresql"): 1,
    ("copy", "sqlite"): 2,
    ("copy", "postgresql"): 2,
}
table.to_metadata(MetaData()).create(create_engine("sqlite://"))
PYTHON
