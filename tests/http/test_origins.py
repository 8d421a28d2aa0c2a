"""Web pages of other origins change nothing, in no profile; those that are allowed may do everything."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.http.test_every_route import CASES, Case, prepare, said
from tests.support.inprocess import Client

APP = "https://app.example"
FOREIGN = (
    {"Origin": "http://evil.example"},
    {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "null"},
)


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    """Each path of each profile."""
    assert isinstance(request.param, Case)
    return request.param


@pytest.fixture
def arguments(case: Case) -> list[str]:
    return [*case.arguments, "--cors-origin", "http://other.example", "--cors-origin", APP]


@ensureDeferred
async def test_pages_of_other_origins_change_nothing(http: Client, case: Case) -> None:
    await prepare(http, case.profile)
    for method in case.methods - {"GET", "HEAD", "OPTIONS"}:
        for headers in FOREIGN:
            case.profile.is_error(await http(method, case.path, case.body(method), headers), 403)
    answer = await http("GET", case.profile.target("key"))
    assert (answer.status, answer.body) == (200, case.profile.shown("key", b"1"))


@ensureDeferred
async def test_they_may_read_but_not_see_it(http: Client, case: Case) -> None:
    """The browser shows a page of another origin nothing that does not say so."""
    await prepare(http, case.profile)
    for method in case.methods & {"HEAD"} if case.path == "/v1/watch" else case.methods & {"GET", "HEAD"}:
        plain = await http(method, case.path)
        for headers in FOREIGN:
            answer = await http(method, case.path, None, headers)
            assert said(answer)[::2] == said(plain)[::2]
            assert answer.header("access-control-allow-origin") is None


@ensureDeferred
async def test_allowed_pages_may_do_what_others_may(http: Client, case: Case) -> None:
    for method in sorted(case.methods - {"GET"}):
        asked = {"Origin": APP, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "if-match"}
        preflight = await http("OPTIONS", case.path, None, asked)
        assert (preflight.status, preflight.body) == (204, b"")
        assert preflight.header("access-control-allow-origin") == APP
        assert method in (preflight.header("access-control-allow-methods") or "")
        assert preflight.header("access-control-allow-headers") == "if-match"
        await prepare(http, case.profile)
        plain = await http(method, case.path, case.body(method))
        await prepare(http, case.profile)
        answer = await http(method, case.path, case.body(method), {"Origin": APP, "Sec-Fetch-Site": "cross-site"})
        assert (answer.status < 300) is (plain.status < 300)
        assert answer.header("access-control-allow-origin") == APP
        assert ("vary", "Origin") in answer.headers


@ensureDeferred
async def test_nobody_else_is_answered_beforehand(http: Client, case: Case) -> None:
    for headers in ({"Origin": "http://evil.example", "Access-Control-Request-Method": "GET"}, {"Origin": APP}):
        answer = await http("OPTIONS", case.path, None, headers)
        case.profile.is_error(answer, 404 if case.profile.name == "transactional" else 405)
