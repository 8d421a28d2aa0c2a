"""
Who can take part, and how each is started: as its users would, but for what would write to the disk or to a log what
the others do not.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from attrs import frozen

from bench.serving import data
from bench.serving.processes import Process, Server, free_port
from bench.serving.speech import ETCD, LSFR, WEBDIS, Speech

_LOADED_AT_ONCE: Final = 1000


@frozen
class Place:
    """
    :ivar directory: a fresh one, for this server alone.
    :ivar core: where its processes run.
    :ivar store: a directory that holds all keys, in kvtwist's form; None for a server that begins empty.
    :ivar durable: whether writes are to be safe before they are answered.
    """

    directory: Path
    core: int
    store: Path | None = None
    durable: bool = False


@frozen
class Contender:
    """
    :ivar needs: programs, or modules of Python.
    :ivar can: the scenarios of its kind: read, write, or both.
    """

    name: str
    title: str
    start: Callable[[Place], Server]
    speech: Speech
    can: frozenset[str]
    needs: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """What is not installed."""
        return [name for name in self.needs if shutil.which(name) is None and not _is_module(name)]


def _is_module(name: str) -> bool:
    return find_spec(name) is not None


def kvtwist(
    place: Place, options: Sequence[str] = (), variant: Sequence[str] = (), output: Path | None = None
) -> Server:
    """
    The server as run.sh starts it.

    :param variant: what is changed in it (variant.py).
    """
    data_directory = place.directory / "data"
    if place.store is not None:
        shutil.copytree(place.store, data_directory)
    port = free_port()
    profile = [] if "--profile" in options else ["--profile", "lsfr"]
    if variant:
        start = ["-m", "bench.serving.variant", ",".join(variant)]
    else:
        start = ["-c", "from twisted.scripts.twistd import run; run()"]
    twistd = [*start, "-n", "--pidfile=", "kvstore", *profile]
    process = Process(
        [sys.executable, *twistd, "--port", str(port), "--working-dir", str(data_directory), *options],
        place.core,
        place.directory / "log",
        output=output,
    )
    return _started(port, [process])


def _klein(place: Place) -> Server:
    return kvtwist(place, variant=["klein"])


def _webdis(place: Place) -> Server:
    redis_port, port = free_port(), free_port()
    safe = ["--appendonly", "yes", "--appendfsync", "always"] if place.durable else ["--appendonly", "no"]
    redis = Process(
        ["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", ".", *safe],
        place.core,
        place.directory / "redis.log",
    )
    with or_stopped(redis):
        redis.wait_for(redis_port)
        if place.store is not None:
            _load_redis(redis_port)
    settings = {  # Debian's own, but for the ports and where it logs to
        "redis_host": "127.0.0.1",
        "redis_port": redis_port,
        "redis_auth": None,
        "http_host": "127.0.0.1",
        "http_port": port,
        "threads": 2,
        "daemonize": False,
        "database": 0,
        "acl": [{"disabled": ["DEBUG"]}],
        "verbosity": 3,
        "logfile": str(place.directory / "webdis.log"),
    }
    path = place.directory / "webdis.json"
    path.write_text(json.dumps(settings))
    with or_stopped(redis):
        return _started(port, [Process(["webdis", str(path)], place.core, place.directory / "log"), redis])


def _load_redis(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as answers:
        for first in range(0, data.KEYS, _LOADED_AT_ONCE):
            indexes = range(first, first + _LOADED_AT_ONCE)
            connection.sendall(b"".join(_redis_set(data.key(index), data.value(index)) for index in indexes))
            if any(answers.readline() != b"+OK\r\n" for _ in indexes):
                raise RuntimeError("redis does not take what it is given")


def _redis_set(key: bytes, value: bytes) -> bytes:
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)


def _uvicorn(place: Place) -> Server:
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop", "--http", "httptools"]
    quiet = ["--no-access-log", "--log-level", "warning"]
    command = [sys.executable, "-m", "uvicorn", "bench.serving.asgi:app", *options, *quiet]
    return _started(port, [Process(command, place.core, place.directory / "log")])


def _etcd(place: Place) -> Server:
    port, peers = free_port(), free_port()
    clients, members = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
    listen = ["--listen-client-urls", clients, "--advertise-client-urls", clients, "--listen-peer-urls", members]
    cluster = ["--initial-advertise-peer-urls", members, "--initial-cluster", f"default={members}"]
    command = ["etcd", "--data-dir", str(place.directory / "data"), "--log-level", "error", *listen, *cluster]
    return _started(port, [Process(command, place.core, place.directory / "log")])


def _started(port: int, processes: Sequence[Process]) -> Server:
    with or_stopped(*processes):
        processes[0].wait_for(port)
    return Server(port, processes)


@contextmanager
def or_stopped(*processes: Process) -> Iterator[None]:
    """Leaves no process behind when something goes wrong."""
    try:
        yield
    except BaseException:
        for process in processes:
            process.stop()
        raise


_READ, _WRITE, _BOTH = frozenset({"read"}), frozenset({"write"}), frozenset({"read", "write"})

CONTENDERS: Final = {
    contender.name: contender
    for contender in (
        Contender("kvtwist", "kvtwist", kvtwist, LSFR, _BOTH),
        Contender("klein", "stock Klein", _klein, LSFR, _BOTH),
        Contender("webdis", "webdis + redis", _webdis, WEBDIS, _BOTH, ("webdis", "redis-server")),
        Contender("uvicorn", "uvicorn, a dict", _uvicorn, LSFR, _READ, ("uvicorn", "uvloop")),
        Contender("etcd", "etcd", _etcd, ETCD, _WRITE, ("etcd",)),
    )
}


def chosen(names: Sequence[str]) -> Iterator[Contender]:
    """Those of some names; :raises ValueError: one is unknown."""
    for name in names:
        if name not in CONTENDERS:
            raise ValueError(f"contenders are {', '.join(CONTENDERS)}")
        yield CONTENDERS[name]
