"""HEAD works wherever GET does: the same headers, the same length, no body."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, StartServer
from tests.support.profiles import CLSTR, HISTORY, KEYS, LSFR, Profile, encoded
from tests.support.server import Server
from tests.support.wire import ask

SAME = ("content-type", "content-length", "allow")


def assert_same_but_for_the_body(server: Server, target: str) -> None:
    get = ask(server.address, "GET", target)
    head = ask(server.address, "HEAD", target)
    assert head.status == get.status
    assert head.body == b""
    assert {name: head.header(name) for name in SAME} == {name: get.header(name) for name in SAME}


@pytest.mark.parametrize("profile", [HISTORY, LSFR, CLSTR, KEYS], ids=lambda profile: str(profile.name))
@pytest.mark.parametrize("exists", [True, False], ids=["existing", "missing"])
def test_head_of_a_key(server: Server, connect: Connect, profile: Profile, key: str, exists: bool) -> None:
    if exists:
        connection = connect()
        connection.send(encoded(profile.write(key, b'"value"')))
        assert connection.receive().status == profile.created
        assert ask(server.address, "HEAD", profile.target(key)).content_length == 7
    assert_same_but_for_the_body(server, profile.target(key))


@pytest.mark.parametrize(
    ("profile", "target"),
    [
        (HISTORY, "/foo/history"),
        (HISTORY, "/bad!"),
        (HISTORY, "/unknown/path"),
        (LSFR, "/kv/"),
        (LSFR, "/kv/bad!"),
        (LSFR, "/unknown"),
        (LSFR, "/clear"),
        (CLSTR, "/health"),
        (KEYS, "/keys?filter=nothing"),
        (KEYS, "/keys?limit=0"),
        (KEYS, "/keys/%00"),
        (KEYS, "/unknown"),
    ],
    ids=lambda value: value.name if isinstance(value, Profile) else value,
)
def test_head_of_other_paths(server: Server, profile: Profile, target: str) -> None:
    assert_same_but_for_the_body(server, target)


def test_head_of_the_metrics_has_no_body(serve: StartServer) -> None:
    server = serve("--profile", "keys", "--store", "memory")
    head = ask(server.address, "HEAD", "/metrics")
    assert (head.status, head.body) == (200, b"")
    assert (head.header("content-type") or "").startswith("text/plain; version=")


@pytest.mark.parametrize("profile", [KEYS], ids=["keys"])
def test_head_of_a_listing_leaves_the_connection_in_step(server: Server, connect: Connect, key: str) -> None:
    connection = connect()
    assert connection.ask("PUT", f"/keys/{key}", b"1").status == 201
    assert connection.ask("HEAD", "/keys").status == 200
    assert connection.ask("GET", f"/keys/{key}").body == b"1"
