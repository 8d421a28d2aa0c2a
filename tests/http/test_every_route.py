"""Every route of every profile answers HEAD, other methods, and unknown query parameters in the same way."""

from __future__ import annotations

import re

import pytest
from attrs import frozen
from pytest_twisted import ensureDeferred

from kvtwist.profiles import PROFILES
from tests.support.answer import Answer
from tests.support.inprocess import Client
from tests.support.profiles import ALL_PROFILES, Profile

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE")
VALID = {
    ("transactional", "POST", "/set"): b'{"other":2}',
    ("transactional", "DELETE", "/set"): b'"key"',
    ("keys", "PUT", "/keys"): b'{"key":2}',
    ("native", "POST", "/v1/txn"): b"{}",
}
"""Bodies of requests, where another one than `2` is needed for them to succeed."""

ENDLESS = {"/v1/watch"}
"""Paths with answers that have no end: tests/http/test_watch.py has their tests."""
UNKNOWN = (
    "unknown",
    "unknown=1",
    "expires_in=3",
    "EXPIRE_IN=60",
    "expire_in=60&unknown",
    "unknown=1&expire_in=60",
    "filter=nothing&limit=1",
    "filter=nothing&after=a",
    "limit=1",
    "after=a",
    "=",
    "a%00",
    "%zz=1",
    "%ff=1",
    "expire_in=60&%",
    "caf%C3%A9%0D%0A=1",
    "x" * 5000,
)
"""Queries in which something is not known to any route that changes something."""


@frozen
class Case:
    """A path of a profile, and the methods that it has routes for."""

    profile: Profile
    path: str
    methods: frozenset[str]

    @property
    def arguments(self) -> list[str]:
        """The options of a server that speaks the profile."""
        return ["--profile", self.profile.name]

    def body(self, method: str) -> bytes | None:
        """A body that the method accepts there."""
        if method not in ("PUT", "POST", "DELETE"):
            return None
        return VALID.get((self.profile.name, method, self.path), b"2")

    def __str__(self) -> str:
        return f"{self.profile.name} {self.path}"


def _cases() -> list[Case]:
    found = []
    for profile in ALL_PROFILES:
        routes: dict[str, set[str]] = {}
        for rule in PROFILES[profile.name].app.url_map.iter_rules():
            routes.setdefault(re.sub("<.*key>", "key", rule.rule), set()).update(rule.methods or ())
        found += [Case(profile, path, frozenset(methods)) for path, methods in sorted(routes.items())]
    return found


CASES = _cases()


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    """Each path of each profile."""
    assert isinstance(request.param, Case)
    return request.param


@pytest.fixture
def arguments(case: Case) -> list[str]:
    return case.arguments


def said(answer: Answer) -> tuple[int, bytes, str | None]:
    """An answer without the headers that depend on the time."""
    return answer.status, answer.body, answer.header("content-type")


async def prepare(http: Client, profile: Profile) -> None:
    """Give a key a value."""
    call = profile.write("key", b"1")
    assert (await http(call.method, call.target, call.body)).status < 300
    if profile.commits:
        assert (await http("POST", "/commit")).status == 204


@ensureDeferred
async def test_other_methods_are_405_or_404_in_transactional(http: Client, case: Case) -> None:
    for method in METHODS:
        if method in case.methods:
            continue
        answer = await http(method, case.path, case.body(method))
        if method == "HEAD":
            assert answer.status in (404, 405)
        elif case.profile.name == "transactional":
            case.profile.is_error(answer, 404)
        else:
            case.profile.is_error(answer, 405)
            assert answer.allow() == case.methods


@ensureDeferred
async def test_head_is_get_without_the_body(http: Client, case: Case) -> None:
    await prepare(http, case.profile)
    head = await http("HEAD", case.path)
    assert head.body == b""
    if case.profile.name == "transactional":
        assert head.status == 404
        return
    if case.path in ENDLESS:
        assert head.status == 200
        return
    get = await http("GET", case.path)
    assert head.status == get.status
    for name in ("content-type", "allow"):
        assert head.header(name) == get.header(name)
    if case.path != "/metrics":  # where GET counts HEAD
        assert head.header("content-length") == str(get.content_length)


@ensureDeferred
async def test_unknown_query_parameter_is_400_where_something_is_changed(http: Client, case: Case) -> None:
    profile = case.profile
    await prepare(http, profile)
    before = said(await http("GET", profile.target("key")))
    for query in UNKNOWN:
        for method in sorted(case.methods & {"PUT", "POST", "DELETE"}):
            profile.is_error(await http(method, f"{case.path}?{query}", case.body(method)), 400)
        if profile.commits:
            assert (await http("POST", "/commit")).status == 204
            assert (await http("GET", profile.target("other"))).status == 404
        assert said(await http("GET", profile.target("key"))) == before


@ensureDeferred
async def test_unknown_query_parameter_is_ignored_where_something_is_read(http: Client, case: Case) -> None:
    await prepare(http, case.profile)
    if "GET" in case.methods and case.path not in {"/metrics", *ENDLESS}:
        plain = said(await http("GET", case.path))
        for query in ("", "unknown", "expires_in=3&expires_in=4", "%zz=1", "=", "&&"):
            assert said(await http("GET", f"{case.path}?{query}")) == plain


@ensureDeferred
async def test_no_query_parameter_is_unknown_in_an_empty_query(http: Client, case: Case) -> None:
    for method in sorted(case.methods & {"PUT", "POST", "DELETE"}):
        for query in ("?", "?&", "?&&"):
            await prepare(http, case.profile)
            plain = await http(method, case.path, case.body(method))
            await prepare(http, case.profile)
            asked = await http(method, case.path + query, case.body(method))
            assert (asked.status == 400) == (plain.status == 400)
