"""`keys`: which paths it knows; nothing is normalised, and a segment is decoded once, after routing."""

from __future__ import annotations

import pytest

from tests.support.answer import is_json_error
from tests.support.profiles import KEYS, Profile
from tests.support.server import Server
from tests.support.targets import BROKEN_SEGMENTS, body_for, each
from tests.support.wire import ask


@pytest.fixture
def profile() -> Profile:
    return KEYS


@pytest.mark.parametrize(
    ("method", "target"),
    each(
        "GET / // /key /Keys //keys /keys/a/b /keys/a/ /keys//a /%6beys /./keys /x/../keys",
        "GET /metrics/ /Metrics /nothing /%",
        "PUT / /keys/a/b /keys/a/ //keys /nothing",
        "DELETE / //keys /%6beys /keys/a/",
        "POST /nothing",
        "OPTIONS /nothing",
        "FROB /nothing",
    ),
)
def test_other_paths_are_404(server: Server, method: str, target: str) -> None:
    assert ask(server.address, "PUT", "/keys/a", b"1").status in (200, 201)
    is_json_error(ask(server.address, method, target, body_for(method, b'{"a":2}')), 404)
    assert ask(server.address, "GET", "/keys/a").body == b"1"


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_there_is_no_empty_key(server: Server, method: str) -> None:
    assert ask(server.address, "PUT", "/keys/a", b"1").status in (200, 201)
    is_json_error(ask(server.address, method, "/keys/", body_for(method, b'{"a":2}')), 404)
    assert ask(server.address, "GET", "/keys/a").body == b"1"


@pytest.mark.parametrize("segment", BROKEN_SEGMENTS)
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_broken_encoding_is_400(server: Server, method: str, segment: str) -> None:
    is_json_error(ask(server.address, method, f"/keys/{segment}", body_for(method, b"1")), 400)


@pytest.mark.parametrize(
    ("segment", "name"),
    [
        (".", "."),
        ("..", ".."),
        ("%2E%2E", ".."),
        ("a%2Fb", "a/b"),
        ("%2f", "/"),
        ("%252F", "%2F"),
        ("a;b", "a;b"),
        ("keys", "keys"),
        ("%61", "a"),
    ],
)
def test_segment_is_decoded_once(server: Server, segment: str, name: str) -> None:
    assert ask(server.address, "PUT", f"/keys/{segment}", b"1").json() == {name: 1}
    assert ask(server.address, "GET", f"/keys/{segment}").body == b"1"
    assert ask(server.address, "DELETE", f"/keys/{segment}").status == 204


@pytest.mark.parametrize("method", ["FROB", "put", "get"])
@pytest.mark.parametrize("target", ["/keys", "/keys/a", "/metrics"])
def test_other_methods_are_405(server: Server, method: str, target: str) -> None:
    answer = ask(server.address, method, target, body_for(method, b'{"a":2}'))
    is_json_error(answer, 405)
    assert "GET" in answer.allow()
