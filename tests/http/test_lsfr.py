"""`lsfr`, and `clstr` where it is the same: text under plain keys, with bodies to the byte."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.support.answer import TEXT, is_text
from tests.support.inprocess import Client, at_once

KEY_METHODS = {"GET", "HEAD", "PUT", "DELETE"}


@pytest.fixture(params=["lsfr", "clstr"])
def arguments(request: pytest.FixtureRequest) -> list[str]:
    return ["--profile", request.param]


@ensureDeferred
async def test_value_is_stored_read_replaced_and_removed(http: Client) -> None:
    is_text(await http("GET", "/kv/kenya:capital"), 404, "key not found\n")
    assert (await http("PUT", "/kv/kenya:capital", b"Nairobi")).status == 200
    is_text(await http("GET", "/kv/kenya:capital"), 200, "Nairobi")
    assert (await http("PUT", "/kv/kenya:capital", b"Mombasa")).status == 200
    is_text(await http("GET", "/kv/kenya:capital"), 200, "Mombasa")
    assert (await http("DELETE", "/kv/kenya:capital")).status == 200
    is_text(await http("GET", "/kv/kenya:capital"), 404, "key not found\n")


@ensureDeferred
async def test_every_answer_is_plain_text(http: Client) -> None:
    answers = [
        await http("PUT", "/kv/a", b"1", {"Content-Type": "application/json"}),
        await http("GET", "/kv/a"),
        await http("DELETE", "/kv/a"),
        await http("GET", "/kv/a"),
        await http("DELETE", "/clear"),
        await http("POST", "/kv/a"),
        await http("GET", "/nothing"),
    ]
    assert [answer.status for answer in answers] == [200, 200, 200, 404, 200, 405, 404]
    assert {answer.header("content-type") for answer in answers} == {TEXT}


@ensureDeferred
async def test_deletion_is_idempotent(http: Client) -> None:
    assert (await http("DELETE", "/kv/a")).status == 200
    await http("PUT", "/kv/a", b"1")
    assert [(await http("DELETE", "/kv/a")).status for _ in range(2)] == [200, 200]


@ensureDeferred
async def test_clear_removes_everything(http: Client) -> None:
    assert (await http("DELETE", "/clear")).status == 200
    for key in ("a", "b", "clear"):
        await http("PUT", f"/kv/{key}", b"1")
    assert (await http("DELETE", "/clear")).status == 200
    for key in ("a", "b", "clear"):
        is_text(await http("GET", f"/kv/{key}"), 404, "key not found\n")
    assert (await http("PUT", "/kv/a", b"2")).status == 200
    is_text(await http("GET", "/kv/a"), 200, "2")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("v", id="one character"),
        pytest.param("ends in a line\n", id="a final newline"),
        pytest.param("\n", id="only a newline"),
        pytest.param(" \t ", id="only space"),
        pytest.param("hello world! &=?%41<>\"'\\", id="special symbols"),
        pytest.param("😊 é \u2028 \U0010ffff", id="unicode"),
        pytest.param("\ufeffbom", id="BOM"),
        pytest.param("\x00\x01\x7f\r\n", id="control characters"),
        pytest.param("x" * 1_000_000, id="a long string"),
        pytest.param("null", id="null"),
    ],
)
@ensureDeferred
async def test_value_is_returned_byte_for_byte(http: Client, value: str) -> None:
    assert (await http("PUT", "/kv/a", value.encode())).status == 200
    answer = await http("GET", "/kv/a")
    is_text(answer, 200, value)
    assert answer.content_length == len(value.encode())


@pytest.mark.parametrize(
    "key",
    ["user:123", "cache_entry", "metric.latency.p99", "A-Z", "0", ":", "_", "-", "...", "kv", "clear"],
)
@ensureDeferred
async def test_valid_keys(http: Client, key: str) -> None:
    assert (await http("PUT", f"/kv/{key}", key.encode())).status == 200
    is_text(await http("GET", f"/kv/{key}"), 200, key)
    assert (await http("DELETE", f"/kv/{key}")).status == 200
    is_text(await http("GET", f"/kv/{key}"), 404, "key not found\n")


@ensureDeferred
async def test_encoded_key_is_the_same_key(http: Client) -> None:
    await http("PUT", "/kv/user%3A%31", b"1")
    is_text(await http("GET", "/kv/user:1"), 200, "1")


@ensureDeferred
async def test_keys_differ_in_case(http: Client) -> None:
    await http("PUT", "/kv/a", b"1")
    is_text(await http("GET", "/kv/A"), 404, "key not found\n")


@ensureDeferred
async def test_empty_value_is_400_and_changes_nothing(http: Client) -> None:
    is_text(await http("PUT", "/kv/a", b""), 400, "value cannot be empty\n")
    is_text(await http("PUT", "/kv/a"), 400, "value cannot be empty\n")
    is_text(await http("GET", "/kv/a"), 404, "key not found\n")
    await http("PUT", "/kv/a", b"1")
    is_text(await http("PUT", "/kv/a", b""), 400, "value cannot be empty\n")
    is_text(await http("GET", "/kv/a"), 200, "1")


@pytest.mark.parametrize(
    "value",
    [b"\xff", b"a\x80", b"caf\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", "é".encode("utf-16")],
    ids=["no lead", "lone continuation", "cut off", "surrogate", "overlong", "beyond Unicode", "UTF-16"],
)
@ensureDeferred
async def test_value_that_is_no_utf8_is_400_and_changes_nothing(http: Client, value: bytes) -> None:
    await http("PUT", "/kv/a", b"1")
    is_text(await http("PUT", "/kv/a", value), 400, "value must be valid UTF-8\n")
    is_text(await http("GET", "/kv/a"), 200, "1")


@pytest.mark.parametrize("target", ["/kv", "/kv/"])
@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PUT", b"1"), ("PUT", b""), ("DELETE", None)])
@ensureDeferred
async def test_empty_key_is_400(http: Client, target: str, method: str, body: bytes | None) -> None:
    is_text(await http(method, target, body), 400, "key cannot be empty\n")


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("/kv/a", KEY_METHODS),
        ("/kv/bad!key", KEY_METHODS),
        ("/kv", KEY_METHODS),
        ("/kv/", KEY_METHODS),
        ("/clear", {"DELETE"}),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "OPTIONS", "TRACE"])
@ensureDeferred
async def test_other_methods_are_405(http: Client, method: str, target: str, allowed: set[str]) -> None:
    answer = await http(method, target)
    is_text(answer, 405, "method not allowed\n")
    assert answer.allow() == allowed


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
@ensureDeferred
async def test_only_deletion_clears(http: Client, method: str) -> None:
    await http("PUT", "/kv/a", b"1")
    answer = await http(method, "/clear", b"1" if method == "PUT" else None)
    is_text(answer, 405, "method not allowed\n")
    assert answer.allow() == {"DELETE"}
    is_text(await http("GET", "/kv/a"), 200, "1")


@ensureDeferred
async def test_writes_to_different_keys_at_once_all_succeed(http: Client) -> None:
    keys = [f"key-{number}" for number in range(200)]
    written = await at_once(http("PUT", f"/kv/{key}", key.encode()) for key in keys)
    assert {answer.status for answer in written} == {200}
    read = await at_once(http("GET", f"/kv/{key}") for key in keys)
    assert [answer.body.decode() for answer in read] == keys


@ensureDeferred
async def test_writes_to_one_key_at_once_leave_one_of_the_values_whole(http: Client) -> None:
    values = [bytes([ord("a") + number % 26]) * (1000 + number) for number in range(100)]
    written = await at_once(http("PUT", "/kv/same", value) for value in values)
    assert {answer.status for answer in written} == {200}
    assert (await http("GET", "/kv/same")).body in values
