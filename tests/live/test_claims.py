"""What the README claims in its first lines, on a real server."""

from collections import Counter

from tests.clients import Writers, all_emails, new_user
from tests.server import Call, Server
from tests.users import ADA


def test_200_clients_are_all_answered(url: str) -> None:
    """On each kind of call, and on those that somebody has pasted from a course."""
    with Server(url, app="benchmarks.pasted:app") as server:
        server.client.post("/user", json=ADA)
        one = "?user_id=1"
        for path in ("/users", f"/user{one}", f"/pasted/user{one}", f"/own/user{one}"):
            answers = server.at_once([("GET", path, None)] * 200)
            assert Counter(answer.status_code for answer in answers) == {200: 200}
        for path in ("/user", "/pasted/user"):
            creates: list[Call] = [("POST", path, new_user(path, n)) for n in range(200)]
            answers = server.at_once(creates)
            assert Counter(answer.status_code for answer in answers) == {200: 200}
        assert len(all_emails(server.client)) == 401


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
