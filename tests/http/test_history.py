"""`history`: bytes under short plain keys, and every write of the last two minutes."""

from __future__ import annotations

import base64
import re
import time

import pytest
from pytest_twisted import ensureDeferred

from tests.support.answer import JSON, OCTETS, is_bare, is_json_error
from tests.support.inprocess import Client

MILLISECONDS_AN_HOUR = 3_600_000


@pytest.fixture
def arguments() -> list[str]:
    return ["--profile", "history"]


@ensureDeferred
async def test_examples_of_the_spec(http: Client) -> None:
    written = await http("PUT", "/foo", b"hello world!", {"Content-Type": "application/octet-stream"})
    assert written.status == 204

    read = await http("GET", "/foo")
    assert (read.status, read.body, read.content_length) == (200, b"hello world!", 12)
    assert read.header("content-type") == OCTETS

    history = await http("GET", "/foo/history")
    assert (history.status, history.content_length) == (200, 52)
    assert history.header("content-type") == JSON
    write = rb'\{"value":"hello world!","timestamp":(\d{13})\}'
    assert re.fullmatch(rb"\[" + write + rb"\]", history.body)

    assert (await http("DELETE", "/foo")).status == 204

    history = await http("GET", "/foo/history")
    assert (history.status, history.content_length) == (200, 93)
    assert history.header("content-type") == JSON
    both = re.fullmatch(rb'\[\{"value":null,"timestamp":(\d{13})\},' + write + rb"\]", history.body)
    assert both is not None
    assert int(both[1]) >= int(both[2])

    is_bare(await http("GET", "/qux"), 404)


@ensureDeferred
async def test_timestamps_are_milliseconds_since_the_epoch(http: Client) -> None:
    await http("PUT", "/foo", b"1")
    [event] = (await http("GET", "/foo/history")).json()
    assert abs(event["timestamp"] - time.time() * 1000) < MILLISECONDS_AN_HOUR


@ensureDeferred
async def test_history_is_newest_first_and_ties_keep_their_order(http: Client) -> None:
    for number in range(30):
        assert (await http("PUT", "/foo", b"%d" % number)).status == 204
    events = (await http("GET", "/foo/history")).json()
    assert [event["value"] for event in events] == [str(number) for number in reversed(range(30))]
    stamps = [event["timestamp"] for event in events]
    assert stamps == sorted(stamps, reverse=True)


@pytest.mark.parametrize("value", [b"v" * 1000, b"\xff" * 1000], ids=["text", "bytes"])
@ensureDeferred
async def test_long_history_is_whole(http: Client, value: bytes) -> None:
    for number in range(1, 141):
        await http("PUT", "/foo", value)
        if number > 45:  # by then it is as long as one piece of an answer, and at last more than twice as long
            events = (await http("GET", "/foo/history")).json()
            assert len(events) == number
            assert len({event["value"] for event in events}) == 1


@ensureDeferred
async def test_deletion_is_an_event_and_clears_nothing_earlier(http: Client) -> None:
    for value in (b"1", b"2"):
        await http("PUT", "/foo", value)
    assert (await http("DELETE", "/foo")).status == 204
    is_bare(await http("GET", "/foo"), 404)
    await http("PUT", "/foo", b"3")
    assert (await http("GET", "/foo")).body == b"3"
    events = (await http("GET", "/foo/history")).json()
    assert [event["value"] for event in events] == ["3", None, "2", "1"]


@ensureDeferred
async def test_deletion_of_a_missing_key_is_204_and_no_event(http: Client) -> None:
    assert (await http("DELETE", "/foo")).status == 204
    assert (await http("GET", "/foo/history")).json() == []
    await http("PUT", "/foo", b"1")
    await http("DELETE", "/foo")
    assert (await http("DELETE", "/foo")).status == 204
    assert len((await http("GET", "/foo/history")).json()) == 2


@ensureDeferred
async def test_history_of_a_key_never_written_is_empty(http: Client) -> None:
    answer = await http("GET", "/foo/history")
    assert (answer.status, answer.body) == (200, b"[]")
    assert answer.header("content-type") == JSON


@ensureDeferred
async def test_histories_of_neighbouring_keys_are_apart(http: Client) -> None:
    for key in ("a", "aa", "a0", "A", "b"):
        await http("PUT", f"/{key}", key.encode())
    for key in ("a", "aa", "a0", "A", "b"):
        assert [event["value"] for event in (await http("GET", f"/{key}/history")).json()] == [key]


@ensureDeferred
async def test_failed_write_leaves_no_history(http: Client) -> None:
    is_json_error(await http("PUT", "/foo", b"v" * 1025), 413)
    is_json_error(await http("POST", "/foo", b"1"), 405)
    assert (await http("GET", "/foo/history")).json() == []


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x00", id="NUL"),
        pytest.param(bytes(range(256)), id="every byte"),
        pytest.param("é😊".encode(), id="UTF-8"),
        pytest.param(b"\xef\xbb\xbfbom", id="BOM"),
        pytest.param(b"v" * 1024, id="1024 bytes"),
        pytest.param(b"\r\n0\r\n\r\n", id="what ends a chunked body"),
    ],
)
@ensureDeferred
async def test_values_are_any_bytes(http: Client, value: bytes) -> None:
    assert (await http("PUT", "/foo", value)).status == 204
    answer = await http("GET", "/foo")
    assert (answer.status, answer.body, answer.content_length) == (200, value, len(value))
    assert answer.header("content-type") == OCTETS


@pytest.mark.parametrize(
    "value",
    ["", 'say "hi" \\', "\x00\x01\x1f\x7f", "é😊", "\u2028", "\ufeffbom", "</script>", "v" * 1024],
    ids=["empty", "quotes", "controls", "unicode", "line separator", "BOM", "markup", "1024 bytes"],
)
@ensureDeferred
async def test_text_is_a_json_string_in_the_history(http: Client, value: str) -> None:
    await http("PUT", "/foo", value.encode())
    [event] = (await http("GET", "/foo/history")).json()
    assert list(event) == ["value", "timestamp"]
    assert event["value"] == value


@pytest.mark.parametrize(
    "value",
    [b"\xff", bytes(range(256)), b"\xed\xa0\x80", b"\xc0\x80", b"caf\xc3", b"\xf5\x80\x80\x80"],
    ids=["one byte", "every byte", "surrogate", "overlong", "cut off", "beyond Unicode"],
)
@ensureDeferred
async def test_bytes_that_are_no_text_are_base64_in_the_history(http: Client, value: bytes) -> None:
    await http("PUT", "/foo", value)
    [event] = (await http("GET", "/foo/history")).json()
    assert sorted(event) == ["encoding", "timestamp", "value"]
    assert event["encoding"] == "base64"
    assert base64.b64decode(event["value"], validate=True) == value


@ensureDeferred
async def test_history_is_also_a_key(http: Client) -> None:
    is_bare(await http("GET", "/history"), 404)
    assert (await http("PUT", "/history", b"1")).status == 204
    assert (await http("GET", "/history")).body == b"1"
    assert [event["value"] for event in (await http("GET", "/history/history")).json()] == ["1"]


@pytest.mark.parametrize(
    ("target", "allowed"),
    [("/foo", {"GET", "HEAD", "PUT", "DELETE"}), ("/foo/history", {"GET", "HEAD"})],
    ids=["key", "history"],
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "OPTIONS", "TRACE"])
@ensureDeferred
async def test_other_methods_are_405(http: Client, method: str, target: str, allowed: set[str]) -> None:
    answer = await http(method, target)
    is_json_error(answer, 405)
    assert answer.allow() == allowed


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@ensureDeferred
async def test_history_cannot_be_written(http: Client, method: str) -> None:
    await http("PUT", "/foo", b"1")
    answer = await http(method, "/foo/history", b"2" if method == "PUT" else None)
    is_json_error(answer, 405)
    assert answer.allow() == {"GET", "HEAD"}
    assert (await http("GET", "/foo")).body == b"1"
    assert len((await http("GET", "/foo/history")).json()) == 1
