"""What the README claims on its first screen, on a real server."""

from collections import Counter

import pytest

from benchmarks.server import Call, Server
from tests.live.tools import Writers, all_emails, new_user
from tests.users import ADA


@pytest.mark.parametrize("clients", [200])
def test_everybody_is_answered(url: str, clients: int) -> None:
    """Of each kind of call, and of those that somebody has pasted from a course."""
    with Server(url, app="benchmarks.pasted:app") as server:
        server.client.post("/user", json=ADA)
        one = "?user_id=1"
        for path in ("/users", f"/user{one}", f"/pasted/user{one}", f"/own/user{one}"):
            answers = server.at_once([("GET", path, None)] * clients)
            assert Counter(answer.status_code for answer in answers) == {200: clients}
        for path in ("/user", "/pasted/user"):
            creates: list[Call] = [("POST", path, new_user(path, n)) for n in range(clients)]
            answers = server.at_once(creates)
            assert Counter(answer.status_code for answer in answers) == {200: clients}
        assert len(all_emails(server.client)) == 1 + 2 * clients


def test_kill_9_loses_nothing_acknowledged(url: str) -> None:
    with Server(url) as server, Writers(server, 8) as writers:
        writers.wait_for(200)
        server.process.kill()
    assert not writers.refused
    with Server(url) as server:
        # Each of the eight may have sent one more, of which the answer has not come.
        written = all_emails(server.client)
        assert set(writers.acknowledged) <= written
        assert len(written) <= len(writers.acknowledged) + 8
        assert server.client.post("/user", json=ADA).status_code == 200
