"""Several profiles on one port: the first that knows the path answers, and the first of all what none knows."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.support.answer import is_bare, is_json_error, is_text
from tests.support.inprocess import Client
from tests.support.profiles import NATIVE

LSFR_FIRST = pytest.mark.parametrize(
    "arguments", [["--profile", "lsfr", "--profile", "transactional"]], ids=["lsfr first"]
)
TRANSACTIONAL_FIRST = pytest.mark.parametrize(
    "arguments", [["--profile", "transactional", "--profile", "lsfr"]], ids=["transactional first"]
)
BARE = pytest.mark.parametrize(
    "arguments", [["--profile", "lsfr", "--profile", "transactional", "--profile", "native"]], ids=["as run.sh"]
)
SMALL_LAST = pytest.mark.parametrize("arguments", [["--profile", "lsfr", "--profile", "history"]], ids=["history last"])


@LSFR_FIRST
@ensureDeferred
async def test_each_answers_on_its_own_routes(http: Client) -> None:
    assert (await http("PUT", "/kv/a", b"text")).status == 200
    is_text(await http("GET", "/kv/a"), 200, "text")
    assert (await http("POST", "/set", b'{"b":1}')).status == 201
    assert (await http("POST", "/commit")).status == 204
    assert (await http("GET", "/b")).body == b'{"b":1}'
    assert (await http("DELETE", "/set", b'"b"')).status == 200


@LSFR_FIRST
@ensureDeferred
async def test_first_that_knows_the_path_answers_whatever_the_method(http: Client) -> None:
    is_text(await http("GET", "/clear"), 405, "method not allowed\n")
    is_text(await http("POST", "/kv/a"), 405, "method not allowed\n")
    is_text(await http("GET", "/kv"), 400, "key cannot be empty\n")
    is_text(await http("GET", "/kv/%zz"), 400, "key contains invalid characters\n")


@LSFR_FIRST
@pytest.mark.parametrize("target", ["/a/b", "/kv/a/b", "/clear/", "/"])
@ensureDeferred
async def test_path_that_none_knows_is_answered_by_the_first(http: Client, target: str) -> None:
    is_text(await http("GET", target), 404, "not found\n")


@TRANSACTIONAL_FIRST
@ensureDeferred
async def test_order_of_the_options_decides(http: Client) -> None:
    await http("POST", "/set", b'{"clear":1}')
    await http("POST", "/commit")
    assert (await http("GET", "/clear")).body == b'{"clear":1}'
    is_json_error(await http("DELETE", "/clear"), 404)
    is_json_error(await http("GET", "/kv"), 404)
    assert (await http("PUT", "/kv/a", b"text")).status == 200
    is_json_error(await http("GET", "/a/b"), 404)


@BARE
@ensureDeferred
async def test_the_native_routes_are_left_alone_by_those_before(http: Client) -> None:
    assert (await http("PUT", "/v1/kv/a/b", b"1")).status == 201
    assert (await http("GET", "/v1/kv/a/b")).body == b"1"
    assert (await http("GET", "/v1/kv")).json()["items"][0]["key"] == "a/b"
    assert (await http("POST", "/v1/txn", b"{}")).json()["committed"] is True
    assert (await http("GET", "/v1/status")).json()["revision"] == 1
    assert (await http("GET", "/v1/openapi.json")).json()["openapi"] == "3.1.0"
    NATIVE.is_error(await http("POST", "/v1/kv", b""), 405)
    NATIVE.is_error(await http("GET", "/v1/kv/missing"), 404)


@BARE
@ensureDeferred
async def test_one_segment_is_a_key_of_transactional(http: Client) -> None:
    for name in ("v1", "openapi.json"):
        is_json_error(await http("GET", f"/{name}"), 404)
        assert (await http("PUT", f"/v1/kv/{name}", b"1", {"Content-Type": "application/json"})).status == 201
        assert (await http("GET", f"/{name}")).json() == {name: 1}
    is_json_error(await http("POST", "/openapi.json", b""), 404)


@BARE
@pytest.mark.parametrize("target", ["/v1/", "/v1/nothing", "/v2/kv/a", "/a/b"])
@ensureDeferred
async def test_what_none_knows_is_lsfr_s(http: Client, target: str) -> None:
    is_text(await http("GET", target), 404, "not found\n")


@SMALL_LAST
@ensureDeferred
async def test_each_keeps_its_own_limits(http: Client) -> None:
    assert (await http("PUT", "/kv/a", b"v" * 5000)).status == 200
    is_json_error(await http("PUT", "/a", b"v" * 1025), 413)
    assert (await http("GET", "/a")).body == b"v" * 5000
    is_bare(await http("GET", "/b"), 404)


@pytest.mark.parametrize(
    "arguments",
    [["--profile", "clstr", "--profile", "keys", "--profile", "lsfr", "--profile", "transactional"]],
    ids=["four"],
)
@ensureDeferred
async def test_profiles_that_repeat_each_other(http: Client) -> None:
    assert (await http("GET", "/health")).status == 200
    assert (await http("PUT", "/kv/a", b"text")).status == 200
    assert (await http("GET", "/keys/a")).json() == "text"
    assert (await http("GET", "/a")).json() == {"a": "text"}
