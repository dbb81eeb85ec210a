#!/usr/bin/env bash
# hypercorn 0.18.0: told to stop (SIGTERM), two workers drop the request that they are answering.
#
# With one worker, a request that takes 1.5 s is answered after the signal, within the graceful
# timeout of 3 s. With `--workers 2`, the client gets no answer: as soon as the idle worker has ended,
# the other one is ended as well. uvicorn, granian and gunicorn answer it with two workers, too.
# Seen with a plain ASGI app and Python 3.11. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet hypercorn==0.18.0
cd "$folder"
cat > slow.py <<'PYTHON'
import asyncio

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await asyncio.sleep(1.5 if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answered"})
PYTHON
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

stop_while_it_answers() {
    venv/bin/hypercorn --workers "$1" --bind "127.0.0.1:$port" slow:app > log 2>&1 &
    local server=$!
    until curl --silent "127.0.0.1:$port/" > /dev/null; do sleep 0.1; done
    curl --silent "127.0.0.1:$port/slow" > "answer$1" &
    local client=$!
    sleep 0.5
    kill -TERM "$server"
    wait "$client" || true
    wait "$server" || true
    echo "$1 worker(s): '$(cat "answer$1")'"
}

stop_while_it_answers 1
stop_while_it_answers 2
[ "$(cat answer1)" = answered ]
[ "$(cat answer2)" = "" ]
