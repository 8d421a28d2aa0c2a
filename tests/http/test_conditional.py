"""Conditional requests in every profile: validators on answers, and preconditions that are heeded or refused."""

from __future__ import annotations

from operator import attrgetter

import pytest
from pytest_twisted import ensureDeferred

from tests.support.answer import Answer
from tests.support.inprocess import Client
from tests.support.profiles import ALL_PROFILES, KEYS, NATIVE, TRANSACTIONAL, Profile

WRITERS = [profile for profile in ALL_PROFILES if profile is not TRANSACTIONAL]
"""Those whose writes name a key in the path."""
LONG_AGO = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Fri, 31 Dec 2100 23:59:59 GMT"
REFUSED = {
    "transactional": ["POST /set", "DELETE /set", "POST /commit"],
    "history": ["GET /a/history"],
    "lsfr": ["DELETE /clear"],
    "clstr": ["DELETE /clear", "GET /health"],
    "native": ["GET /v1/kv", "DELETE /v1/kv", "POST /v1/txn", "GET /v1/status", "GET /v1/openapi.json"],
    "keys": ["GET /keys", "PUT /keys", "DELETE /keys", "GET /metrics"],
}
"""Requests that have no record to compare with."""


every_profile = pytest.mark.parametrize("profile", ALL_PROFILES, ids=attrgetter("name"))
every_writer = pytest.mark.parametrize("profile", WRITERS, ids=attrgetter("name"))
only_keys = pytest.mark.parametrize("profile", [KEYS], ids=attrgetter("name"))


@pytest.fixture
def arguments(profile: Profile) -> list[str]:
    return ["--profile", profile.name]


async def put(http: Client, profile: Profile, value: bytes = b"1", **headers: str) -> Answer:
    """Write the key `a`."""
    call = profile.write("a", value)
    answer = await http(call.method, call.target, call.body, _named(headers))
    if profile.commits:
        await http("POST", "/commit")
    return answer


async def delete(http: Client, profile: Profile, **headers: str) -> Answer:
    call = profile.delete("a")
    return await http(call.method, call.target, call.body, _named(headers))


async def get(http: Client, profile: Profile, method: str = "GET", **headers: str) -> Answer:
    return await http(method, profile.target("a"), b"", _named(headers))


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@every_profile
@ensureDeferred
async def test_a_read_has_validators_that_change_with_the_record(http: Client, profile: Profile) -> None:
    await put(http, profile)
    first = await get(http, profile)
    again = await get(http, profile)
    await put(http, profile, b"2")
    second = await get(http, profile)
    assert first.header("etag") == again.header("etag") != second.header("etag")
    assert first.header("last-modified") is not None
    assert second.body == profile.shown("a", b"2")


@every_profile
@ensureDeferred
async def test_a_client_that_has_the_record_is_not_sent_it_again(http: Client, profile: Profile) -> None:
    await put(http, profile)
    answer = await get(http, profile)
    tag, modified = answer.header("etag"), answer.header("last-modified")
    assert tag is not None
    assert modified is not None
    for headers, status in (
        ({"If_None_Match": tag}, 304),
        ({"If_None_Match": f'"x", W/{tag}'}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": '"x"'}, 200),
        ({"If_Modified_Since": modified}, 304),
        ({"If_Modified_Since": LONG_AGO}, 200),
        ({"If_Match": tag}, 200),
        ({"If_Match": f"W/{tag}"}, 412),
        ({"If_Match": '"x"'}, 412),
        ({"If_Unmodified_Since": LATER}, 200),
        ({"If_Unmodified_Since": LONG_AGO}, 412),
        ({"If_Match": "x"}, 400),
    ):
        found = await get(http, profile, **headers)
        assert found.status == status, headers
        if status == 304:
            assert (found.header("etag"), found.header("last-modified")) == (tag, modified)
        elif status == 200:
            assert found.body == answer.body
        else:
            profile.is_error(found, status)


@every_profile
@ensureDeferred
async def test_preconditions_do_not_matter_where_there_is_nothing_to_read(http: Client, profile: Profile) -> None:
    for headers in ({"If_Match": '"1"'}, {"If_None_Match": "*"}):
        assert (await get(http, profile, **headers)).status == 404  # RFC 9110, 13.2.1


@every_writer
@ensureDeferred
async def test_a_write_answers_with_the_tag_of_what_it_has_written(http: Client, profile: Profile) -> None:
    written = await put(http, profile)
    assert written.header("etag") == (await get(http, profile)).header("etag")
    assert (await put(http, profile)).header("etag") != written.header("etag")


@every_writer
@ensureDeferred
async def test_a_write_whose_precondition_fails_changes_nothing(http: Client, profile: Profile) -> None:
    profile.is_error(await put(http, profile, If_Match="*"), 412)
    assert (await get(http, profile)).status == 404
    tag = (await put(http, profile, If_None_Match="*")).header("etag")
    assert tag is not None
    for headers in (
        {"If_None_Match": "*"},
        {"If_None_Match": f"W/{tag}"},
        {"If_Match": '"x"'},
        {"If_Match": f"W/{tag}"},
        {"If_Unmodified_Since": LONG_AGO},
    ):
        profile.is_error(await put(http, profile, b"2", **headers), 412)
        profile.is_error(await delete(http, profile, **headers), 412)
    profile.is_error(await put(http, profile, b"2", If_Match="x"), 400)
    profile.is_error(await delete(http, profile, If_Match="x"), 400)
    found = await get(http, profile)
    assert (found.header("etag"), found.body) == (tag, profile.shown("a", b"1"))


@every_writer
@ensureDeferred
async def test_a_write_whose_precondition_holds_is_done(http: Client, profile: Profile) -> None:
    tag = (await put(http, profile)).header("etag")
    assert tag is not None
    written = await put(http, profile, b"2", If_Match=f'"x", {tag}')
    assert 200 <= written.status < 300
    assert (await get(http, profile)).body == profile.shown("a", b"2")
    assert (await delete(http, profile, If_Match=written.header("etag") or "")).status < 300
    assert (await get(http, profile)).status == 404


@every_writer
@ensureDeferred
async def test_a_deletion_of_nothing_on_a_precondition(http: Client, profile: Profile) -> None:
    # Where it is an error anyway, preconditions do not matter (RFC 9110, 13.2.1).
    missing = 404 if profile in (KEYS, NATIVE) else 412
    assert (await delete(http, profile, If_Match='"1"')).status == missing
    assert (await delete(http, profile, If_None_Match="*")).status == (await delete(http, profile)).status


@every_writer
@ensureDeferred
async def test_only_one_of_many_clients_writes_on_the_same_tag(http: Client, profile: Profile) -> None:
    for headers in ({"If_None_Match": "*"}, {"If_Match": "tag"}):
        tag = (await get(http, profile)).header("etag") or ""
        said = {name: tag if value == "tag" else value for name, value in headers.items()}
        pending = [put(http, profile, b"%d" % number, **said) for number in range(5)]
        statuses = [(await answer).status for answer in pending]
        assert sum(status < 300 for status in statuses) == 1
        assert statuses.count(412) == 4


@every_profile
@ensureDeferred
async def test_what_cannot_heed_a_precondition_refuses_it(http: Client, profile: Profile) -> None:
    for request in REFUSED[profile.name]:
        method, target = request.split()
        for header in ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"):
            answer = await http(method, target, b"{}", {header: LONG_AGO if "Since" in header else '"1"'})
            profile.is_error(answer, 400)


@only_keys
@ensureDeferred
async def test_keys_says_how_long_a_key_will_exist(http: Client, profile: Profile) -> None:
    await http("PUT", "/keys/a?expire_in=100", b"1")
    for method in ("GET", "HEAD"):
        found = await get(http, profile, method)
        assert found.header("kvtwist-ttl") in ("99", "100")
        assert found.header("expires") is not None
    await http("PUT", "/keys/a", b"1")
    found = await get(http, profile)
    assert (found.header("kvtwist-ttl"), found.header("expires")) == (None, None)


@only_keys
@ensureDeferred
async def test_keys_gives_no_tag_for_what_it_does_not_store_as_it_was_sent(http: Client, profile: Profile) -> None:
    assert (await http("PUT", "/keys/a", b" 1\n")).header("etag") is None  # RFC 9110, 9.3.4
