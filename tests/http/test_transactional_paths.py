"""`transactional`: four routes and a 404; nothing is normalised, and a segment is decoded once."""

from __future__ import annotations

import pytest

from tests.support.answer import is_json_error
from tests.support.profiles import TRANSACTIONAL, Profile, encoded
from tests.support.server import Server
from tests.support.targets import BROKEN_SEGMENTS, body_for, each
from tests.support.wire import Connection, ask


@pytest.fixture
def profile() -> Profile:
    return TRANSACTIONAL


def commit(server: Server, name: str) -> None:
    """Give a key the value 1."""
    with Connection(server.address) as connection:
        connection.send(encoded(TRANSACTIONAL.write(name, b"1")))
        assert connection.receive().status in (200, 201)
        assert connection.ask("POST", "/commit").status == 204


@pytest.mark.parametrize(
    ("method", "target"),
    each(
        "GET / // //thing /thing/ /a/b /thing// /./thing /set/x",
        "POST / /set/ //set /SET /Set /%73et /set/x /./set /x/../set /thing",
        "POST /commit/ /%63ommit //commit /COMMIT",
        "DELETE / /set/ /%73et //set /thing /commit",
        "PUT / /set /commit /thing",
        "PATCH /set /commit /thing",
        "HEAD / /set /commit /thing",
        "OPTIONS / /set /commit /thing /a/b",
        "TRACE /set /thing",
        "FROB /set /commit /thing",
        "post /set /commit",
        "delete /set",
        "get /thing",
    ),
)
def test_all_else_is_404_and_changes_nothing(server: Server, key: str, method: str, target: str) -> None:
    commit(server, "thing")
    commit(server, key)
    body = f'"{key}"' if method.upper() == "DELETE" else f'{{"{key}":2}}'
    answer = ask(server.address, method, target, body_for(method, body.encode()))
    if method == "HEAD":
        assert answer.status == 404
    else:
        is_json_error(answer, 404)
    assert TRANSACTIONAL.read(server.address, key) == b"1"


@pytest.mark.parametrize("segment", BROKEN_SEGMENTS)
def test_broken_encoding_is_404(server: Server, segment: str) -> None:
    is_json_error(ask(server.address, "GET", f"/{segment}"), 404)


@pytest.mark.parametrize("name", ["set", "commit"])
def test_keys_named_like_routes_are_read(server: Server, name: str) -> None:
    commit(server, name)
    assert TRANSACTIONAL.read(server.address, name) == b"1"
    assert ask(server.address, "DELETE", "/set", f'"{name}"'.encode()).status == 200
    assert TRANSACTIONAL.read(server.address, name) is None


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("a/b", "/a%2Fb"),
        ("a/b", "/a%2fb"),
        ("/", "/%2F"),
        ("..", "/.."),
        ("..", "/%2E%2E"),
        (".", "/."),
        ("%2F", "/%252F"),
        ("a+b", "/a+b"),
        ("a;b=c", "/a;b=c"),
        ("thing", "/%74%68ing"),
        ("thing", "/thing?"),
        ("thing", "/thing?a=/b"),
    ],
)
def test_segment_is_decoded_once(server: Server, name: str, target: str) -> None:
    commit(server, name)
    answer = ask(server.address, "GET", target)
    assert (answer.status, answer.body) == (200, f'{{"{name}":1}}'.encode())
