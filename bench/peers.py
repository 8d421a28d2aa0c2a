"""The servers that http.py compares: how each is started, asked, and loaded with records."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Final

from attrs import evolve, frozen

from bench import ROOT
from bench.checkout import Checkout
from bench.data import Data
from bench.servers import HOST, Server, ServerFailed, free_port, start_kvtwist
from kvtwist.model import DATA, TEXT

Request = tuple[str, str, bytes]
"""Method, path, body."""
AT_ONCE: Final = 10
"""Records in a request that writes several."""
_LOADED_AT_ONCE: Final = 500


@frozen
class Peer:
    """
    :ivar start: starts a server; its last parameter is the records to load, None for a server that begins empty.
    :ivar put_many: writes several records by one request; None if that is not what is measured.
    :ivar found: the part of the answer to `get` that names a value.
    :ivar durable: whether it can answer a write after it is on the disk.
    :ivar needs: programs or Python modules.
    """

    title: str
    start: Callable[[Server, Data | None], None]
    get: Callable[[bytes], Request]
    put: Callable[[bytes, bytes], Request]
    put_many: Callable[[Sequence[tuple[bytes, bytes]]], Request] | None = None
    found: Callable[[bytes], bytes] = lambda value: value
    reads: bool = True
    durable: bool = True
    needs: tuple[str, ...] = ()

    @property
    def records(self) -> int:
        """How many records a request writes."""
        return 1 if self.put_many is None else AT_ONCE

    def missing(self) -> list[str]:
        """The needs that are not installed."""
        return [name for name in self.needs if shutil.which(name) is None and find_spec(name) is None]


def kvtwist(checkout: Checkout, profile: str = "lsfr") -> Peer:
    """The server with one profile; reads find the records in pages, as in a server that has run for a while."""

    def start(server: Server, records: Data | None) -> None:
        if records is not None:
            lines = server.place / "records.jsonl"
            with lines.open("w") as file:
                file.writelines(json.dumps(line) + "\n" for line in _export(records))
            load = [checkout.python, "-m", "kvtwist", "import", "--create", "--json", "data", str(lines)]
            subprocess.run(load, cwd=server.place, stdout=subprocess.DEVNULL, check=True, timeout=600)
        start_kvtwist(server, checkout, "--profile", profile)

    path = "/v1/kv/%s" if profile == "native" else "/kv/%s"
    return Peer(f"kvtwist, {profile}", start, *_plain(path, path))


def transactions(checkout: Checkout) -> Peer:
    """The server that is asked to write several records by `POST /v1/txn`."""
    return evolve(kvtwist(checkout, "native"), title=f"txn of {AT_ONCE} puts", put_many=_transaction, reads=False)


def _transaction(records: Sequence[tuple[bytes, bytes]]) -> Request:
    puts = [{"put": {"key": key.decode(), "value": value.decode()}} for key, value in records]
    return "POST", "/v1/txn", json.dumps({"then": puts}).encode()


def _export(records: Data) -> Iterator[dict[str, object]]:
    yield {"kvtwist_export": 1, "revision": records.size}
    now_ms = int(time.time() * 1000)
    for index in range(records.size):
        key, value = records.key(index).decode(), records.value(index).decode()
        yield {"keyspace": DATA, "key": key, "value": value, "media_type": TEXT, "modified_ms": now_ms}
    yield {"end": records.size}


def _plain(get: str, put: str) -> tuple[Callable[[bytes], Request], Callable[[bytes, bytes], Request]]:
    return lambda key: ("GET", get % key.decode(), b""), lambda key, value: ("PUT", put % key.decode(), value)


def _start_webdis(server: Server, records: Data | None) -> None:
    redis_port, port = free_port(), free_port()
    durable = ["--appendonly", "yes", "--appendfsync", "always"] if records is None else ["--appendonly", "no"]
    redis = ["redis-server", "--port", str(redis_port), "--bind", HOST, "--save", "", *durable]
    server.start(redis, redis_port)
    if records is not None:
        _load_redis(redis_port, records)
    settings: dict[str, object] = {"redis_host": HOST, "redis_port": redis_port, "http_host": HOST}
    settings |= {"http_port": port, "logfile": "webdis.log"}
    settings |= {"threads": 2, "daemonize": False, "database": 0, "verbosity": 3}  # as Debian has them
    (server.place / "webdis.json").write_text(json.dumps(settings))
    server.start(["webdis", "webdis.json"], port)


def _load_redis(port: int, records: Data) -> None:
    with socket.create_connection((HOST, port)) as connection, connection.makefile("rb") as answers:
        for first in range(0, records.size, _LOADED_AT_ONCE):
            indexes = range(first, min(first + _LOADED_AT_ONCE, records.size))
            connection.sendall(b"".join(_redis_set(records.key(at), records.value(at)) for at in indexes))
            if any(answers.readline() != b"+OK\r\n" for _ in indexes):
                raise ServerFailed("redis refused a record")


def _redis_set(key: bytes, value: bytes) -> bytes:
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)


def _start_uvicorn(server: Server, records: Data | None) -> None:
    assert records is not None
    port = free_port()
    options = ["--host", HOST, "--port", str(port), "--loop", "uvloop", "--http", "httptools"]
    quiet = ["--no-access-log", "--log-level", "warning"]
    uvicorn = [sys.executable, "-m", "uvicorn", "bench.dictionary:uvicorn_app", *options, *quiet]
    server.start(uvicorn, port, PYTHONPATH=str(ROOT), BENCH_RECORDS=str(records.size))


def _start_klein(server: Server, records: Data | None) -> None:
    assert records is not None
    port = free_port()
    klein = [sys.executable, "-m", "bench.dictionary", str(port)]
    server.start(klein, port, PYTHONPATH=str(ROOT), BENCH_RECORDS=str(records.size))


def _start_etcd(server: Server, records: Data | None) -> None:
    port, members = free_port(), f"http://{HOST}:{free_port()}"
    clients = f"http://{HOST}:{port}"
    listen = ["--listen-client-urls", clients, "--advertise-client-urls", clients, "--listen-peer-urls", members]
    cluster = ["--initial-advertise-peer-urls", members, "--initial-cluster", f"default={members}"]
    server.start(["etcd", "--data-dir", "data", "--log-level", "error", *listen, *cluster], port)


def _etcd_request(path: str, *parts: tuple[str, bytes]) -> Request:
    body = {name: b64encode(part).decode() for name, part in parts}
    return "POST", path, json.dumps(body).encode()


PEERS: Final = {
    "webdis": Peer(
        "webdis + redis", _start_webdis, *_plain("/GET/%s.txt", "/SET/%s"), needs=("webdis", "redis-server")
    ),
    "uvicorn": Peer(
        "uvicorn, a dictionary",
        _start_uvicorn,
        *_plain("/kv/%s", "/kv/%s"),
        durable=False,
        needs=("uvicorn", "uvloop"),
    ),
    "klein": Peer("Klein, a dictionary", _start_klein, *_plain("/kv/%s", "/kv/%s"), durable=False),
    "etcd": Peer(
        "etcd's gateway",
        _start_etcd,
        lambda key: _etcd_request("/v3/kv/range", ("key", key)),
        lambda key, value: _etcd_request("/v3/kv/put", ("key", key), ("value", value)),
        found=b64encode,
        reads=False,
        needs=("etcd",),
    ),
}
"""All but kvtwist itself."""
