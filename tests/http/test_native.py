"""`native`: values of any type, listings, and transactions under /v1."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from kvtwist.profiles.native import DELETED_AT_ONCE
from tests.support.answer import JSON, OCTETS, PROBLEM, Answer
from tests.support.inprocess import Client


@pytest.fixture
def arguments() -> list[str]:
    return ["--profile", "native"]


def is_problem(answer: Answer, status: int, detail: str) -> None:
    assert (answer.status, answer.header("content-type")) == (status, PROBLEM), answer
    assert detail in answer.json()["detail"], answer


async def put(http: Client, key: str, value: bytes, media_type: str | None = None, query: str = "") -> Answer:
    headers = {} if media_type is None else {"Content-Type": media_type}
    answer = await http("PUT", f"/v1/kv/{key}{query}", value, headers)
    assert answer.status in (200, 201, 204), answer
    return answer


async def page(http: Client, query: str = "") -> dict[str, Any]:
    answer = await http("GET", f"/v1/kv{query}")
    assert (answer.status, answer.header("content-type")) == (200, JSON), answer
    found: dict[str, Any] = answer.json()
    assert list(found) == ["revision", "items", "next"]
    return found


async def txn(http: Client, **parts: Any) -> dict[str, Any]:
    body = json.dumps({name.removesuffix("_"): part for name, part in parts.items()}).encode()
    answer = await http("POST", "/v1/txn", body)
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json()
    assert list(found) == ["committed", "revision", "results"]
    return found


# --- one key ----------------------------------------------------------------------------------------------------------


@ensureDeferred
async def test_a_value_comes_back_with_its_media_type(http: Client) -> None:
    for media_type in ("text/plain", "image/png", "text/html; charset=latin-1", None):
        await put(http, "a", b"\xff\0value", media_type)
        for method, body in (("GET", b"\xff\0value"), ("HEAD", b"")):
            answer = await http(method, "/v1/kv/a")
            assert (answer.status, answer.body) == (200, body)
            assert answer.header("content-type") == (media_type or OCTETS)


@ensureDeferred
async def test_the_status_says_whether_there_was_a_value(http: Client) -> None:
    assert (await http("PUT", "/v1/kv/a", b"1")).status == 201
    assert (await http("PUT", "/v1/kv/a", b"")).status == 204
    assert (await http("DELETE", "/v1/kv/a")).status == 204
    is_problem(await http("DELETE", "/v1/kv/a"), 404, "key not found")
    is_problem(await http("GET", "/v1/kv/a"), 404, "key not found")


@ensureDeferred
async def test_a_key_may_hold_anything_that_is_unicode(http: Client) -> None:
    keys = {
        "a/b": "a/b",
        "a%2Fc": "a/c",
        "a//d/": "a//d/",
        "%F0%9F%98%80": "😀",
        "a%00b": "a\0b",
        "..": "..",
        "%2e": ".",
    }
    for path in keys:
        await put(http, path, path.encode())
    for path in keys:
        assert (await http("GET", f"/v1/kv/{path}")).body == path.encode()
    assert {item["key"] for item in (await page(http))["items"]} == set(keys.values())


@ensureDeferred
async def test_what_cannot_be_a_key_is_400(http: Client) -> None:
    for path in ("%", "%ff", "a" * 4097):
        for method in ("GET", "PUT", "DELETE"):
            assert (await http(method, f"/v1/kv/{path}", b"1" if method == "PUT" else None)).status == 400


@ensureDeferred
async def test_a_put_returns_what_was_there(http: Client) -> None:
    assert (await put(http, "a", b"one", "text/a", "?return=previous")).status == 201
    first = (await http("GET", "/v1/kv/a")).header("etag")
    answer = await put(http, "a", b"two", "text/b", "?return=previous")
    assert (answer.status, answer.body, answer.header("content-type")) == (200, b"one", "text/a")
    assert answer.header("kvtwist-previous-etag") == first
    assert answer.header("etag") == (await http("GET", "/v1/kv/a")).header("etag") != first


@ensureDeferred
async def test_what_says_it_is_json_is_json(http: Client) -> None:
    await put(http, "a", b' {"b": 1.0}\n', JSON)
    assert (await http("GET", "/v1/kv/a")).body == b' {"b": 1.0}\n'
    for body in (b"", b"{", b"NaN", b"\xff", b"1 2"):
        is_problem(await http("PUT", "/v1/kv/a", body, {"Content-Type": JSON}), 400, "not the JSON")
    assert (await page(http))["items"][0]["value"] == {"b": 1.0}


@ensureDeferred
async def test_bad_parameters_are_400(http: Client) -> None:
    for target, detail in (
        ("/v1/kv/a?ttl=0", "ttl is a whole number"),
        ("/v1/kv/a?ttl=1.5", "ttl is a whole number"),
        ("/v1/kv/a?ttl=", "ttl is a whole number"),
        ("/v1/kv/a?ttl=99999999999", "ttl is a whole number"),
        ("/v1/kv/a?return=next", "return is previous"),
        ("/v1/kv/a?tll=1", "unknown query parameter"),
    ):
        is_problem(await http("PUT", target, b"1"), 400, detail)
    for media_type in ("text", "é/a", "a/" + "b" * 254, "/", "a/", "/b", "a/b/c", "a b/c", "a/b charset=c", "a/b,c/d"):
        is_problem(await http("PUT", "/v1/kv/a", b"1", {"Content-Type": media_type}), 400, "media type")
    assert (await http("PUT", "/v1/kv/long", b"1", {"Content-Type": "a/" + "b" * 253})).status == 201
    assert (await http("DELETE", "/v1/kv/long")).status == 204
    for query in ("after=x", "after=-1", "after=1000000000000000", "wait=1&after=", "wait=0", "wait=61"):
        assert (await http("GET", f"/v1/kv/a?{query}")).status == 400, query
    for query in ("limit=0", "limit=1001", "limit=x", "reverse=yes", "keys_only=1", "after=%ff"):
        assert (await http("GET", f"/v1/kv?{query}")).status == 400, query
    assert (await page(http))["items"] == []


@ensureDeferred
async def test_a_key_that_expires_says_so(http: Client) -> None:
    await put(http, "a", b"1", query="?ttl=100")
    answer = await http("GET", "/v1/kv/a")
    assert answer.header("kvtwist-ttl") in ("99", "100")
    [item] = (await page(http))["items"]
    assert item["expires"] - item["modified"] == 100_000


@pytest.mark.parametrize(
    ("asked", "status", "part", "said"),
    [
        ("bytes=0-2", 206, b"012", "bytes 0-2/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-500", 206, b"56789", "bytes 5-9/10"),
        ("BYTES = 9-9", 206, b"9", "bytes 9-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("bytes=3-2", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
    ],
)
@ensureDeferred
async def test_a_range_of_a_value(http: Client, asked: str, status: int, part: bytes, said: str | None) -> None:
    await put(http, "a", b"0123456789")
    whole = await http("GET", "/v1/kv/a")
    tag, modified = whole.header("etag"), whole.header("last-modified")
    assert tag is not None and modified is not None
    answer = await http("GET", "/v1/kv/a", None, {"Range": asked})
    assert (answer.status, answer.header("content-range")) == (status, said)
    assert status == 416 or answer.body == part
    if status == 416:
        is_problem(answer, 416, "no such range")
    assert (await http("HEAD", "/v1/kv/a", None, {"Range": asked})).status == 200
    for validator, heeded in (
        *((tag, True), ('"x"', False), (f"W/{tag}", False)),
        *((modified, True), ("Thu, 12 Nov 2020 12:32:24 GMT", False), ("yesterday", False)),
    ):
        conditional = await http("GET", "/v1/kv/a", None, {"Range": asked, "If-Range": validator})
        assert conditional.status == (status if heeded else 200)


# --- many keys --------------------------------------------------------------------------------------------------------


@ensureDeferred
async def test_an_item_says_all_of_a_record(http: Client) -> None:
    await put(http, "a", b"text", "text/plain")
    await put(http, "b", b"\xff", "image/png")
    await put(http, "c", b"[1]", JSON)
    found = await page(http)
    assert found["revision"] == 3
    for item in found["items"]:
        assert item.pop("modified") > 1_600_000_000_000
    assert found["items"] == [
        {"key": "a", "value": "text", "content_type": "text/plain", "revision": 1, "expires": None},
        {"key": "b", "value_base64": "/w==", "content_type": "image/png", "revision": 2, "expires": None},
        {"key": "c", "value": [1], "content_type": JSON, "revision": 3, "expires": None},
    ]
    assert all(
        "value" not in item and "value_base64" not in item for item in (await page(http, "?keys_only=true"))["items"]
    )


@ensureDeferred
async def test_pages_go_on_where_the_last_one_ended(http: Client) -> None:
    names = sorted(f"{prefix}{number:02}" for prefix in ("a", "b/", "c") for number in range(7))
    for name in names:
        await put(http, name, b"1")
    for query, expected in (
        ("", names),
        ("&prefix=b/", [name for name in names if name.startswith("b/")]),
        ("&prefix=b/&reverse=true", [name for name in reversed(names) if name.startswith("b/")]),
        ("&reverse=true", names[::-1]),
        ("&before=b/03", [name for name in names if name < "b/03"]),
        ("&reverse=true&before=b/03", [name for name in reversed(names) if name > "b/03"]),
        ("&prefix=nothing", []),
    ):
        for limit in (1, 2, 7, 1000):
            found: list[str] = []
            after = ""
            while True:
                part = await page(http, f"?limit={limit}{query}{after}")
                found += [item["key"] for item in part["items"]]
                assert len(part["items"]) <= limit
                if part["next"] is None:
                    break
                assert part["next"] == found[-1]
                after = f"&after={part['next']}"
            assert found == expected, (query, limit)


@ensureDeferred
async def test_lines_are_all_of_a_listing(http: Client) -> None:
    for number in range(1200):
        await put(http, f"a{number:04}", b"v" * 100)
    answer = await http("GET", "/v1/kv?prefix=a", None, {"Accept": "application/x-ndjson"})
    assert answer.header("content-type") == "application/x-ndjson"
    lines = answer.body.splitlines()
    assert [json.loads(line)["key"] for line in lines] == [f"a{number:04}" for number in range(1200)]
    assert (await http("GET", "/v1/kv?limit=1", None, {"Accept": "application/x-ndjson"})).status == 400


@ensureDeferred
async def test_each_line_is_a_record_whatever_its_value(http: Client) -> None:
    values = [b'{"a":\n[1,\r\n2]\r}', b'["' + b"x" * 50_000 + b'",\n\n1\r]', b"1"]
    for number, value in enumerate(values):
        await put(http, f"j{number}", value, JSON)
    await put(http, "text", b"one\ntwo\r", "text/plain")
    await put(http, "long text", b"one\ntwo\r" * 10_000, "text/plain")
    answer = await http("GET", "/v1/kv", None, {"Accept": "application/x-ndjson"})
    lines = answer.body.split(b"\n")
    assert lines.pop() == b""
    found = {item["key"]: item["value"] for item in map(json.loads, lines)}
    assert found == {f"j{number}": json.loads(value) for number, value in enumerate(values)} | {
        "text": "one\ntwo\r",
        "long text": "one\ntwo\r" * 10_000,
    }


@ensureDeferred
async def test_a_deletion_by_prefix_takes_those_and_says_how_many(http: Client) -> None:
    count = DELETED_AT_ONCE + 3
    await txn(http, then=[{"put": {"key": f"a/{number}", "value": ""}} for number in range(count)])
    await put(http, "a", b"1")
    await put(http, "b", b"1")
    for query in ("", "?prefix=", "?all=false", "?all=yes", "?prefix=a/&all=", "?prefix=a/&all=yes"):
        assert (await http("DELETE", f"/v1/kv{query}")).status == 400
    for query, deleted, left in (("prefix=a/", count, ["a", "b"]), ("prefix=a/", 0, ["a", "b"]), ("all=true", 2, [])):
        answer = await http("DELETE", f"/v1/kv?{query}")
        assert (answer.status, answer.json()) == (200, {"deleted": deleted})
        assert [item["key"] for item in (await page(http))["items"]] == left


# --- transactions -----------------------------------------------------------------------------------------------------


@ensureDeferred
async def test_a_transaction_does_its_operations_in_order(http: Client) -> None:
    await put(http, "old", b"\xff", "image/png")
    await put(http, "bytes", b"")
    found = await txn(
        http,
        then=[
            {"range": {"prefix": "o"}},
            {"range": {}},
            {"get": {"key": "new"}},
            {"put": {"key": "new", "json": {"a": [1.5, None]}}},
            {"get": {"key": "new"}},
            {"delete": {"key": "old"}},
            {"delete": {"key": "old"}},
            {"put": {"key": "text", "value": "é"}},
            {"put": {"key": "bytes", "value_base64": b64encode(b"\0").decode(), "content_type": "a/b", "ttl": 60}},
        ],
    )
    listed, everything, missing, written, new, deleted, gone, *puts = found["results"]
    assert found["committed"] is True
    assert [item["key"] for item in listed["items"]] == ["old"]
    assert [item["key"] for item in everything["items"]] == ["bytes", "old"]
    assert (missing, written, new["value"]) == (None, {"revision": found["revision"]}, {"a": [1.5, None]})
    assert (deleted, gone) == ({"deleted": True}, {"deleted": False})
    assert puts == [{"revision": found["revision"]}] * 2
    items = {item.pop("key"): item for item in (await page(http))["items"]}
    assert {key: item["content_type"] for key, item in items.items()} == {
        "bytes": "a/b",
        "new": JSON,
        "text": "text/plain",
    }
    assert {item["revision"] for item in items.values()} == {found["revision"]}
    assert items["bytes"]["expires"] is not None


@ensureDeferred
async def test_an_empty_string_is_not_a_missing_one(http: Client) -> None:
    await put(http, "a", b"1")
    for asked, count in (({}, 1), ({"after": ""}, 1), ({"before": ""}, 0), ({"reverse": True, "after": ""}, 0)):
        [found] = (await txn(http, then=[{"range": asked}]))["results"]
        assert len(found["items"]) == count, asked
    assert (await txn(http, then=[{"put": {"key": "a", "value": ""}}, {"get": {"key": "a"}}]))["results"][1][
        "value"
    ] == ""


@ensureDeferred
async def test_a_page_has_a_hundred_items_unless_it_is_told(http: Client) -> None:
    await txn(http, then=[{"put": {"key": f"{number:03}", "value": ""}} for number in range(101)])
    for found in (await page(http), (await txn(http, then=[{"range": {}}]))["results"][0]):
        assert (len(found["items"]), found["next"]) == (100, "099")


@ensureDeferred
async def test_conditions_choose_the_branch(http: Client) -> None:
    revision = (await txn(http, then=[{"put": {"key": "a", "value": "1"}}]))["revision"]
    for condition, holds in (
        ({"key": "a", "exists": True}, True),
        ({"key": "a", "exists": False}, False),
        ({"key": "b", "exists": False}, True),
        ({"key": "a", "revision": revision}, True),
        ({"key": "a", "revision": revision + 1}, False),
        ({"key": "a", "revision": 0}, False),
        ({"key": "b", "revision": 0}, True),
    ):
        found = await txn(
            http, if_=[condition], then=[{"put": {"key": "then", "value": ""}}], else_=[{"get": {"key": "a"}}]
        )
        assert found["committed"] is holds, condition
        assert ("value" in found["results"][0]) is not holds
    both = [{"key": "a", "exists": True}, {"key": "b", "exists": True}]
    assert await txn(http, if_=both, then=[{"delete": {"key": "a"}}]) == {
        "committed": False,
        "revision": (await http("GET", "/v1/status")).json()["revision"],
        "results": [],
    }


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "object is expected"),
        (b"[]", "object"),
        (b'{"then":{}}', "'then' is not an array"),
        (b'{"than":[]}', "than"),
        (b'{"then":[],"then":[]}', "twice"),
        (b'{"then":[],}', "not JSON at byte 11"),
        (b'{"then":[{}', "ends too early"),
        (b'{"then":[]}x', "not JSON at byte 11"),
        (b'{"then":[NaN]}', "not JSON"),
        (b'{"then":[1]}', "then[0]: Expected"),
        (b'{"then":[{}]}', "one of put, delete, get and range"),
        (b'{"then":[{"get":{"key":"a"},"delete":{"key":"a"}}]}', "one of put, delete, get and range"),
        (b'{"then":[{"get":{"key":1}}]}', "then[0]: Expected `str`, got `int` - at `$.get.key`"),
        (b'{"then":[{"get":{"key":""}}]}', "empty"),
        (b'{"then":[{"get":{"key":"' + b"a" * 4097 + b'"}}]}', "longer"),
        (b'{"then":[{"put":{"key":"a"}}]}', "one of value"),
        (b'{"then":[{"put":{"key":"a","value":"","json":1}}]}', "one of value"),
        (b'{"then":[{"put":{"key":"a","value_base64":"?"}}]}', "base64"),
        (b'{"then":[{"put":{"key":"a","value_base64":"AA"}}]}', "base64"),
        (b'{"then":[{"put":{"key":"a","value_base64":"AA==AAAA"}}]}', "base64"),
        (b'{"then":[{"put":{"key":"a","value_base64":"' + b"A" * (2**16 - 2) + b'==AAAA"}}]}', "base64"),
        (b'{"then":[{"put":{"key":"a","value":"","ttl":0}}]}', "ttl"),
        (b'{"then":[{"put":{"key":"a","value":"{","content_type":"application/json"}}]}', "JSON"),
        (b'{"then":[{"put":{"key":"a","json":1,"content_type":"text/plain"}}]}', "content_type of json"),
        (b'{"then":[{"put":{"key":"a","value":"","content_type":"x"}}]}', "media type"),
        (b'{"then":[{"range":{"limit":1001}}]}', "limit"),
        (b'{"then":[{"delete":{"key":"a"}},{"range":{}}]}', "before the writes"),
        (b'{"then":[' + b",".join([b'{"range":{}}'] * 17) + b"]}", "ranges"),
        (b'{"then":[{"get":{"key":"a"},"range":null}]}', "got `null`"),
        (b'{"then":[{"put":{"key":"a","json":1,"value":null}}]}', "got `null`"),
        (b'{"then":[{"put":{"key":"a","value":"","ttl":null}}]}', "got `null`"),
        (b'{"then":[{"range":{"after":null}}]}', "got `null`"),
        (b'{"if":[{"key":"a","revision":1000000000000000}]}', "revision"),
        (b'{"if":[{"key":"a","revision":1,"exists":null}]}', "got `null`"),
        (b'{"if":[{"key":"a"}]}', "one of revision and exists"),
        (b'{"if":[{"key":"a","revision":1,"exists":true}]}', "one of revision and exists"),
        (b'{"if":[{"key":"a","revision":-1}]}', "revision"),
        (b'{"then":[{"put":{"key":"a","json":' + b"[" * 100_000 + b"]" * 100_000 + b"}}]}", "nested"),
    ],
)
@ensureDeferred
async def test_what_is_no_transaction_is_400_and_does_nothing(http: Client, body: bytes, detail: str) -> None:
    is_problem(await http("POST", "/v1/txn", body), 400, detail)
    assert (await page(http))["revision"] == 0


@ensureDeferred
async def test_a_value_in_base64_of_any_length(http: Client) -> None:
    for size in (0, 1, 2, 3, 49_151, 49_152, 49_153, 200_000):
        value = bytes(range(256)) * 800
        operation = {"put": {"key": "a", "value_base64": b64encode(value[:size]).decode()}}
        assert (await txn(http, then=[operation]))["committed"]
        assert (await http("GET", "/v1/kv/a")).body == value[:size]


@ensureDeferred
async def test_half_surrogates_are_400(http: Client) -> None:
    for body in (
        b'{"then":[{"put":{"key":"\\ud800","value":""}}]}',
        b'{"then":[{"put":{"key":"a","value":"\\ud800"}}]}',
    ):
        assert (await http("POST", "/v1/txn", body)).status == 400


@ensureDeferred
async def test_too_many_operations_and_results_are_413(http: Client) -> None:
    for names in (["then"], ["if", "else"]):
        parts: dict[str, list[object]] = {name: [{"get": {"key": "a"}}] * (10_000 // len(names)) for name in names}
        parts[names[-1]].append(1)
        is_problem(await http("POST", "/v1/txn", json.dumps(parts).encode()), 413, "10000")
    for number in range(3):
        await put(http, str(number), b"v" * 8 * 2**20)
    read = json.dumps({"then": [{"get": {"key": str(number)}} for number in range(3)]}).encode()
    is_problem(await http("POST", "/v1/txn", read), 413, "read less")


@ensureDeferred
async def test_the_status_says_where_the_store_stands(http: Client) -> None:
    await put(http, "a", b"1")
    found = (await http("GET", "/v1/status")).json()
    assert list(found) == ["version", "revision", "uptime"]
    assert found["revision"] == 1
