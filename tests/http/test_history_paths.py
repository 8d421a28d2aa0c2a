"""`history`: the paths and keys it knows; nothing is normalised, and a segment is decoded once."""

from __future__ import annotations

import pytest

from tests.support.answer import OCTETS, is_json_error
from tests.support.profiles import HISTORY, Profile
from tests.support.server import Server
from tests.support.targets import BROKEN_SEGMENTS, body_for, each
from tests.support.wire import ask


@pytest.fixture
def profile() -> Profile:
    return HISTORY


@pytest.mark.parametrize(
    "segment",
    [
        *["a-b", "a_b", "a.b", "a:b", "a+b", "*", "..", "a%20b", "a%2Fb", "a%252Fb", "a%00", "a%0A", "%0Aa"],
        *["%C3%A9", "%D9%A1", "%EF%BC%A1"],
        pytest.param("k" * 256, id="256 bytes"),
        *BROKEN_SEGMENTS,
    ],
)
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_other_keys_are_400(server: Server, method: str, segment: str) -> None:
    is_json_error(ask(server.address, method, f"/{segment}", body_for(method, b"1")), 400)
    is_json_error(ask(server.address, "GET", f"/{segment}/history"), 400)


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_empty_key_is_400(server: Server, method: str) -> None:
    is_json_error(ask(server.address, method, "/", body_for(method, b"1")), 400)


@pytest.mark.parametrize(
    ("method", "target"),
    each(
        "GET // //foo /foo/ /foo/bar /foo//history /foo/history/ /foo/history/x",
        "GET /foo/History /foo/%68istory /foo/histor /foo/./history",
        "PUT /foo/ //foo /foo/bar /a/b/c",
        "DELETE /foo/ //foo /foo/bar",
        "POST /foo/bar",
        "OPTIONS /foo/bar",
        "FROB /foo/bar",
    ),
)
def test_other_paths_are_404(server: Server, method: str, target: str) -> None:
    assert ask(server.address, "PUT", "/foo", b"1").status == 204
    is_json_error(ask(server.address, method, target, body_for(method, b"2")), 404)
    assert ask(server.address, "GET", "/foo").body == b"1"


@pytest.mark.parametrize("method", ["FROB", "put", "get"])
@pytest.mark.parametrize("target", ["/foo", "/foo/history"])
def test_other_methods_are_405(server: Server, method: str, target: str) -> None:
    answer = ask(server.address, method, target, body_for(method, b"1"))
    is_json_error(answer, 405)
    assert "GET" in answer.allow()


def test_segment_is_decoded_once(server: Server, key: str) -> None:
    target = "/" + "".join(f"%{ord(letter):02x}" for letter in key)
    assert ask(server.address, "PUT", target, b"1").status == 204
    assert ask(server.address, "GET", f"/{key}?").body == b"1"
    assert len(ask(server.address, "GET", f"{target}/history").json()) == 1


def test_longest_key(server: Server) -> None:
    target = "/" + "aZ9" * 85
    assert ask(server.address, "PUT", target, b"1").status == 204
    assert ask(server.address, "GET", target).header("content-type") == OCTETS
    assert len(ask(server.address, "GET", f"{target}/history").json()) == 1
