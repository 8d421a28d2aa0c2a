"""Watches and long polls: what clients are told of changes, in which order, and from where they can go on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from kvtwist.model import DATA
from kvtwist.profiles import _watch
from tests.support.answer import JSON, PROBLEM, Answer
from tests.support.events import Collector, Told
from tests.support.inprocess import Client, at_once


@pytest.fixture
def arguments() -> list[str]:
    return ["--profile", "native", "--profile", "lsfr", "--max-watches", "5"]


@asynccontextmanager
async def watching(http: Client, query: str = "", last_id: str | None = None) -> AsyncIterator[Collector]:
    """A watch that has begun: whatever is written now is told."""
    response = await http.watch(query, {} if last_id is None else {"Last-Event-ID": last_id})
    assert response.code == 200
    collector = Collector()
    response.original.deliverBody(collector)
    first = await collector.queue.get()
    assert first is not None
    assert (first.kind, first.data) == ("", None)
    assert first.id is not None
    try:
        yield collector
    finally:
        assert collector.transport is not None
        collector.transport.loseConnection()


async def put(http: Client, key: str, value: bytes | str, query: str = "", media_type: str = "text/plain") -> None:
    body = value.encode() if isinstance(value, str) else value
    answer = await http("PUT", f"/v1/kv/{key}{query}", body, {"Content-Type": media_type})
    assert answer.status in (201, 204), answer


async def txn(http: Client, *operations: dict[str, Any]) -> int:
    answer = await http("POST", "/v1/txn", json.dumps({"then": operations}).encode())
    assert answer.status == 200
    revision: int = answer.json()["revision"]
    return revision


async def current(http: Client) -> int:
    revision: int = (await http("GET", "/v1/status")).json()["revision"]
    return revision


def changes(told: list[Told]) -> list[tuple[str, Any, Any]]:
    return [event.change for event in told]


# --- events -----------------------------------------------------------------------------------------------------------


@ensureDeferred
async def test_each_change_is_told_with_its_record(http: Client) -> None:
    async with watching(http) as watch:
        await put(http, "a", "one")
        await put(http, "b", b"\xff")
        await put(http, "c", b'{"x": [1,\r\n2]}', media_type=JSON)
        await http("DELETE", "/v1/kv/a")
        await http("DELETE", "/clear")
        told = await watch.take(5)
    assert changes(told) == [
        ("put", "a", "one"),
        ("put", "b", "/w=="),
        ("put", "c", {"x": [1, 2]}),
        ("delete", "a", None),
        ("clear", None, None),
    ]
    assert [(event.id, event.data["revision"]) for event in told] == [(str(n), n) for n in range(1, 6)]
    assert set(told[0].data) == {"key", "value", "content_type", "revision", "modified", "expires"}
    assert set(told[3].data) == {"key", "revision", "modified"}
    assert set(told[4].data) == {"revision", "modified"}
    assert told[1].data["value_base64"] == "/w=="


@ensureDeferred
async def test_the_head_says_what_it_is(http: Client) -> None:
    told = await http("HEAD", "/v1/watch")
    assert (told.status, told.body) == (200, b"")
    assert (told.header("content-type"), told.header("cache-control")) == ("text/event-stream", "no-store")


@ensureDeferred
async def test_only_what_is_watched_is_told(http: Client) -> None:
    async with watching(http, "?prefix=a/") as several, watching(http, "?key=a/1") as one:
        for key in ("a", "a/1", "a/10", "b", "a/2"):
            await put(http, key, key)
        await put(http, "a/1", "last")
        assert changes(await several.take(4)) == [
            ("put", "a/1", "a/1"),
            ("put", "a/10", "a/10"),
            ("put", "a/2", "a/2"),
            ("put", "a/1", "last"),
        ]
        assert changes(await one.take(2)) == [("put", "a/1", "a/1"), ("put", "a/1", "last")]


@ensureDeferred
async def test_only_the_last_event_of_a_transaction_has_an_id(http: Client) -> None:
    async with watching(http, "?prefix=a") as watch:
        operations = [{"put": {"key": key, "value": "1"}} for key in ("a1", "b", "a2", "a3", "c")]
        revision = await txn(http, *operations)
        told = await watch.take(3)
        assert [event.data["key"] for event in told] == ["a1", "a2", "a3"]
        assert [event.id for event in told] == [None, None, str(revision)]
        assert {event.data["revision"] for event in told} == {revision}


@ensureDeferred
async def test_what_expires_is_told_within_a_second(http: Client) -> None:
    async with watching(http) as watch:
        await put(http, "stays", "1", "?ttl=100")
        await put(http, "goes", "2", "?ttl=1")
        told = await watch.take(3)
        assert changes(told)[2] == ("expire", "goes", None)
        assert told[1].data["expires"] <= told[2].data["modified"]
        assert told[2].data["modified"] - told[1].data["expires"] < 1000
        assert told[2].data["revision"] == 3
        assert (await http("GET", "/v1/kv/goes")).status == 404


@ensureDeferred
async def test_a_value_of_any_size_is_told(http: Client) -> None:
    async with watching(http) as watch:
        text, octets = "ä\n" * 200_000, b"\xff\0" * 200_000
        await put(http, "text", text)
        await put(http, "octets", octets)
        await put(http, "json", b'["' + b"x" * 500_000 + b'",\n1]', media_type=JSON)
        told = await watch.take(3)
    assert told[0].data["value"] == text
    assert len(told[1].data["value_base64"]) == -(-len(octets) // 3) * 4
    assert told[2].data["value"] == ["x" * 500_000, 1]


@ensureDeferred
async def test_a_comment_shows_that_the_connection_is_alive(http: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_watch, "HEARTBEAT_SECONDS", 0.01)
    async with watching(http, "?prefix=a") as watch:
        await put(http, "b", "another key")
        for _ in range(3):
            told = await watch.queue.get()
            assert told is not None
            assert told.kind == "comment"
        await put(http, "a", "1")
        assert changes(await watch.take(1)) == [("put", "a", "1")]


# --- where a watch begins ---------------------------------------------------------------------------------------------


@ensureDeferred
async def test_it_begins_after_a_revision(http: Client) -> None:
    async with watching(http, "?after=0"):
        pass  # from now on changes are kept
    for number in range(5):
        await put(http, "k", str(number))
    for query, last_id, first in (("?after=2", None, 2), ("", "3", 3), ("?after=1", "4", 4), ("?after=0", "", 0)):
        async with watching(http, query, last_id) as watch:
            assert [event.data["value"] for event in await watch.take(5 - first)] == [str(n) for n in range(first, 5)]
            await put(http, "other", "x")
            assert changes(await watch.take(1)) == [("put", "other", "x")]
        await http("DELETE", "/v1/kv/other")


@ensureDeferred
async def test_a_listing_and_a_watch_after_it_miss_nothing(http: Client) -> None:
    await put(http, "k", "0")
    page = (await http("GET", "/v1/kv")).json()
    await put(http, "k", "1")
    async with watching(http, f"?after={page['revision']}") as watch:
        assert changes(await watch.take(1)) == [("put", "k", "1")]


@ensureDeferred
async def test_where_changes_are_gone_it_is_410(http: Client) -> None:
    for number in range(3):
        await put(http, "k", str(number))
    await http("POST", "/v1/txn", b'{"then": []}')
    answer = await http("GET", "/v1/watch?after=4")
    assert (answer.status, answer.header("content-type")) == (410, PROBLEM)
    oldest = answer.json()["oldest"]
    assert oldest <= 3
    async with watching(http, f"?after={oldest}"):
        pass


@ensureDeferred
async def test_a_watch_from_now_on_begins_whatever_has_expired(http: Client) -> None:
    """Records that nobody watched have vanished after the last transaction."""
    await put(http, "goes", "1", "?ttl=1")
    store = http.store()
    while store.usage(DATA).records:
        await deferLater(reactor, 0.1)
    async with watching(http) as watch:
        await put(http, "k", "1")
        assert changes(await watch.take(1)) == [("put", "k", "1")]


@ensureDeferred
async def test_a_long_poll_from_now_on_waits_whatever_has_expired(http: Client) -> None:
    await put(http, "goes", "1", "?ttl=1")
    store = http.store()
    while store.usage(DATA).records:
        await deferLater(reactor, 0.1)
    assert (await http("GET", "/v1/kv/k?wait=1")).status == 304


@ensureDeferred
async def test_what_cannot_be_watched_is_400(http: Client) -> None:
    for query in (
        "?after=-1",
        "?after=x",
        "?after=%C2%B2",
        "?after=1&after=2",
        "?key=",
        "?key=a&prefix=a",
        "?prefix=%ff",
    ):
        answer = await http("GET", f"/v1/watch{query}")
        assert answer.status == 400, query
    for last_id in ("x", "1.5", "ÿ", "9" * 16):
        assert (await http("GET", "/v1/watch", headers={"Last-Event-ID": last_id})).status == 400
    assert (await http("GET", "/v1/watch", headers={"If-Match": "*"})).status == 400
    assert (await http("POST", "/v1/watch", b"")).status == 405


@ensureDeferred
async def test_an_unknown_parameter_is_ignored(http: Client) -> None:
    for query in ("?unknown=1", "?%zz=1", "?"):
        async with watching(http, query) as watch:
            await put(http, "k", query)
            assert changes(await watch.take(1)) == [("put", "k", query)]


@ensureDeferred
async def test_there_is_a_limit_of_watches(http: Client) -> None:
    watches = [await http.watch() for _ in range(5)]
    collectors = [Collector() for _ in watches]
    for response, collector in zip(watches, collectors, strict=True):
        response.original.deliverBody(collector)
    for target in ("/v1/watch", "/v1/kv/k?wait=1"):
        answer = await http("GET", target)
        assert (answer.status, answer.header("retry-after")) == (503, "1")
    for collector in collectors:
        assert collector.transport is not None
        collector.transport.loseConnection()
    while (await http("GET", "/v1/kv/k?wait=1&after=0")).status == 503:
        pass  # until the server has seen that they left
    await put(http, "k", "1")


@ensureDeferred
async def test_a_stop_ends_watches_in_good_order(http: Client) -> None:
    response = await http.watch()
    collector = Collector()
    response.original.deliverBody(collector)
    poll = Deferred.fromCoroutine(http("GET", "/v1/kv/k?wait=60"))
    while http.active_requests() < 2:
        await deferLater(reactor, 0)
    stopping = Deferred.fromCoroutine(http.stop())
    assert (await poll).status == 304
    while await collector.queue.get() is not None:
        pass
    await stopping


# --- long polls -------------------------------------------------------------------------------------------------------


@ensureDeferred
async def test_a_long_poll_answers_at_once_if_the_key_has_changed(http: Client) -> None:
    await put(http, "k", "1")
    await put(http, "other", "1")
    answer = await http("GET", "/v1/kv/k?wait=60&after=0")
    assert (answer.status, answer.body, answer.header("kvtwist-revision")) == (200, b"1", "2")
    assert answer.header("etag") == '"1"'


@ensureDeferred
async def test_a_long_poll_waits_for_a_change(http: Client) -> None:
    await put(http, "k", "1")
    for template in ("?wait=60", "?wait=60&after=%d"):
        query = template.replace("%d", str(await current(http)))
        poll = Deferred.fromCoroutine(http("GET", f"/v1/kv/k{query}"))
        await deferLater(reactor, 0.05)  # not for it to be there: it may also come later
        assert not poll.called
        await put(http, "other", "1")
        assert not poll.called
        revision = await current(http) + 1
        while not poll.called:
            await put(http, "k", query)
        answer: Answer = await poll
        assert (answer.status, answer.body) == (200, query.encode())
        assert int(answer.header("kvtwist-revision") or 0) >= revision


@ensureDeferred
async def test_a_long_poll_tells_of_a_deletion(http: Client) -> None:
    async with watching(http):
        pass
    await put(http, "k", "1")
    revision = await current(http)
    assert (await http("DELETE", "/v1/kv/k")).status == 204
    answer = await http("GET", f"/v1/kv/k?wait=60&after={revision}")
    assert (answer.status, answer.header("kvtwist-revision")) == (404, str(revision + 1))
    assert answer.header("content-type") == PROBLEM


@ensureDeferred
async def test_a_long_poll_without_a_change_is_304(http: Client) -> None:
    await put(http, "k", "1")
    for key, tag in (("k", '"1"'), ("none", None)):
        answer = await http("GET", f"/v1/kv/{key}?wait=1&after=1")
        assert (answer.status, answer.header("etag"), answer.header("kvtwist-revision")) == (304, tag, "1")


@ensureDeferred
async def test_bad_parameters_of_a_long_poll_are_400(http: Client) -> None:
    for query in ("wait=0", "wait=61", "wait=x", "wait=1&after=-1", "wait=1&wait=1"):
        assert (await http("GET", f"/v1/kv/k?{query}")).status == 400


@ensureDeferred
async def test_many_are_told_at_once(http: Client) -> None:
    polls = [Deferred.fromCoroutine(http("GET", f"/v1/kv/k{n % 2}?wait=60&after=0")) for n in range(5)]
    await at_once(http("PUT", f"/v1/kv/k{n}", b"1") for n in range(2))
    for poll in polls:
        assert (await poll).body == b"1"
