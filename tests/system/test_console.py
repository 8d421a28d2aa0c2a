"""The console in a real Chromium: what a person sees and does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.support.browser import CHROMIUM, chromium, page_of
from tests.support.server import PATIENCE, Server

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")

HTML = "<img src=x onerror=\"document.title='broken'\"><b>bold</b>"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d494844520000000100000001080600000"
    "01f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)
VALUES: list[tuple[str, bytes, str]] = [
    (
        "app/config",
        b'{"big": 12345678901234567890, "list": [1.0, 1e400], "2": 0, "1": {"html": "<b>"}}',
        "application/json",
    ),
    ("app/text", b"two\nlines", "text/plain"),
    ("app/image", PNG, "image/png"),
    ("app/bytes", bytes(range(256)), "application/octet-stream"),
    ("html", HTML.encode(), "text/html"),
    (f"html:{HTML}", json.dumps({HTML: HTML}).encode(), "application/json"),
    ("user:1", b"Ada", "text/plain"),
]
MANY = 100_000
AT_ONCE = 10_000

OpenPage = Callable[..., AbstractContextManager[Page]]
expect.set_options(timeout=PATIENCE * 1000)


class Store:
    """The server, as other clients use it."""

    def __init__(self, server: Server) -> None:
        self.url = "http://{}:{}".format(*server.address)
        self._session = requests.Session()

    def __call__(
        self, method: str, target: str, body: bytes | str | None = None, media_type: str = "text/plain"
    ) -> Any:
        answer = self._session.request(
            method, self.url + target, data=body, headers={"Content-Type": media_type}, timeout=PATIENCE
        )
        assert answer.ok, answer.text
        return answer

    def put(self, key: str, value: bytes | str, media_type: str = "text/plain", query: str = "") -> None:
        self("PUT", f"/v1/kv/{quote(key, safe='')}{query}", value, media_type)

    def get(self, key: str) -> str:
        text: str = self("GET", f"/v1/kv/{quote(key, safe='')}").text
        return text


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    profiles = ("--profile", "native", "--profile", "transactional", "--profile", "history")
    server = Server(tmp_path_factory.mktemp("console") / "data", *profiles, "--ui")
    yield server
    server.kill()


@pytest.fixture
def store(server: Server) -> Store:
    store = Store(server)
    store("DELETE", "/v1/kv?all=true")
    for key, value, media_type in VALUES:
        store.put(key, value, media_type)
    return store


@pytest.fixture
def opened(browser: Browser, store: Store) -> OpenPage:
    return partial(page_of, browser, base_url=store.url)


@pytest.fixture
def page(opened: OpenPage) -> Iterator[Page]:
    """The console, live."""
    with opened() as page:
        page.goto("/ui/")
        expect(page.locator(".pill")).to_have_text("Live")
        expect(row(page, "app/")).to_be_visible()
        yield page


def row(page: Page, name: str) -> Locator:
    """The row of the tree with that name."""
    return page.get_by_role("treeitem").filter(has=page.locator(".name").get_by_text(name, exact=True))


def look_at(page: Page, key: str) -> None:
    """Follow a link to a key."""
    page.goto(f"/ui/#/browse/{quote(key, safe='')}")
    expect(page.locator(".detail .path")).to_have_attribute("title", key)
    expect(page.locator(".value")).to_be_visible()


# --- looking ----------------------------------------------------------------------------------------------------------


def test_no_view_has_an_accessibility_violation(opened: OpenPage, store: Store) -> None:
    axe = Axe()
    store("POST", "/set", '{"app/config": 1}')
    with opened() as page:

        def check(view: str) -> None:
            for scheme, rules in (("light", {}), ("dark", {"runOnly": ["color-contrast"]})):
                page.emulate_media(color_scheme=scheme)
                found = axe.run(page, options={"resultTypes": ["violations"], **rules}).response["violations"]
                assert not found, (view, scheme, [(rule["id"], rule["nodes"]) for rule in found])

        page.goto("/ui/")
        row(page, "app/").click()
        expect(row(page, "config")).to_be_visible()
        check("tree")
        for key, form in (
            ("app/config", ".json"),
            ("app/image", "img"),
            ("app/bytes", ".hexline"),
            ("app/text", "pre"),
        ):
            look_at(page, key)
            expect(page.locator(f".value {form}").first).to_be_visible()
            check(key)
        page.get_by_role("button", name="History").click()
        expect(page.locator(".history li").first).to_be_visible()
        check("history")
        page.keyboard.press("e")
        expect(page.get_by_role("textbox", name="Value")).to_be_focused()
        check("editor")
        page.keyboard.press("Escape")
        expect(page.locator(".value")).to_be_visible()
        for pressed, title in (("n", "New key"), ("Delete", "Delete this key?"), ("?", "Keyboard")):
            page.keyboard.press(pressed)
            expect(page.get_by_role("dialog", name=title)).to_be_visible()
            check(title)
            page.keyboard.press("Escape")
            expect(page.get_by_role("dialog")).to_have_count(0)
        store.put("app/text", "changed")
        for pressed, shown in (("2", ".changes .entry"), ("3", ".staged .entry"), ("4", ".chart .end")):
            page.keyboard.press(pressed)
            expect(page.locator(shown).first).to_be_attached()
            check(shown)
        page.goto("/")
        check("/")
    store("POST", "/commit")


def test_html_in_keys_and_values_is_text(page: Page, store: Store) -> None:
    store("POST", "/set", json.dumps({"staged": HTML}))
    for key in ("html", f"html:{HTML}"):
        look_at(page, key)
        expect(page.locator(".detail")).to_contain_text("<b>bold</b>")
        page.get_by_role("button", name="Text").click()
        expect(page.locator(".value pre")).to_contain_text("<b>bold</b>")
    store.put(f"html:{HTML}", HTML)
    page.keyboard.press("2")
    expect(page.locator(".changes .entry").first).to_contain_text("<b>bold</b>")
    page.keyboard.press("3")
    expect(page.locator(".staged .entry").first).to_contain_text("<b>bold</b>")
    expect(page.locator("img[src=x], main b:has-text('bold')")).to_have_count(0)
    assert page.title() != "broken"
    store("POST", "/commit")


def test_json_is_shown_and_indented_as_it_was_written(page: Page, store: Store) -> None:
    look_at(page, "app/config")
    shown = page.locator(".json").inner_text()
    assert [shown.index(text) for text in ('"big"', "12345678901234567890", "1.0", "1e400", '"2"', '"1"')] == sorted(
        shown.index(text) for text in ('"big"', "12345678901234567890", "1.0", "1e400", '"2"', '"1"')
    )
    page.keyboard.press("e")
    page.get_by_role("button", name="Indent").click()
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".toast")).to_have_text("Saved")
    assert store.get("app/config").replace("\n", "").replace(" ", "") == VALUES[0][1].decode().replace(" ", "")
    assert "1e400" in store.get("app/config")


def test_what_is_no_json_is_refused_with_its_place(page: Page) -> None:
    parsed = (
        "async (text) => { try { (await import('/ui/json.js')).parse(text) } catch (error) { return error.message } }"
    )
    for text in ('{"a":1,}', "[1 2]", '{"a" 1}', "01", "nul", '"\n"', '["\\x"]', "", "1 1", "{'a':1}"):
        assert "line 1, column" in page.evaluate(parsed, text), text
    assert page.evaluate(parsed, " [1,\n2,\n x]") == 'line 3, column 2: a value is expected, not "x"'


def test_an_image_and_bytes_have_their_own_forms(page: Page) -> None:
    look_at(page, "app/image")
    expect(page.locator("figcaption")).to_have_text(f"1 \N{MULTIPLICATION SIGN} 1, {len(PNG)} B")
    look_at(page, "app/bytes")
    expect(page.locator(".hexline").first).to_have_text(
        "0000000000 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f················"
    )


def test_a_search_finds_by_part_and_by_pattern(page: Page) -> None:
    page.keyboard.press("/")
    for text, expected in (("CONF", ["app/config"]), ("app/*e*t", ["app/text"]), ("user", ["user:1"]), ("nothing", [])):
        page.get_by_role("searchbox").fill(text)
        expect(page.locator(".foot")).to_contain_text("found in")
        expect(page.locator(".row.leaf .name")).to_have_text(expected)
    page.keyboard.press("Escape")
    expect(row(page, "app/")).to_be_visible()


def test_the_tree_follows_the_keyboard(page: Page) -> None:
    page.locator("#tree").focus()
    for pressed in ("Home", "ArrowRight", "ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(pressed)
        if pressed == "ArrowRight":
            expect(row(page, "bytes")).to_be_visible()
    expect(page.locator(".detail .path")).to_have_attribute("title", "app/config")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(row(page, "bytes")).to_have_count(0)


def test_a_narrow_screen_shows_the_tree_or_the_key(opened: OpenPage) -> None:
    with opened(viewport={"width": 390, "height": 800}) as page:
        page.goto("/ui/")
        row(page, "app/").click()
        row(page, "text").click()
        expect(page.locator(".value pre")).to_have_text("two\nlines")
        expect(page.locator("#tree")).to_be_hidden()
        page.get_by_role("button", name="Back to the keys").click()
        expect(row(page, "text")).to_be_visible()
        for view in ("changes", "staged", "dashboard", "browse"):
            page.goto(f"/ui/#/{view}")
            expect(page.locator("nav [aria-current]")).to_have_attribute("href", f"#/{view}")
            widest = "Math.max(...[...document.querySelectorAll('main .button, main input')].map((e) => e.getBoundingClientRect().right))"
            assert page.evaluate(widest) <= 390, view


# --- changes ----------------------------------------------------------------------------------------------------------


def test_changes_of_others_appear_in_the_tree_the_value_and_the_log(page: Page, store: Store) -> None:
    row(page, "app/").click()
    look_at(page, "app/text")
    store.put("app/new", "1", query="?ttl=1")
    expect(row(page, "new")).to_be_visible()
    store.put("app/text", "three")
    expect(page.locator(".value pre")).to_have_text("three")
    expect(row(page, "new")).to_have_count(0)  # it has expired
    store("DELETE", "/v1/kv/app%2Ftext")
    expect(page.locator(".banner")).to_contain_text("This key was deleted")
    expect(row(page, "text")).to_have_count(0)
    page.keyboard.press("2")
    expect(page.locator(".entry .kind")).to_have_text(["delete", "expire", "put", "put"])


def test_a_key_is_created_edited_and_deleted(page: Page, store: Store) -> None:
    page.keyboard.press("n")
    page.get_by_role("textbox", name="Key", exact=True).fill("app/made")
    page.get_by_label("Type").fill("text/plain")
    page.get_by_role("dialog").get_by_label("Value").fill("first")
    page.get_by_label("Expires").select_option("in")
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".value pre")).to_have_text("first")
    expect(page.locator(".facts .expires")).to_be_visible()
    page.keyboard.press("e")
    page.get_by_label("Value").fill("second")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".value pre")).to_have_text("second")
    assert store.get("app/made") == "second"
    assert "Expires" in store("GET", "/v1/kv/app%2Fmade").headers, "an edit keeps the expiry"
    page.keyboard.press("Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".banner")).to_contain_text("This key was deleted")


def test_a_new_key_does_not_replace_one_that_there_is(page: Page, store: Store) -> None:
    page.keyboard.press("n")
    page.get_by_role("textbox", name="Key", exact=True).fill("app/text")
    page.get_by_role("dialog").get_by_label("Value").fill("1")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert")).to_contain_text("There is such a key already")
    assert store.get("app/text") == "two\nlines"


def test_when_somebody_was_faster_both_sides_are_shown(page: Page, store: Store) -> None:
    look_at(page, "app/text")
    page.keyboard.press("e")
    page.get_by_label("Value").fill("mine\nlines")
    store.put("app/text", "theirs\nlines")
    expect(page.locator(".editor .banner")).to_contain_text("Meanwhile the key was written")
    page.keyboard.press("Control+Enter")
    dialog = page.get_by_role("dialog", name="Somebody was faster")
    expect(dialog.locator("mark")).to_have_text(["mine", "theirs"])
    assert store.get("app/text") == "theirs\nlines"
    store.put("app/text", "still faster")
    dialog.get_by_role("button", name="Overwrite with yours").click()
    expect(dialog.locator(".versus").last).to_contain_text("still faster")
    dialog.get_by_role("button", name="Overwrite with yours").click()
    expect(page.locator(".value pre")).to_have_text("mine\nlines")
    assert store.get("app/text") == "mine\nlines"


def test_all_keys_with_a_prefix_go_when_it_is_typed(page: Page, store: Store) -> None:
    row(page, "app/").click()
    page.get_by_role("button", name="Delete all keys below app/").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Delete all").click()
    expect(dialog.get_by_role("alert")).to_have_text("This is not the prefix.")
    dialog.get_by_role("textbox").fill("app/")
    dialog.get_by_role("button", name="Delete all").click()
    expect(page.locator(".toast")).to_have_text("4 keys deleted")
    expect(row(page, "app/")).to_have_count(0)
    assert store.get("user:1") == "Ada"


def test_an_earlier_value_can_be_edited_again(page: Page, store: Store) -> None:
    for value in ('{"n": 1e400}', "2"):
        store.put("versions", value, "application/json")
    look_at(page, "versions")
    page.get_by_role("button", name="History").click()
    expect(page.locator(".history pre")).to_have_text(["2", '{"n": 1e400}'])
    page.get_by_role("button", name="Edit from this").click()
    expect(page.get_by_role("textbox", name="Value")).to_have_value('{"n": 1e400}')


def test_staged_changes_are_listed_and_committed(page: Page, store: Store) -> None:
    store("POST", "/set", '{"staged": {"n": 1}}')
    store("DELETE", "/set", '"user:1"')
    expect(page.locator(".badge")).to_have_text("2")
    page.keyboard.press("3")
    expect(page.locator(".staged .kind")).to_have_text(["put", "delete"])
    page.get_by_role("button", name="Commit").click()
    page.get_by_role("dialog").get_by_role("button", name="Commit").click()
    expect(page.locator(".staged .empty")).to_contain_text("Nothing is staged")
    assert store.get("staged") == '{"n": 1}'


# --- the server -------------------------------------------------------------------------------------------------------


def test_the_dashboard_draws_what_happens(page: Page, store: Store) -> None:
    page.keyboard.press("4")
    store.get("user:1")
    expect(page.locator("tbody")).to_contain_text("GET /v1/kv/<path:key>")
    expect(page.locator(".tile").filter(has_text="Records").locator("b")).to_have_text(str(len(VALUES)))
    page.wait_for_function("document.querySelectorAll('.chart .line').length === 7")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download").click()
    assert saved.value.suggested_filename == "kvtwist.tar"


def test_a_server_that_wants_a_token_is_given_one(opened: OpenPage) -> None:
    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer secret":
            route.continue_()
        else:
            route.fulfill(status=401, headers={"WWW-Authenticate": "Bearer"})

    with opened() as page:
        page.route("**/v1/**", guard)
        page.route("**/ui/api/**", guard)
        page.goto("/ui/")
        for token, title in (
            ("wrong", "This server wants a token."),
            ("secret", "The server does not accept this token."),
        ):
            expect(page.get_by_role("dialog")).to_contain_text(title)
            page.get_by_label("Token").fill(token)
            page.keyboard.press("Enter")
        expect(row(page, "app/")).to_be_visible()
        expect(page.locator(".pill")).to_have_text("Live")


def test_when_changes_are_gone_the_keys_are_listed_again(opened: OpenPage, store: Store) -> None:
    with opened() as page:
        page.goto("/ui/")
        expect(row(page, "app/")).to_be_visible()
        page.keyboard.press("2")
        page.get_by_role("button", name="Pause").click()
        expect(page.locator(".pill")).to_have_text("Paused")
        store.put("missed", "1")
        page.route("**/v1/watch", lambda route: route.fulfill(status=410, body='{"oldest":1}'), times=1)
        page.get_by_role("button", name="Resume").click()
        page.keyboard.press("1")
        expect(row(page, "missed")).to_be_visible()


def test_a_hundred_thousand_keys_scroll_with_few_elements(opened: OpenPage, store: Store) -> None:
    for start in range(0, MANY, AT_ONCE):
        puts = [{"put": {"key": f"many/{number:06}", "value": "x"}} for number in range(start, start + AT_ONCE)]
        store("POST", "/v1/txn", json.dumps({"then": puts}))
    with opened() as page:
        page.goto("/ui/")
        row(page, "many/").click()
        page.wait_for_function(
            """(many) => {
                const tree = document.getElementById("tree");
                if (document.querySelectorAll("*").length > 1500) throw new Error("too many elements");
                tree.scrollTop = tree.scrollHeight;
                return tree.scrollHeight > many * 30;
            }""",
            arg=MANY,
            timeout=5 * PATIENCE * 1000,
        )
        page.locator("#tree").focus()
        page.locator("#tree").evaluate("(tree) => { tree.scrollTop = 50000 * 30; }")
        expect(row(page, "050000")).to_be_visible()
        assert page.locator("#tree *").count() < 700
