"""What one profile wrote another reads after a restart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.server import Server, running
from tests.support.wire import ask


def write_transactional(server: Server) -> None:
    assert ask(server.address, "POST", "/set", b'{"k": {"a": 1.0}}').status == 201
    assert ask(server.address, "POST", "/set", b'{"gone": 1}').status == 201
    assert ask(server.address, "POST", "/commit").status == 204
    assert ask(server.address, "DELETE", "/set", b'"gone"').status == 200
    assert ask(server.address, "POST", "/commit").status == 204
    assert ask(server.address, "POST", "/set", b'{"k": "only staged"}').status == 200


def write_history(server: Server) -> None:
    assert ask(server.address, "PUT", "/k", b"\xff\x00").status == 204
    assert ask(server.address, "PUT", "/gone", b"1").status == 204
    assert ask(server.address, "DELETE", "/gone").status == 204


def write_kv(server: Server) -> None:
    assert ask(server.address, "PUT", "/kv/gone", b"1").status == 200
    assert ask(server.address, "DELETE", "/clear").status == 200
    assert ask(server.address, "PUT", "/kv/k", "plain \u00e9".encode()).status == 200


def write_keys(server: Server) -> None:
    assert ask(server.address, "PUT", "/keys", b'{"k":[1e400,"\\u00e9"],"gone":1}').status == 201
    assert ask(server.address, "DELETE", "/keys/gone").status == 204


def write_native(server: Server) -> None:
    put = b'{"put":{"key":"k","value_base64":"/wA=","content_type":"image/png"}}'
    assert (
        ask(server.address, "POST", "/v1/txn", b'{"then":[%b,{"put":{"key":"gone","value":""}}]}' % put).status == 200
    )
    assert ask(server.address, "DELETE", "/v1/kv/gone").status == 204


ALL_BUT_HISTORY = ("-P", "keys", "-P", "lsfr", "-P", "transactional", "-P", "native")

# What writes, and its value as it is read in JSON and in bytes.
WRITERS = {
    "transactional": (write_transactional, b'{"a": 1.0}', b'{"a": 1.0}'),
    "history": (write_history, b'{"base64":"/wA="}', b"\xff\x00"),
    "lsfr": (write_kv, '"plain \u00e9"'.encode(), "plain \u00e9".encode()),
    "clstr": (write_kv, '"plain \u00e9"'.encode(), "plain \u00e9".encode()),
    "keys": (write_keys, b'[1e400,"\\u00e9"]', b'[1e400,"\\u00e9"]'),
    "native": (write_native, b'{"base64":"/wA="}', b"\xff\x00"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_one_wrote_all_others_read_after_a_kill_and_after_a_stop(tmp_path: Path, writer: str) -> None:
    write, as_json, as_bytes = WRITERS[writer]
    with running(tmp_path / "data", "--profile", writer) as server:
        write(server)
        server.kill()
    for end in (Server.stop, Server.kill):  # of which the first one makes pages of what was in the journal
        with running(tmp_path / "data", *ALL_BUT_HISTORY) as server:
            assert ask(server.address, "GET", "/keys").body == b'{"k":%b}' % as_json
            assert ask(server.address, "GET", "/keys/k").body == as_json
            assert ask(server.address, "GET", "/kv/k").body == as_bytes
            assert ask(server.address, "GET", "/k").body == b'{"k":%b}' % as_json
            assert ask(server.address, "GET", "/gone").status == 404
            found = ask(server.address, "GET", "/v1/kv/k")
            assert found.body == as_bytes
            assert writer != "native" or found.header("content-type") == "image/png"
            end(server)
    with running(tmp_path / "data", "--profile", "history") as server:
        assert ask(server.address, "GET", "/k").body == as_bytes
        assert ask(server.address, "GET", "/gone").status == 404
        told = ask(server.address, "GET", "/k/history").json()
        expected = [{"value": "/wA=", "encoding": "base64"}] if writer == "history" else []
        assert [{name: event[name] for name in event if name != "timestamp"} for event in told] == expected


def test_what_expires_does_so_for_every_profile(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "keys") as server:
        assert ask(server.address, "PUT", "/keys/k?expire_in=3600", b"1").status == 201
    with running(tmp_path / "data", "--profile", "lsfr", "--profile", "keys") as server:
        assert ask(server.address, "GET", "/kv/k").body == b"1"
        assert ask(server.address, "PUT", "/kv/k", b"2").status == 200
        assert json.loads(ask(server.address, "GET", "/keys/k").body) == "2"
