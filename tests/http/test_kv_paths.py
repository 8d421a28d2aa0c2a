"""`lsfr` and `clstr`: which paths and keys they know, and in which order a request is checked."""

from __future__ import annotations

import pytest

from tests.support.answer import is_text
from tests.support.profiles import CLSTR, LSFR, MAX_VALUE, Profile
from tests.support.server import Server
from tests.support.targets import BROKEN_SEGMENTS, body_for, each
from tests.support.wire import ask

UNKNOWN = "not found\n"
METHOD = "method not allowed\n"
NO_KEY = "key cannot be empty\n"
BAD_KEY = "key contains invalid characters\n"
NO_VALUE = "value cannot be empty\n"
BAD_VALUE = "value must be valid UTF-8\n"
TOO_LARGE = "value too large\n"

TOO_MUCH = b"v" * (MAX_VALUE + 1)


@pytest.fixture(params=[LSFR, CLSTR], ids=["lsfr", "clstr"])
def profile(request: pytest.FixtureRequest) -> Profile:
    assert isinstance(request.param, Profile)
    return request.param


@pytest.mark.parametrize(
    ("method", "target"),
    each(
        "GET / // /kvx /KV/a /kv/a/b /kv/a/ /kv// /kv//a //kv/a /%6bv/a /./kv/a /kv/../kv/a",
        "GET /clear/ /Clear /x/clear /health/ /nothing /%",
        "PUT / /kv/a/b /kv/a/ /kv//a //kv/a /nothing",
        "DELETE / /clear/ //clear /%63lear /kv/a/",
        "POST / /kv/a/b /nothing",
        "OPTIONS /nothing",
        "FROB /nothing",
    ),
)
def test_other_paths_are_404(server: Server, method: str, target: str) -> None:
    assert ask(server.address, "PUT", "/kv/a", b"1").status == 200
    is_text(ask(server.address, method, target, body_for(method, b"2")), 404, UNKNOWN)
    assert ask(server.address, "GET", "/kv/a").body == b"1"


@pytest.mark.parametrize(
    "segment",
    [
        *[
            "a+b",
            "a!",
            "a~b",
            "a@b",
            "a,b",
            "a;b",
            "a=b",
            "(a)",
            "*",
            "a%20b",
            "a%2Fb",
            "a%252Fb",
            "%25",
            "%7F",
        ],
        *["a%00", "a%0A", "%0Aa", "%C3%A9", "%D9%A1", "%EF%BC%A1", "%F0%9F%98%8A"],
        *BROKEN_SEGMENTS,
    ],
)
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_other_characters_are_400(server: Server, method: str, segment: str) -> None:
    is_text(ask(server.address, method, f"/kv/{segment}", body_for(method, b"1")), 400, BAD_KEY)


@pytest.mark.parametrize("segment", [".", "..", "...", "%2E", "%2e%2e", "%61"])
def test_dots_and_encoded_letters_are_taken(server: Server, segment: str) -> None:
    assert ask(server.address, "PUT", f"/kv/{segment}", segment.encode()).status == 200
    is_text(ask(server.address, "GET", f"/kv/{segment}"), 200, segment)


@pytest.mark.parametrize("method", ["FROB", "put", "get", "delete"])
@pytest.mark.parametrize("target", ["/kv/a", "/kv", "/kv/", "/kv/bad!key", "/clear"])
def test_other_methods_are_405(server: Server, method: str, target: str) -> None:
    answer = ask(server.address, method, target, body_for(method, b"2"))
    is_text(answer, 405, METHOD)
    assert "DELETE" in answer.allow()


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "text"),
    [
        pytest.param("POST", "/kv/bad!/x", TOO_MUCH, 404, UNKNOWN, id="path before all"),
        pytest.param("POST", "/kv/bad!", TOO_MUCH, 405, METHOD, id="method before key and size"),
        pytest.param("POST", "/kv/", b"", 405, METHOD, id="method before empty key"),
        pytest.param("PUT", "/kv/", b"", 400, NO_KEY, id="empty key before empty value"),
        pytest.param("PUT", "/kv", TOO_MUCH, 400, NO_KEY, id="empty key before size"),
        pytest.param("PUT", "/kv/bad!", TOO_MUCH, 400, BAD_KEY, id="key before size"),
        pytest.param("PUT", "/kv/bad!", b"", 400, BAD_KEY, id="key before empty value"),
        pytest.param("PUT", "/kv/bad!", b"\xff", 400, BAD_KEY, id="key before UTF-8"),
        pytest.param("PUT", "/kv/a", b"", 400, NO_VALUE, id="empty value"),
        pytest.param("PUT", "/kv/a", b"\xff", 400, BAD_VALUE, id="UTF-8"),
        pytest.param("PUT", "/kv/a", TOO_MUCH, 413, TOO_LARGE, id="size"),
        pytest.param("PUT", "/kv/a", b"\xff" * (MAX_VALUE + 1), 413, TOO_LARGE, id="size, unread"),
    ],
)
def test_order_of_checks(server: Server, method: str, target: str, body: bytes, status: int, text: str) -> None:
    is_text(ask(server.address, method, target, body), status, text)
