"""The page that shows what each request does, in a browser, as a learner uses it."""

import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.clients import wait_until
from tests.processes import needs, run_python
from tests.server import ROOT, Server
from watch.trace import KEPT

WIDE, NARROW = {"width": 1440, "height": 1000}, {"width": 390, "height": 800}
LOVELACE = {"name": "Ada Lovelace", "email": "ada@example.com"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    needs(program, "a browser: apt-get install chromium")
    options = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    if os.getuid() == 0:
        options.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@pytest.fixture
def server(url: str) -> Iterator[Server]:
    with Server(url, app="watch.app:app") as server:
        yield server


@pytest.fixture
def only_sqlite(tmp_path: Path) -> Iterator[Server]:
    """Serve the page where the database makes no difference."""
    with Server(f"sqlite:///{tmp_path}/app.db", app="watch.app:app") as server:
        yield server


class Window:
    """A page in the browser; when it closes, nothing may have gone wrong."""

    def __init__(self, browser: Browser, server: Server, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(
            **{"viewport": WIDE, "locale": "en-GB"} | options
        )
        self.address = server.address
        self.problems: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda message: self.note(message.type, message.text))
        self.page.on("request", lambda request: self.note_request(request.url))

    def note(self, kind: str, text: str) -> None:
        """Note what the page complains of; the browser itself does so of each 4xx."""
        if kind in ("error", "warning") and "the server responded with a status of 4" not in text:
            self.problems.append(text)

    def note_request(self, address: str) -> None:
        """Note what is asked of another host."""
        if not address.startswith((self.address, "data:", "blob:")):
            self.problems.append(f"asked {address}")

    def __enter__(self) -> Page:
        self.page.goto(self.address)
        expect(self.page.locator("#page")).not_to_be_empty()
        return self.page

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.context.close()
        if kind is None:
            assert self.problems == []


def request(page: Page, method: str, path: str) -> Any:
    """Return the newest request of that kind in the list."""
    line = page.locator(".line").filter(has_text=method).filter(has_text=path)
    return page.locator("#requests > li").filter(has=line).first


def traces(server: Server, path: str) -> list[dict[str, Any]]:
    """Return the traces of requests to a path, as the server sends them, up to now."""
    now = f"/openapi.json?{uuid4()}"
    server.client.get(now)
    found = {}
    with server.client.stream("GET", "/watch/events") as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                trace = json.loads(line.removeprefix("data: "))
                found[trace["number"]] = trace
                if trace["path"] == now and trace["ms"] is not None:
                    break
    return [trace for trace in found.values() if trace["path"].startswith(path)]


def steps(trace: dict[str, Any]) -> list[str]:
    return [step["name"] for step in trace["steps"]]


def fill(page: Page, name: str, email: str) -> None:
    page.fill("#user input[name=name]", name)
    page.fill("#user input[name=email]", email)
    page.click("#save")


# ---- The users


def test_add_change_search_and_delete(browser: Browser, server: Server) -> None:
    with Window(browser, server) as page:
        rows = page.locator("#rows tr")
        fill(page, **LOVELACE)
        expect(rows).to_have_count(1)
        expect(page.locator("#message")).to_have_text("Done")
        expect(request(page, "POST", "/users")).to_contain_text("COMMIT")
        fill(page, "Bob", "bob@example.com")
        expect(rows).to_have_count(2)
        rows.nth(1).get_by_role("button", name="Edit").click()
        page.fill("#user input[name=name]", "Robert")
        page.uncheck("#user input[name=is_active]")
        page.click("#save")
        expect(rows.nth(1)).to_contain_text("Robert")
        expect(rows.nth(1)).to_contain_text("no")
        expect(request(page, "PATCH", "/users/2")).to_contain_text("COMMIT")
        page.fill("#search input", "love")
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("Ada Lovelace")
        expect(request(page, "GET", "query=love")).to_contain_text("only reads: no BEGIN")
        rows.get_by_role("button", name="Delete").click()
        expect(rows).to_have_count(0)
        page.fill("#search input", "")
        expect(rows).to_have_count(1)
    assert [user["name"] for user in server.client.get("/users").json()] == ["Robert"]


def test_pages(browser: Browser, only_sqlite: Server) -> None:
    bodies = [{"name": f"User {n}", "email": f"{n}@example.com"} for n in range(1, 26)]
    only_sqlite.client.post("/users/bulk", json=bodies)
    with Window(browser, only_sqlite) as page:
        expect(page.locator("#page")).to_have_text("Page 1 of 3, 25 users")
        page.get_by_role("button", name="Next").click()
        page.get_by_role("button", name="Next").click()
        expect(page.locator("#rows tr")).to_have_count(5)
        expect(page.get_by_role("button", name="Next")).to_be_disabled()
        page.fill("#search input", "User 7")
        expect(page.locator("#page")).to_have_text("Page 1 of 1, 1 user")


def test_by_keyboard(browser: Browser, only_sqlite: Server) -> None:
    with Window(browser, only_sqlite) as page:
        page.locator("#user input[name=name]").focus()
        page.keyboard.type("Ada")
        page.keyboard.press("Tab")
        page.keyboard.type("ada@example.com")
        page.keyboard.press("Enter")
        expect(page.locator("#rows tr")).to_have_count(1)
        summary = request(page, "POST", "/users").locator("summary")
        summary.focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")  # to the first step
        page.keyboard.press("Enter")
        expect(request(page, "POST", "/users").locator(".chosen")).to_contain_text("come slowly")


def test_names_are_text(browser: Browser, only_sqlite: Server) -> None:
    name = "<img src=x onerror=document.title='hit'>"
    with Window(browser, only_sqlite) as page:
        fill(page, name, "ada@example.com")
        expect(page.locator("#rows tr")).to_contain_text(name)
        page.fill("#search input", name)
        entry = request(page, "GET", "onerror")
        entry.locator("summary").click(position={"x": 5, "y": 5})
        # The first search of SQLite also looks whether it has an index.
        entry.locator("button.step[data-name=sql]").last.click()
        expect(entry.locator(".chosen")).to_contain_text("onerror")
        assert page.locator("img").count() == 0
        assert page.title() == "See the session"


# ---- The timeline


def test_a_conflict_rolls_back(browser: Browser, server: Server) -> None:
    server.client.post("/users", json=LOVELACE)
    with Window(browser, server) as page:
        fill(page, **LOVELACE)
        expect(page.locator("#message")).to_have_text("409: Email already registered")
        entry = request(page, "POST", "409")
        expect(entry).to_contain_text("ROLLBACK")
        entry.locator(".bar[data-name=rollback]").click(force=True)
        expect(entry.locator(".chosen")).to_contain_text("is undone")
        entry.locator("button.step[data-name=sql]").click()
        expect(entry.locator(".chosen .error")).to_contain_text(
            "uq_user_email" if "postgres" in server.url else "UNIQUE constraint failed"
        )
        expect(entry.locator(".chosen")).to_contain_text("ada@example.com")


def test_bad_input_takes_no_connection(browser: Browser, only_sqlite: Server) -> None:
    with Window(browser, only_sqlite) as page:
        fill(page, "", "nobody")
        expect(page.locator("#message")).to_contain_text("422: name: ")
        entry = request(page, "POST", "422")
        expect(entry).to_contain_text("no connection taken")
        assert entry.locator(".bar[data-name=connection]").count() == 0


def test_a_step_names_its_line(browser: Browser, only_sqlite: Server) -> None:
    with Window(browser, only_sqlite) as page:
        fill(page, **LOVELACE)
        entry = request(page, "POST", "/users")
        expect(entry).to_contain_text("COMMIT")
        entry.locator("summary").click(position={"x": 5, "y": 5})
        for index in range(entry.locator("button.step").count()):
            entry.locator("button.step").nth(index).click()
            if entry.locator(".where").count() == 0:
                assert index == 0  # the body, which the server has read
                continue
            file, number = entry.locator(".where strong").inner_text().split(":")
            line = (ROOT / file).read_text().splitlines()[int(number) - 1]
            assert entry.locator(".where code").inner_text() == line.strip()
            sentences = entry.locator(".chosen p").first.inner_text()
            assert len(re.findall(r"\.(?: |$)", sentences)) == 2
        commit = entry.locator("button.step[data-name=commit]")
        commit.click()
        expect(entry.locator(".where")).to_contain_text("db.commit()")


def test_requests_of_others(browser: Browser, only_sqlite: Server) -> None:
    with Window(browser, only_sqlite) as page:
        only_sqlite.client.post("/user", json=LOVELACE)
        expect(request(page, "POST", "/user")).to_contain_text("COMMIT")
        expect(page.locator("#rows tr")).to_have_count(1)


def test_the_bars_are_drawn_to_scale(browser: Browser, only_sqlite: Server) -> None:
    with Window(browser, only_sqlite) as page:
        only_sqlite.client.get("/lesson/report")
        (trace,) = traces(only_sqlite, "/lesson/report")
        entry = request(page, "GET", "/lesson/report")
        expect(entry).to_contain_text("only reads")
        total = entry.locator(".bars").bounding_box()["width"]
        for name in ("session", "connection"):
            (step,) = (step for step in trace["steps"] if step["name"] == name)
            box = entry.locator(f".bar[data-name={name}]").bounding_box()
            assert box["width"] / total == pytest.approx(step["ms"] / trace["ms"], abs=0.01)


def test_what_a_trace_holds(server: Server) -> None:
    server.client.post("/user", json=LOVELACE)
    server.client.get("/user?user_id=1")
    server.client.get("/user?user_id=2")
    server.client.post("/user", json=LOVELACE)
    server.client.post("/user", json={})
    created, refused, invalid = [
        each for each in traces(server, "/user") if each["method"] == "POST"
    ]
    found, missing = [each for each in traces(server, "/user") if each["method"] == "GET"]
    start, end = ["turn", "session"], ["closed", "answer"]
    write = ["connection", "begin", "sql"]
    for trace in (created, refused, invalid):
        assert trace["steps"].pop(0)["name"] == "body"
    assert steps(created) == [*start, *write, "commit", "returned", *end]
    assert steps(refused) == [*start, *write, "rollback", "returned", *end]
    assert steps(found) == steps(missing) == [*start, "connection", "sql", "returned", *end]
    assert steps(invalid) == [*start, *end]
    assert [each["status"] for each in (created, refused, invalid)] == [200, 409, 422]
    assert [each["status"] for each in (found, missing)] == [200, 404]
    sql = next(step for step in created["steps"] if step["name"] == "sql")
    file, number = sql["where"].split(":")
    assert file == "crud.py"
    assert (ROOT / file).read_text().splitlines()[int(number) - 1].strip() == sql["code"]
    assert "users.insert(db" in sql["code"]
    assert "ada@example.com" in sql["details"]["parameters"]
    assert sql["details"]["sql"].startswith("INSERT INTO")


def test_server_timing(only_sqlite: Server) -> None:
    header = only_sqlite.client.post("/user", json=LOVELACE).headers["Server-Timing"]
    metrics = [
        re.fullmatch(r'([a-z]+)\d+;dur=(\d+\.\d\d);desc="[\w./:]*"', each)
        for each in header.split(", ")
    ]
    names = [metric[1] for metric in metrics if metric]
    assert names == ["body", "turn", "session", "connection", "sql", "commit"]


def test_headers_and_traces_have_a_limit(only_sqlite: Server) -> None:
    bodies = [{"name": "N" * 100, "email": f"{n}@example.com"} for n in range(1000)]
    header = only_sqlite.client.post("/users/bulk", json=bodies).headers["Server-Timing"]
    only_sqlite.client.get(f"/users?query={'x' * 5000}")
    assert len(header) < 2000
    assert max(len(json.dumps(trace)) for trace in traces(only_sqlite, "/users")) < 300_000


def test_health(only_sqlite: Server) -> None:
    only_sqlite.client.get("/health")
    (trace,) = traces(only_sqlite, "/health")
    assert "sql" in steps(trace)


def test_an_exception_is_shown(browser: Browser, only_sqlite: Server) -> None:
    with Window(browser, only_sqlite) as page:
        learn(page, "classic")
        entry = request(page, "GET", "500")
        entry.locator("summary").click(position={"x": 5, "y": 5})
        entry.locator("button.step[data-name=answer]").click()
        expect(entry.locator(".chosen .error")).to_contain_text("QueuePool limit of size 2")


def test_no_end_is_missed(browser: Browser, only_sqlite: Server) -> None:
    with Window(browser, only_sqlite) as page:
        with ThreadPoolExecutor(50) as pool:
            paths = (f"/user?user_id={number}" for number in range(1, 151))
            list(pool.map(only_sqlite.client.get, paths))
        expect(page.locator("#now")).to_contain_text("requests 0,")
        expect(page.locator("#requests > li")).to_have_count(151)  # and one of our `Server`


def test_a_bar_of_a_running_request(browser: Browser, only_sqlite: Server) -> None:
    """The bars grow; they have to be the same ones when the mouse button goes up again."""
    with Window(browser, only_sqlite) as page:
        learn(page, "classic")
        expect(page.locator("#now")).to_contain_text("with a session 4, with a connection 2")
        page.wait_for_timeout(500)
        holding = page.locator("#requests > li").filter(has=page.locator("[data-name=connection]"))
        bar = holding.first.locator(".bar[data-name=connection]")
        expect(bar).to_be_visible()
        box = bar.bounding_box()
        assert box
        page.mouse.move(box["x"] + 3, box["y"] + 2)
        page.mouse.down()
        page.wait_for_timeout(300)
        page.mouse.up()
        expect(holding.first.locator(".chosen")).to_contain_text("pool keeps")


def test_a_server_that_is_started_anew(browser: Browser, tmp_path: Path) -> None:
    """What it had begun is gone, and the list is that of the new one."""
    url = f"sqlite:///{tmp_path}/app.db"
    with Server(url, app="watch.app:app") as server:
        port = server.address.rpartition(":")[2]
        window = Window(browser, server)
        page = window.__enter__()
        with socket.create_connection(("127.0.0.1", int(port))) as half:
            half.sendall(b"POST /user HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            expect(page.locator("#now")).to_contain_text("requests 1, waiting for their turn 0")
            server.process.kill()
        expect(page.locator("#now")).to_have_text("The server does not answer")
    with Server(url, app="watch.app:app", port=int(port)) as server:
        server.client.post("/user", json=LOVELACE)
        expect(page.locator("#rows tr")).to_have_count(1)
        expect(page.locator("#now")).to_contain_text("requests 0,")
    window.context.close()


def test_the_focus_stays(browser: Browser, only_sqlite: Server) -> None:
    only_sqlite.client.post("/user", json=LOVELACE)
    with Window(browser, only_sqlite) as page:
        page.get_by_role("button", name="Edit").focus()
        only_sqlite.client.patch("/users/1", json={"name": "Augusta"})
        expect(page.locator("#rows tr")).to_contain_text("Augusta")
        assert page.evaluate("document.activeElement.textContent") == "Edit"


def test_what_has_no_session_is_traced_too(only_sqlite: Server) -> None:
    assert only_sqlite.client.get("/docs").status_code == 200
    style = only_sqlite.client.get("/static-offline-docs/swagger-ui.css")
    assert (style.status_code, style.headers.get("Server-Timing")) == (200, None)
    assert only_sqlite.client.get("/nothing").status_code == 404

    def seen() -> set[tuple[str, int]]:
        return {(trace["path"], trace["status"]) for trace in traces(only_sqlite, "/")}

    # The trace of a file ends a moment after the last of it was sent.
    expected = {("/static-offline-docs/swagger-ui.css", 200), ("/nothing", 404)}
    wait_until(lambda: expected <= seen())


def test_the_last_200_are_kept(only_sqlite: Server) -> None:
    for number in range(KEPT + 5):
        only_sqlite.client.get(f"/user?user_id={number + 1}")
    kept = traces(only_sqlite, "/user")
    assert len(kept) == KEPT - 1
    assert kept[0]["path"] == "/user?user_id=7"


# ---- The lessons


def learn(page: Page, lesson: str) -> Any:
    """Press the button of a lesson, and return the place of its result."""
    page.click(f"[data-lesson={lesson}]")
    return (
        page.locator("#lessons li")
        .filter(has=page.locator(f"[data-lesson={lesson}]"))
        .locator(".result")
    )


def test_twenty_at_once(browser: Browser, server: Server) -> None:
    with Window(browser, server) as page:
        # Eight at once do not last; `expect` looks only now and then.
        page.evaluate("""() => {
            const now = document.querySelector("#now");
            window.seen = [];
            const note = () => seen.push(now.textContent);
            new MutationObserver(note).observe(now, { childList: true, subtree: true });
        }""")
        expect(learn(page, "many")).to_have_text("Answers: 20 × 200")
        seen = "\n".join(page.evaluate("seen"))
        assert "requests 20, waiting for their turn 12, with a session 8" in seen
        expect(page.locator("#requests .path", has_text="/lesson/report")).to_have_count(20)
    waits = sorted(trace["steps"][0]["ms"] for trace in traces(server, "/lesson/report"))
    assert waits[8] > 200 + waits[0]  # the ninth has waited for the first
    opened = [trace["steps"][1]["details"]["open"] for trace in traces(server, "/lesson/report")]
    assert max(opened) == 8


def test_a_forgotten_commit(browser: Browser, only_sqlite: Server) -> None:
    with Window(browser, only_sqlite) as page:
        expect(learn(page, "forget")).to_have_text("Answers: 2 × 200")
        expect(request(page, "POST", "/lesson/forget")).to_contain_text("ROLLBACK")
    assert only_sqlite.client.get("/users").json() == []


def test_n_plus_1(browser: Browser, only_sqlite: Server) -> None:
    with Window(browser, only_sqlite) as page:
        expect(learn(page, "n-plus-1")).to_have_text("Answers: 2 × 200")
        for path, statements in (("/lesson/naive", 4), ("/lesson/eager", 2)):
            expect(request(page, "GET", path).locator(".bar[data-name=sql]")).to_have_count(
                statements
            )


def test_the_same_email_twice(browser: Browser, server: Server) -> None:
    with Window(browser, server) as page:
        result = learn(page, "same-email")
        expect(result).to_contain_text("1 × 201")
        expect(result).to_contain_text("1 × 409")
        expect(request(page, "POST", "201")).to_contain_text("COMMIT")
        expect(request(page, "POST", "409")).to_contain_text("ROLLBACK")
    assert len(server.client.get("/users").json()) == 1


def test_the_classic_snippet_in_small(browser: Browser, server: Server) -> None:
    with Window(browser, server) as page:
        result = learn(page, "classic")
        expect(page.locator("#now")).to_contain_text("with a session 4, with a connection 2")
        # The last may still get a connection that the one before it has given up.
        expect(result).to_have_text(re.compile("^Answers: .*1[01] × 200"))
        expect(result).to_have_text(re.compile("[12] × 500"))
    checked = traces(server, "/checked")
    assert {trace["status"] for trace in checked} == {200, 500}
    assert min(trace["ms"] for trace in checked) > 1900  # nobody before the pool gave up
    for path in ("/classic", "/ours"):
        answered = traces(server, path)
        assert [trace["status"] for trace in answered] == [200] * 4
        assert max(trace["ms"] for trace in answered) < 1900


def test_both_waits_of_the_deadlock(browser: Browser, only_sqlite: Server) -> None:
    """Two hold a connection and wait for a thread, two hold a thread and wait for a connection."""
    with Window(browser, only_sqlite) as page:
        expect(learn(page, "classic")).to_contain_text("500")
        checked = page.locator("#requests > li").filter(has_text="/checked")
        for wait in ("The request waits for a thread", "The session waits for a connection"):
            expect(checked.filter(has_text=wait).first).to_be_visible()
    found = traces(only_sqlite, "/checked")
    long = {
        name: sum(
            any(step["name"] == name and step["ms"] > 1800 for step in trace["steps"])
            for trace in found
        )
        for name in ("thread", "wait")
    }
    assert long["thread"] == 2
    assert long["wait"] in (1, 2)


# ---- How it looks


def test_both_languages(browser: Browser, only_sqlite: Server) -> None:
    with Window(browser, only_sqlite, locale="fr-CA") as page:
        expect(page.locator("h1")).to_have_text("Voir la session")
        assert page.locator("html").get_attribute("lang") == "fr"
        fill(page, **LOVELACE)
        expect(page.locator("#message")).to_have_text("C'est fait")
        page.fill("#search input", "ada")
        expect(request(page, "GET", "/users")).to_contain_text("lecture")
        page.click("[data-language=en]")
        expect(page.locator("h1")).to_have_text("See the session")
        page.reload()  # remembered, though the browser asks for French
        expect(page.locator("h1")).to_have_text("See the session")


def test_both_languages_say_all(browser: Browser, only_sqlite: Server) -> None:
    names = """async () => {
        const { TEXTS } = await import("/watch/texts.js");
        const names = (value, path) => typeof value !== "object" ? [path]
            : Object.entries(value).flatMap(([key, inner]) => names(inner, `${path}.${key}`));
        return [names(TEXTS.en, ""), names(TEXTS.fr, "")];
    }"""
    with Window(browser, only_sqlite) as page:
        english, french = page.evaluate(names)
        assert english == french
        assert len(english) > 70


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW])
def test_dark_light_wide_and_narrow(
    browser: Browser, only_sqlite: Server, color_scheme: str, viewport: dict[str, int]
) -> None:
    long = {"name": "W" * 100, "email": f"{'w' * 60}@{'example' * 8}.com"}
    only_sqlite.client.post("/users", json=long)
    with Window(browser, only_sqlite, color_scheme=color_scheme, viewport=viewport) as page:
        learn(page, "forget")
        expect(request(page, "POST", "/lesson/forget")).to_contain_text("ROLLBACK")
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert back == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 29)"}[color_scheme]
        box = page.locator("#requests").bounding_box()
        assert box
        side_by_side = box["x"] > 400
        assert side_by_side == (viewport == WIDE)


# ---- Beside it


def test_the_app_loads_nothing_of_it(tmp_path: Path) -> None:
    script = "import main, sys; print({'examples', 'watch'} & sys.modules.keys())"
    done = run_python("-c", script, folder=tmp_path)
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM")
def test_an_open_page_does_not_hold_up_the_server(browser: Browser, only_sqlite: Server) -> None:
    window = Window(browser, only_sqlite)
    window.__enter__()
    only_sqlite.process.terminate()
    only_sqlite.process.wait(3)
    window.context.close()


def test_the_pages_of_the_app(browser: Browser, url: str) -> None:
    """What a browser shows at /users and /docs, without the internet."""
    with Server(url) as server:
        window = Window(browser, server)
        page = window.page
        page.goto(f"{server.address}/users")
        assert "[]" in page.content()
        page.goto(f"{server.address}/docs")
        page.locator("[id$=user-lesson_create_user]").click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".live-responses-table td.response-col_status").last).to_contain_text(
            "200"
        )
        page.goto(f"{server.address}/users")
        assert "ada@example.com" in page.content()
        window.__exit__(None)
