"""`keys`: JSON values under text keys, set one by one or many at once, with an expiry if wanted."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pytest_twisted import ensureDeferred

from tests.support.answer import JSON, is_json_error
from tests.support.inprocess import Client


@pytest.fixture
def arguments() -> list[str]:
    return ["--profile", "keys"]


@pytest.mark.parametrize(
    ("target", "body"),
    [
        pytest.param("/keys", b'{"id": "word", "value": {"n": 1}}', id="id and value"),
        pytest.param("/keys", b'{"value": {"n": 1}, "id": "word"}', id="value and id"),
        pytest.param("/keys", b'{"key": "word", "value": {"n": 1}}', id="key and value"),
        pytest.param("/keys", b'{"word": {"n": 1}}', id="a map"),
        pytest.param("/keys/word", b'{"n": 1}', id="the value alone"),
    ],
)
@ensureDeferred
async def test_set_in_each_form(http: Client, target: str, body: bytes) -> None:
    for status in (201, 200):
        answer = await http("PUT", target, body, {"Content-Type": "application/json"})
        assert answer.status == status
        assert answer.header("content-type") == JSON
        assert answer.json() == {"word": {"n": 1}}
    read = await http("GET", "/keys/word")
    assert (read.status, read.json()) == (200, {"n": 1})
    assert read.header("content-type") == JSON
    assert (await http("GET", "/keys")).json() == {"word": {"n": 1}}


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        pytest.param(b'{"id":"a"}', {"id": "a"}, id="id without value"),
        pytest.param(b'{"value":1}', {"value": 1}, id="value without id"),
        pytest.param(b'{"id":"a","value":1,"x":2}', {"id": "a", "value": 1, "x": 2}, id="a third member"),
        pytest.param(b'{"id":"a","key":"b"}', {"id": "a", "key": "b"}, id="id and key"),
        pytest.param(b'{"id":5,"value":1}', {"id": 5, "value": 1}, id="an id that is no string"),
        pytest.param(b'{"key":null,"value":1}', {"key": None, "value": 1}, id="a key that is no string"),
    ],
)
@ensureDeferred
async def test_what_is_not_one_of_the_pairs_is_a_map(http: Client, body: bytes, stored: object) -> None:
    answer = await http("PUT", "/keys", body)
    assert (answer.status, answer.json()) == (201, stored)
    assert (await http("GET", "/keys")).json() == stored


@ensureDeferred
async def test_201_when_any_key_of_a_map_is_new(http: Client) -> None:
    assert (await http("PUT", "/keys", b'{"a":1,"b":1}')).status == 201
    assert (await http("PUT", "/keys", b'{"a":2,"b":2}')).status == 200
    assert (await http("PUT", "/keys", b'{"a":3,"c":3}')).status == 201
    assert (await http("GET", "/keys")).json() == {"a": 3, "b": 2, "c": 3}


@pytest.mark.parametrize(
    "value",
    [
        b"null",
        b"false",
        b"0",
        b'""',
        b"[]",
        b"{}",
        b"1.0",
        b"1e400",
        b"1234567890123456789012345678901234567890",
        rb'"\ud800"',
        '"é😊"'.encode(),
        b'{"b":[1,{"a":null}],"a":2}',
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="deep"),
    ],
)
@ensureDeferred
async def test_value_itself_is_read(http: Client, value: bytes) -> None:
    for target, body in [("/keys/a", value), ("/keys", b'{"a":' + value + b"}")]:
        assert (await http("PUT", target, body)).status in (200, 201)
        answer = await http("GET", "/keys/a")
        assert (answer.status, answer.body) == (200, value)
        await http("DELETE", "/keys")


@ensureDeferred
async def test_missing_key_is_404(http: Client) -> None:
    is_json_error(await http("GET", "/keys/a"), 404)
    is_json_error(await http("DELETE", "/keys/a"), 404)
    assert (await http("HEAD", "/keys/a")).status == 404


@ensureDeferred
async def test_existing_key_is_checked_and_deleted(http: Client) -> None:
    await http("PUT", "/keys/a", b"null")
    head = await http("HEAD", "/keys/a")
    assert (head.status, head.body) == (200, b"")
    assert (await http("DELETE", "/keys/a")).status == 204
    is_json_error(await http("GET", "/keys/a"), 404)
    assert (await http("PUT", "/keys/a", b"1")).status == 201


@ensureDeferred
async def test_delete_all(http: Client) -> None:
    assert (await http("DELETE", "/keys")).status == 204
    await http("PUT", "/keys", b'{"a":1,"b":2}')
    assert (await http("DELETE", "/keys")).status == 204
    is_json_error(await http("GET", "/keys/a"), 404)
    answer = await http("GET", "/keys")
    assert (answer.status, answer.json()) == (200, {})
    assert answer.header("content-type") == JSON


@pytest.mark.parametrize(
    ("name", "target"),
    [
        pytest.param("a/b", "a%2Fb", id="slash"),
        pytest.param("é😊", "%C3%A9%F0%9F%98%8A", id="unicode"),
        pytest.param("%41", "%2541", id="decoded once"),
        pytest.param("a+b", "a+b", id="plus is no space"),
        pytest.param("a b", "a%20b", id="space"),
        pytest.param("?#&=", "%3F%23&=", id="delimiters"),
        pytest.param("$", "$", id="wildcard"),
        pytest.param("keys", "keys", id="named like the route"),
        pytest.param("'<>^`{|}", "'%3C%3E%5E%60%7B%7C%7D", id="symbols"),
    ],
)
@ensureDeferred
async def test_text_is_a_key(http: Client, name: str, target: str) -> None:
    assert (await http("PUT", f"/keys/{target}", b"1")).json() == {name: 1}
    assert (await http("GET", f"/keys/{target}")).body == b"1"
    assert (await http("PUT", "/keys", f'{{"{name}":2}}'.encode())).status == 200
    assert (await http("GET", "/keys")).json() == {name: 2}
    assert (await http("DELETE", f"/keys/{target}")).status == 204


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{}", id="no pair"),
        pytest.param(b'["a"]', id="an array"),
        pytest.param(b'"a"', id="a string"),
        pytest.param(b"1", id="a number"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"a":1,"b":2,"a":3}', id="a repeated name"),
        pytest.param(rb'{"a":1,"\u0061":2}', id="a repeated name in two spellings"),
        pytest.param(b'{"id":"a","id":"b","value":1}', id="two ids"),
        pytest.param(b'{"id":"a","value":1,"value":2}', id="two values"),
        pytest.param(b'{"a":1,"":2}', id="an empty key in a map"),
        pytest.param(b'{"id":"","value":1}', id="an empty id"),
        pytest.param(rb'{"a":1,"\ud800":2}', id="a lone surrogate in a map"),
        pytest.param(rb'{"id":"\udc00","value":1}', id="a lone surrogate as id"),
        pytest.param(rb'{"a":1,"x\u0000":2}', id="NUL"),
        pytest.param(rb'{"a":1,"x\n":2}', id="newline"),
        pytest.param(rb'{"a":1,"\u001f":2}', id="unit separator"),
        pytest.param(rb'{"a":1,"x\u007f":2}', id="DEL"),
        pytest.param(rb'{"a":1,"x\u0085":2}', id="C1"),
        pytest.param(b'{"a":1,"' + b"k" * 256 + b'":2}', id="256 bytes"),
        pytest.param('{{"a":1,"{}":2}}'.format("é" * 128).encode(), id="128 characters, 256 bytes"),
    ],
)
@ensureDeferred
async def test_bad_set_is_400_and_sets_nothing(http: Client, body: bytes) -> None:
    is_json_error(await http("PUT", "/keys", body), 400)
    assert (await http("GET", "/keys")).json() == {}


@pytest.mark.parametrize("target", ["x%00", "%0A", "%1F", "%7F", "%C2%85", "k" * 256, "%C3%A9" * 128])
@pytest.mark.parametrize(("method", "body"), [("PUT", b"1"), ("GET", None), ("DELETE", None)])
@ensureDeferred
async def test_impossible_key_in_the_path_is_400(http: Client, target: str, method: str, body: bytes | None) -> None:
    is_json_error(await http(method, f"/keys/{target}", body), 400)
    assert (await http("GET", "/keys")).json() == {}


@pytest.mark.parametrize("key", ["k" * 255, "é" * 127 + "x"], ids=["255 letters", "255 bytes"])
@ensureDeferred
async def test_longest_keys(http: Client, key: str) -> None:
    assert (await http("PUT", "/keys", f'{{"{key}":1}}'.encode())).status == 201
    assert (await http("GET", "/keys/" + key.replace("é", "%C3%A9"))).body == b"1"


@pytest.mark.parametrize(("target", "body"), [("/keys/a", b"1"), ("/keys", b'{"a":1}')])
@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param("", id="empty"),
        pytest.param("0", id="zero"),
        pytest.param("-1", id="negative"),
        pytest.param("%2B60", id="plus"),
        pytest.param("1.5", id="fraction"),
        pytest.param("1e3", id="exponent"),
        pytest.param("0x10", id="hex"),
        pytest.param("1_0", id="underscore"),
        pytest.param("%2060", id="space"),
        pytest.param("60%0A", id="newline"),
        pytest.param("%D9%A1", id="another script's digit"),
        pytest.param("%C2%B2", id="superscript"),
        pytest.param("soon", id="word"),
        pytest.param("315360001", id="over ten years"),
        pytest.param("9" * 5000, id="5000 digits"),
        pytest.param("60&expire_in=60", id="repeated"),
        pytest.param("%zz", id="broken encoding"),
        pytest.param("%ff", id="broken UTF-8"),
    ],
)
@ensureDeferred
async def test_bad_expiry_is_400_and_sets_nothing(http: Client, target: str, body: bytes, seconds: str) -> None:
    is_json_error(await http("PUT", f"{target}?expire_in={seconds}", body), 400)
    is_json_error(await http("GET", "/keys/a"), 404)


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("/keys", {"GET", "HEAD", "PUT", "DELETE"}),
        ("/keys/a", {"GET", "HEAD", "PUT", "DELETE"}),
        ("/metrics", {"GET", "HEAD"}),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "OPTIONS", "TRACE"])
@ensureDeferred
async def test_other_methods_are_405(http: Client, method: str, target: str, allowed: set[str]) -> None:
    answer = await http(method, target)
    is_json_error(answer, 405)
    assert answer.allow() == allowed


@ensureDeferred
async def test_metrics_count_requests_by_method_and_status(http: Client) -> None:
    await http("PUT", "/keys/a", b"1")
    await http("GET", "/keys/a")
    answer = await http("GET", "/metrics")
    assert answer.status == 200
    assert (answer.header("content-type") or "").startswith("text/plain; version=")
    families = list(text_string_to_metric_families(answer.body.decode()))
    assert "histogram" in {family.type for family in families}
    assert any(family.name.startswith("process_") for family in families)
    counted = {
        (sample.labels["method"], sample.labels["status"]): sample.value
        for family in families
        for sample in family.samples
        if family.type == "counter" and {"route", "method", "status"} <= set(sample.labels)
    }
    assert counted["PUT", "201"] >= 1
    assert counted["GET", "200"] >= 1


@ensureDeferred
async def test_made_up_paths_and_methods_make_no_new_metrics(http: Client) -> None:
    async def series() -> set[str]:
        lines = (await http("GET", "/metrics")).body.decode().splitlines()
        return {line.rpartition(" ")[0] for line in lines}

    async def visit(word: str) -> None:
        await http("GET", f"/{word}")
        await http("GET", f"/keys/{word}")
        await http("GET", f"/{word}/{word}")
        await http(word, "/keys")

    await visit("one")
    await series()
    before = await series()
    for word in ("two", "three", "four"):
        await visit(word)
    assert await series() == before
