"""All profiles look at the same data: what one writes, another reads, in its own way."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.support.answer import Answer, is_bare, is_json_error, is_text
from tests.support.inprocess import Client


@pytest.fixture
def arguments() -> list[str]:
    """Three profiles whose routes leave each other alone."""
    return ["--profile", "keys", "--profile", "lsfr", "--profile", "history"]


TRANSACTIONAL = pytest.mark.parametrize(
    "arguments", [["--profile", "keys", "--profile", "lsfr", "--profile", "transactional"]], ids=["commits"]
)


async def set_pair(http: Client, pair: bytes) -> Answer:
    """Write a pair, and commit it."""
    answer = await http("POST", "/set", pair)
    assert (await http("POST", "/commit")).status == 204
    return answer


@pytest.mark.parametrize("text", ["hello world", "é😊", 'say "hi"\n\x00', "{no json"])
@ensureDeferred
async def test_text_is_a_json_string_to_keys_and_bytes_to_history(http: Client, text: str) -> None:
    await http("PUT", "/kv/a", text.encode())
    assert (await http("GET", "/keys/a")).json() == text
    assert (await http("GET", "/keys")).json() == {"a": text}
    assert (await http("GET", "/a")).body == text.encode()


@TRANSACTIONAL
@pytest.mark.parametrize("text", ["hello world", "é😊", 'say "hi"\n\x00', "{no json"])
@ensureDeferred
async def test_text_is_a_json_string_to_transactional(http: Client, text: str) -> None:
    await http("PUT", "/kv/a", text.encode())
    assert (await http("GET", "/a")).json() == {"a": text}


@ensureDeferred
async def test_bytes_are_base64_to_keys_and_bytes_to_lsfr(http: Client) -> None:
    await http("PUT", "/a", b"\xff\x00")
    assert (await http("GET", "/keys/a")).json() == {"base64": "/wA="}
    assert (await http("GET", "/keys")).json() == {"a": {"base64": "/wA="}}
    assert (await http("GET", "/kv/a")).body == b"\xff\x00"


@ensureDeferred
async def test_octets_that_are_text_are_a_json_string_to_keys(http: Client) -> None:
    await http("PUT", "/a", b"hello world!")
    assert (await http("GET", "/keys/a")).json() == "hello world!"
    await http("PUT", "/b", b"")
    assert (await http("GET", "/keys/b")).json() == ""
    is_text(await http("GET", "/kv/a"), 200, "hello world!")


@pytest.mark.parametrize("value", [b'{"n": [1.0, null]}', b'"text"', b"1e400", b"null"])
@ensureDeferred
async def test_json_is_its_own_text_to_lsfr_and_history(http: Client, value: bytes) -> None:
    await http("PUT", "/keys/a", value)
    assert (await http("GET", "/a")).body == value
    is_text(await http("GET", "/kv/a"), 200, value.decode())


@TRANSACTIONAL
@pytest.mark.parametrize("value", [b'{"n": [1.0, null]}', b'"text"', b"1e400", b"null"])
@ensureDeferred
async def test_json_is_the_same_json_to_keys_and_transactional(http: Client, value: bytes) -> None:
    await http("PUT", "/keys/a", value)
    assert (await http("GET", "/a")).body == b'{"a":' + value + b"}"
    await set_pair(http, b'{"b":' + value + b"}")
    assert (await http("GET", "/keys/b")).body == value
    is_text(await http("GET", "/kv/b"), 200, value.decode())


@TRANSACTIONAL
@ensureDeferred
async def test_staged_change_shows_nowhere_before_the_commit(http: Client) -> None:
    await http("POST", "/set", b'{"a":1}')
    is_json_error(await http("GET", "/keys/a"), 404)
    assert (await http("GET", "/keys")).json() == {}
    is_text(await http("GET", "/kv/a"), 404, "key not found\n")
    await http("POST", "/commit")
    assert (await http("GET", "/keys")).json() == {"a": 1}


@TRANSACTIONAL
@ensureDeferred
async def test_set_knows_what_others_wrote_and_removed(http: Client) -> None:
    await http("PUT", "/kv/a", b"1")
    assert (await http("POST", "/set", b'{"a":2}')).status == 200
    await http("PUT", "/keys/b", b"1")
    await http("DELETE", "/keys/b")
    assert (await http("POST", "/set", b'{"b":2}')).status == 201


@ensureDeferred
async def test_existence_is_shared(http: Client) -> None:
    await http("PUT", "/kv/a", b"1")
    assert (await http("PUT", "/keys/a", b"2")).status == 200
    assert (await http("DELETE", "/a")).status == 204
    is_text(await http("GET", "/kv/a"), 404, "key not found\n")
    is_json_error(await http("DELETE", "/keys/a"), 404)
    await http("PUT", "/a", b"3")
    assert (await http("DELETE", "/keys/a")).status == 204
    is_bare(await http("GET", "/a"), 404)


@pytest.mark.parametrize("clearing", ["/clear", "/keys"])
@ensureDeferred
async def test_clear_clears_for_all(http: Client, clearing: str) -> None:
    await http("PUT", "/kv/a", b"1")
    await http("PUT", "/keys/b", b"2")
    await http("PUT", "/c", b"3")
    assert (await http("DELETE", clearing)).status in (200, 204)
    assert (await http("GET", "/keys")).json() == {}
    is_text(await http("GET", "/kv/b"), 404, "key not found\n")
    is_bare(await http("GET", "/c"), 404)


@ensureDeferred
async def test_key_longer_than_one_profile_takes_is_listed_there(http: Client) -> None:
    await http("PUT", "/kv/" + "k" * 300, b"long")
    assert (await http("GET", "/keys")).json() == {"k" * 300: "long"}
    assert (await http("GET", "/keys?limit=1&filter=k$")).json() == {"k" * 300: "long"}


@TRANSACTIONAL
@ensureDeferred
async def test_key_with_control_characters_is_listed(http: Client) -> None:
    await set_pair(http, rb'{"a\u0000\n\"":1}')
    await set_pair(http, b'{"b":2}')
    assert (await http("GET", "/keys")).json() == {'a\x00\n"': 1, "b": 2}
    first = await http("GET", "/keys?limit=1")
    assert first.json() == {'a\x00\n"': 1}
    link = first.header("link")
    assert link is not None
    target = link[link.index("/keys") : link.index(">")]
    assert (await http("GET", target)).json() == {"b": 2}
