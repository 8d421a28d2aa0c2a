"""The largest requests that a server allows: others are answered meanwhile and see all of it or nothing, memory stays."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kvtwist.engine.memtable import ENTRY_COST
from tests.support.process import MIB, forget_peak, peak_memory
from tests.support.server import Server, running
from tests.support.wire import Connection

KEYS = 10_000
"""What `--max-operations` allows unless it says otherwise."""
COST = 1500
"""Bytes that a key of a request takes while it is set, beside what the store keeps of it: measured, rounded up."""


def asked_meanwhile(server: Server, act: Callable[[], None], ask: Callable[[Connection], None]) -> int:
    """Do one thing, and ask for others over another connection until it is done; how often."""
    failures: list[BaseException] = []
    over = threading.Event()

    def work() -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)
        finally:
            over.set()

    thread = threading.Thread(target=work)
    count = 0
    with Connection(server.address) as connection:
        thread.start()
        try:
            while not over.is_set():
                ask(connection)
                count += 1
        finally:
            thread.join()
    assert not failures, failures
    return count


@pytest.mark.parametrize("store", ["dir", "memory"])
def test_the_largest_put(tmp_path: Path, store: str) -> None:
    with running(tmp_path / "data", "--profile", "keys", "--store", store, "--memory-limit", "32MiB") as server:
        with Connection(server.address) as connection:
            assert connection.ask("PUT", "/keys/small", b"1").status == 201
        before = forget_peak(server.pid)
        written = -1

        def put() -> None:
            with Connection(server.address) as connection:
                for number in range(5):
                    nonlocal written
                    body = json.dumps({f"k{key:05}": number for key in range(KEYS)}).encode()
                    assert connection.ask("PUT", "/keys", body).status == (201 if number == 0 else 200)
                    written = number

        def look(connection: Connection) -> None:
            assert connection.ask("GET", "/keys/small").body == b"1"
            least = written
            found = connection.ask("GET", "/keys?filter=k0000$").json()
            assert set(found) in (set(), {f"k{key:05}" for key in range(10)})
            assert len(set(found.values())) <= 1, "a part of it is seen"
            assert all(value >= least for value in found.values())

        assert asked_meanwhile(server, put, look) > 5
        with Connection(server.address) as connection:
            too_many = json.dumps({f"k{key:05}": 9 for key in range(KEYS + 1)}).encode()
            answer = connection.ask("PUT", "/keys", too_many)
            assert (answer.status, "kvtwist import" in answer.json()["error"]) == (413, True)
            assert len(connection.ask("GET", "/keys").json()) == KEYS + 1
        grown = peak_memory(server.pid) - before
        print(f"{store}: {grown / MIB:.1f} MiB more")
        assert grown < KEYS * (ENTRY_COST + COST)


def test_the_largest_transaction(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "native", "--memory-limit", "32MiB") as server:
        with Connection(server.address) as connection:
            assert connection.ask("PUT", "/v1/kv/small", b"1").status == 201
        before = forget_peak(server.pid)
        written = 0

        def transact() -> None:
            with Connection(server.address) as connection:
                for number in range(5):
                    nonlocal written
                    puts = [{"put": {"key": f"k{key:05}", "json": number}} for key in range(KEYS)]
                    outcome = connection.ask("POST", "/v1/txn", json.dumps({"then": puts}).encode()).json()
                    assert outcome["results"] == [{"revision": outcome["revision"]}] * KEYS
                    written = outcome["revision"]

        def look(connection: Connection) -> None:
            assert connection.ask("GET", "/v1/kv/small").body == b"1"
            least = written
            items = connection.ask("GET", "/v1/kv?prefix=k0000").json()["items"]
            assert [item["key"] for item in items] in ([], [f"k{key:05}" for key in range(10)])
            assert len({item["revision"] for item in items}) <= 1, "a part of it is seen"
            assert all(item["revision"] >= least for item in items)

        assert asked_meanwhile(server, transact, look) > 5
        with Connection(server.address) as connection:
            assert connection.ask("DELETE", "/v1/kv?prefix=k").json() == {"deleted": KEYS}
        grown = peak_memory(server.pid) - before
        print(f"{grown / MIB:.1f} MiB more")
        assert grown < KEYS * (ENTRY_COST + COST)


def test_the_largest_commit(tmp_path: Path) -> None:
    arguments = ["--profile", "transactional", "--memory-limit", "16MiB", "--max-staged", "8MiB"]
    with running(tmp_path / "data", *arguments) as server:
        with Connection(server.address) as connection:
            connection.send(encoded(b"small", 1) + b"POST /commit HTTP/1.1\r\nHost: h\r\n\r\n")
            assert [connection.receive().status for _ in range(2)] == [201, 204]
            before = forget_peak(server.pid)
            staged = 0
            statuses = {201}
            while statuses == {201}:
                numbers = range(staged, staged + 100)
                connection.send(b"".join(encoded(b"k%06d" % number, 1) for number in numbers))
                taken = [connection.receive().status for _ in numbers]
                statuses = set(taken)
                staged += taken.count(201)
            assert statuses <= {201, 507}
        assert 6000 < staged < 8.4 * MIB / 1000, "each counts for what it takes"

        def commit() -> None:
            with Connection(server.address) as connection:
                assert connection.ask("POST", "/commit").status == 204

        seen: list[tuple[int, int]] = []

        def look(connection: Connection) -> None:
            assert connection.ask("GET", "/small").body == b'{"small":1}'
            last, first = (connection.ask("GET", f"/k{number:06}").status for number in (staged - 1, 0))
            seen.append((first, last))

        asked_meanwhile(server, commit, look)
        assert set(seen) <= {(200, 200), (404, 404), (200, 404)}, "the last key was there before the first"
        with Connection(server.address) as connection:
            assert connection.ask("GET", "/k000000").status == 200
        grown = peak_memory(server.pid) - before
        print(f"{staged} changes: {grown / MIB:.1f} MiB more")
        assert grown < (16 + 8) * MIB


def encoded(key: bytes, value: int) -> bytes:
    body = b'{"%b":%d}' % (key, value)
    return b"POST /set HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
