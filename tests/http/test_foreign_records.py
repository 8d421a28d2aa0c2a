"""
Records that no profile would have written, as an import may bring them: no route fails on them, and none shows
anything invalid.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest
import pytest_twisted
from prometheus_client.parser import text_string_to_metric_families
from pytest_twisted import ensureDeferred
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from kvtwist.profiles import PROFILES
from tests.http.test_every_route import ENDLESS
from tests.support.answer import Answer
from tests.support.events import Collector
from tests.support.inprocess import Client, start
from tests.support.tools import kvtwist

JSON = "application/json"
STAMP = 1_605_097_943_904
SHOWN_KEYS = (
    *(b"", b"\x00", b"\x00\x00", b"\n", b"\r\nX-Injected: 1", b"\x1f", b"\x7f", b"\xc2\x85", b" ", b'"', b"\\", b"/"),
    *(b"<a>; rel=x", b"a,b", b"a;b", b"%41", b"%", b"a+b", b"a&b=c", b"#?", b"$", b"a", b"a/history", b"set", b"kv"),
    *("é😊".encode(), "\u2028".encode(), "\ufeff".encode(), "\uffff".encode(), "\U0010ffff".encode()),
    *(b"k" * 255, b"k" * 256, b"k" * 4096, "é".encode() * 2048, b"\n" * 4096),
)
"""Keys that `keys` shows."""
UNSHOWN_KEYS = (
    *(b"\xff", b"a\xff", b"\xff\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\x80"),
    *(b"k" * 4097, "é".encode() * 2049, b"k" * 20_000, b"k" * 65_535),
)
"""Those that it cannot name, or could not name in a request."""
VALUES = (
    *(
        (b"1", JSON),
        (b"{broken", JSON),
        (b"\xff", JSON),
        (b"", JSON),
        (b"1 2", JSON),
        (b"NaN", JSON),
        (b'"\xff"', JSON),
    ),
    *((b"[" * 500 + b"]" * 500, JSON), (rb'"\ud800"', JSON), (b" 1\n", JSON), (b"v" * 70_000, "text/plain")),
    *((b"\xff", "text/plain"), (b"", "text/plain"), (b"", "application/octet-stream"), (b"\x00", "x/unknown")),
    *((b"1", ""), (b"1", 'a"\r\nb'), (b"1", "application/x-kvtwist-deletion"), (b"\xff" * 70_000, "ü" * 127)),
)
EVENTS = (
    b"a",
    b"a\0",
    b"a\0short",
    b"a\0" + b"\xff" * 16,
    b"a\0" + b"z" * 30,
    b"a\0" + STAMP.to_bytes(8, "big") + b"\xff" * 7,
    b"a\0" + (STAMP + 1).to_bytes(8, "big") + b"\xff" * 8,
    b"a\0" + STAMP.to_bytes(8, "big") + b"\xff" * 8,
    b"a\0" + STAMP.to_bytes(8, "big") + b"\0" * 8,
    b"a\0" + (STAMP - 1).to_bytes(8, "big") + b"\xff" * 8,
    b"a\1" + STAMP.to_bytes(8, "big") + b"\0" * 8,
    b"\xff\0" + STAMP.to_bytes(8, "big") + b"\xff" * 8,
)


def line(keyspace: str, key: bytes, value: bytes, media_type: str, stamp: int = STAMP) -> bytes:
    """A record, as an import wants it."""
    fields = {
        "keyspace": keyspace,
        "key_base64": b64encode(key).decode(),
        "value_base64": b64encode(value).decode(),
        "media_type": media_type,
        "modified_ms": stamp,
    }
    return json.dumps(fields).encode() + b"\n"


def records() -> Iterator[bytes]:
    """All of them. Each key meets each value in one of the keyspaces or another."""
    keys = SHOWN_KEYS + UNSHOWN_KEYS
    for at, key in enumerate(keys):
        for keyspace, offset in (("data", 0), ("staged", 5), ('strange "\n\\', 11)):
            yield line(keyspace, key, *VALUES[(at + offset) % len(VALUES)])
    for at, key in enumerate(EVENTS * 2):
        yield line("history", key, *VALUES[at % len(VALUES)])


@pytest.fixture
def arguments(request: pytest.FixtureRequest) -> list[str]:
    return ["--profile", request.param]


@pytest_twisted.async_yield_fixture
async def foreign(arguments: list[str], tmp_path: Path) -> AsyncIterator[Client]:
    """A server over such records. It must not log a failure."""
    lines = list(records())
    text = b'{"kvtwist_export":1,"revision":1}\n' + b"".join(lines) + b'{"end":%d}\n' % len(lines)
    imported = kvtwist("import", "--create", tmp_path / "data", text=text)
    assert imported.exit_code == 0, imported.output
    with no_failure_logged():
        client = await start("--store", "dir", "--working-dir", str(tmp_path / "data"), *arguments)
        yield client
        await client.stop()


@contextmanager
def no_failure_logged() -> Iterator[None]:
    """Nothing in this block writes a traceback to the log."""
    failures: list[LogEvent] = []

    def note(event: LogEvent) -> None:
        if event.get("log_failure") is not None or event["log_level"] in (LogLevel.error, LogLevel.critical):
            failures.append(event)

    globalLogPublisher.addObserver(note)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(note)
    assert failures == []


def serving(*profiles: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("arguments", profiles, indirect=True)


def pairs(answer: Answer) -> list[tuple[str, Any]]:
    """What a listing shows, in its order; it must be JSON, sorted, and name nothing twice."""
    assert answer.status == 200
    found: list[tuple[str, Any]] = json.loads(answer.body.decode(), object_pairs_hook=list)
    keys = [key.encode() for key, _ in found]
    assert keys == sorted(set(keys))
    return found


ALLOWED = {
    "GET": {200, 400, 404, 405},
    "HEAD": {200, 400, 404, 405},
    "PUT": {200, 201, 204, 400, 404, 405},
    "POST": {200, 201, 204, 400, 404, 405},
    "DELETE": {200, 204, 400, 404, 405},
    "OPTIONS": {404, 405},
}


@serving(*PROFILES)
@ensureDeferred
async def test_no_route_fails(foreign: Client, arguments: list[str]) -> None:
    profile = PROFILES[arguments[1]]
    paths = sorted({rule.rule for rule in profile.app.url_map.iter_rules()}, key=lambda path: path == "/clear")
    for method, statuses in ALLOWED.items():
        for path in paths:
            if path in ENDLESS and method == "GET":
                continue
            for key in SHOWN_KEYS + UNSHOWN_KEYS if "key>" in path else (b"",):
                if len(key) > 4097:  # too long for a request
                    continue
                body = b'{"a":1}' if method in ("PUT", "POST") else b'"a"' if method == "DELETE" else None
                answer = await foreign(method, re.sub("<.*key>", quote_from_bytes(key, safe=""), path), body)
                assert answer.status in statuses, (method, path, key, answer)
                if answer.header("content-type") == JSON and answer.body:
                    answer.json()


@serving("native")
@ensureDeferred
async def test_a_watch_tells_of_what_it_can_name(foreign: Client) -> None:
    page = (await foreign("GET", "/v1/kv?keys_only=true&limit=1000")).json()
    response = await foreign.watch(f"?after={page['revision']}")
    collector = Collector()
    response.original.deliverBody(collector)
    assert (await foreign("DELETE", "/v1/kv?all=true")).json()["deleted"] == len(SHOWN_KEYS + UNSHOWN_KEYS)
    revision = (await foreign("GET", "/v1/status")).json()["revision"]
    told = []
    while not told or told[-1].id != str(revision):
        event = await collector.queue.get()
        assert event is not None
        told.append(event)
    assert collector.transport is not None
    collector.transport.loseConnection()
    changes = [event.change for event in told if event.data is not None]
    assert changes == [("delete", item["key"], None) for item in page["items"]]


@serving("keys")
@ensureDeferred
async def test_keys_lists_what_it_can_name(foreign: Client) -> None:
    shown = [key.decode() for key in sorted(SHOWN_KEYS)]
    found = pairs(await foreign("GET", "/keys"))
    assert [key for key, _ in found] == shown
    for at, key in enumerate(SHOWN_KEYS):
        assert dict(found)[key.decode()] == as_shown(*VALUES[at % len(VALUES)])


def as_shown(value: bytes, media_type: str) -> object:
    """A value as a JSON profile shows it."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return [("base64", b64encode(value).decode())]
    try:
        return json.loads(text, object_pairs_hook=list, parse_constant=int) if media_type == JSON else text
    except ValueError:
        return text


@serving("keys")
@ensureDeferred
async def test_each_page_leads_to_the_next_one(foreign: Client) -> None:
    for pattern in ("$", "k$", "$k", "$\n$"):
        expected = pairs(await foreign("GET", f"/keys?filter={quote(pattern)}"))
        for limit in (1, 2, 7, len(SHOWN_KEYS)):
            target = f"/keys?filter={quote(pattern)}&limit={limit}"
            found = []
            while True:
                answer = await foreign("GET", target)
                page = pairs(answer)
                assert len(page) <= limit
                found += page
                link = answer.header("link")
                if link is None:
                    break
                followed = re.fullmatch(r'<(/keys\?[!-;=?-~]+)>; rel="next"', link)
                assert followed is not None, link
                target = followed[1]
                assert len(found) < 100, "the pages do not end"
            assert found == expected


@serving("keys")
@ensureDeferred
async def test_deletion_with_a_filter_deletes_what_was_listed(foreign: Client) -> None:
    for pattern in ("", "k$", "$\n", "$"):
        before = [key for key, _ in pairs(await foreign("GET", "/keys"))]
        matching = [key for key, _ in pairs(await foreign("GET", f"/keys?filter={quote(pattern)}"))]
        assert matching
        assert (await foreign("DELETE", f"/keys?filter={quote(pattern)}")).status == 204
        left = [key for key, _ in pairs(await foreign("GET", "/keys"))]
        assert left == [key for key in before if key not in matching]
    samples = {
        sample.labels["keyspace"]: sample.value
        for family in text_string_to_metric_families((await foreign("GET", "/metrics")).body.decode())
        for sample in family.samples
        if sample.name == "kvtwist_store_records"
    }
    assert 'strange "\n\\' in samples, "the metrics name every keyspace"


@serving("native")
@ensureDeferred
async def test_native_lists_what_is_utf8(foreign: Client) -> None:
    keys = [key.decode() for key in sorted(SHOWN_KEYS + UNSHOWN_KEYS) if is_utf8(key)]
    lines = (await foreign("GET", "/v1/kv", None, {"Accept": "application/x-ndjson"})).body.splitlines()
    assert [json.loads(line)["key"] for line in lines] == keys
    for query, expected in (
        ("before=k", [key for key in keys if key < "k"]),
        ("before=l&reverse=true", [key for key in reversed(keys) if key > "l"]),
    ):
        for limit in (1, 2, 7, len(keys)):
            found: list[str] = []
            after = ""
            while True:
                page = (await foreign("GET", f"/v1/kv?{query}&limit={limit}{after}")).json()
                found += [item["key"] for item in page["items"]]
                if page["next"] is None:
                    break
                assert page["next"] == found[-1], "each page has an item"
                after = f"&after={quote(page['next'], safe='')}"
            assert found == expected, (query, limit)


def is_utf8(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


@serving("transactional")
@ensureDeferred
async def test_what_is_staged_is_committed(foreign: Client) -> None:
    assert (await foreign("POST", "/commit")).status == 204
    for at, key in enumerate((*SHOWN_KEYS, *UNSHOWN_KEYS)):
        if not key or len(key) > 4097:
            continue
        answer = await foreign("GET", f"/{quote_from_bytes(key, safe='')}")
        _, media_type = VALUES[(at + 5) % len(VALUES)]
        if media_type == "application/x-kvtwist-deletion" or (key in UNSHOWN_KEYS and len(key) < 4000):
            assert answer.status == 404
        else:
            assert list(answer.json()) == [key.decode()]


@serving("history")
@ensureDeferred
async def test_history_tells_of_writes_alone(foreign: Client) -> None:
    events = (await foreign("GET", "/a/history")).json()
    assert [event["timestamp"] for event in events] == [STAMP, STAMP]
    assert (await foreign("PUT", "/a", b"1")).status == 204
    events = (await foreign("GET", "/a/history")).json()
    assert len(events) == 3
    stamps = [event["timestamp"] for event in events]
    assert stamps == sorted(stamps, reverse=True)
    assert (await foreign("GET", "/aa/history")).json() == []
