#!/usr/bin/env bash
# alembic 1.20.1: what stops `alembic upgrade head --sql` is written into the script, and nowhere else.
#
# A migration that raises CommandError, as those do that must look at the data, ends the command with
# 255. The line "FAILED: ..." goes to stdout, behind the statements so far: with `> script.sql`, the
# terminal shows nothing but the log, and the file begins a transaction that it never ends.
# Seen with SQLAlchemy 2.1.9 and Python 3.11. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet alembic==1.20.1 sqlalchemy==2.1.9
cd "$folder"
venv/bin/alembic init migrations > /dev/null
cat > migrations/versions/1_look.py <<'PYTHON'
from alembic import op
from alembic.util import CommandError

revision, down_revision = "1", None

def upgrade():
    op.execute("SELECT 1")
    raise CommandError("this has to look at the data")
PYTHON
sed -i 's|^sqlalchemy.url = .*|sqlalchemy.url = postgresql://localhost/x|' alembic.ini
venv/bin/pip install --quiet psycopg2-binary==2.9.11
code=0
venv/bin/alembic upgrade head --sql > script.sql 2> terminal || code=$?
echo "exit $code"
grep -c FAILED script.sql terminal || true
grep -cE '^(BEGIN|COMMIT);' script.sql
[ "$code" = 255 ]
[ "$(grep -c FAILED script.sql)" = 1 ]
[ "$(grep -c FAILED terminal || true)" = 0 ]
[ "$(grep -cE '^BEGIN;' script.sql)" = 1 ]
[ "$(grep -cE '^COMMIT;' script.sql || true)" = 0 ]
