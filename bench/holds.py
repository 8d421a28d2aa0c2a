#!/usr/bin/env python
"""
How long the largest requests that a server allows keep another client waiting, and how much memory they take:
`python bench/holds.py`. Options after `--` go to `twistd kvstore`.

All the while another connection asks for one key every ten milliseconds (pulse.py). What it waits at the longest is how
long the reactor was held, together with what else the machine was doing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from attrs import frozen

sys.path.pop(0)  # bench/, whose http.py is not the library's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import ROOT
from bench.proc import machine, source_version
from bench.pulse_process import Beats, Pulse, beats
from bench.server_process import Server
from bench.web_client import Connection

MIB = 2**20
STAGERS = 32
"""Connections that stage changes at the same time."""


@frozen
class Stretch:
    """What one request took; `grown` is by how many bytes the process was larger at the most."""

    what: str
    answer: str
    began: float
    ended: float
    grown: int


class Holds:
    """Asks one server for everything, one request after the other."""

    def __init__(self, server: Server, keys: int, changes: int) -> None:
        self._server = server
        self._keys = keys
        self._changes = changes
        self._connection: Connection
        self.stretches: list[Stretch] = []

    async def run(self) -> None:
        """All of it."""
        self._connection = await Connection.open(*self._server.address)
        small = {b"k%06d" % number: b"%d" % number for number in range(self._keys)}
        await self._ask(f"PUT /keys, {self._keys:,} new keys", b"PUT", "/keys", _object(small))
        await self._ask("the same again", b"PUT", "/keys", _object(small))
        large = dict.fromkeys(small, b'"' + b"v" * (8 * MIB // self._keys - 15) + b'"')
        await self._ask(f"the same with {len(_object(large)) / MIB:.1f} MiB", b"PUT", "/keys", _object(large))
        many = {b"%d" % number: b"1" for number in range(600_000)}
        await self._ask("PUT /keys, 600,000 keys", b"PUT", "/keys", _object(many))
        await self._ask("PUT /keys, one value of 3 MiB of []", b"PUT", "/keys/k", b"[" + b"[]," * MIB + b"1]")
        count = await self._stage(self._changes, b"1")
        await self._ask(f"POST /commit of {count:,} changes", b"POST", "/commit")
        count = await self._stage(60, b'"' + b"v" * MIB + b'"')
        await self._ask(f"POST /commit of {count:,} values of 1 MiB", b"POST", "/commit")
        await self._ask("DELETE /keys?filter=k$", b"DELETE", "/keys?filter=k$")
        await self._ask("GET /keys", b"GET", "/keys")
        await self._ask("DELETE /keys", b"DELETE", "/keys")

    async def _ask(self, what: str, method: bytes, target: str, body: bytes = b"") -> None:
        await asyncio.sleep(0.5)
        memory = self._server.memory
        memory.begin()
        before = memory.most().resident
        began = time.monotonic()
        status, answer = await self._connection.request(method, target, body)
        ended = time.monotonic()
        await asyncio.sleep(0.2)  # what follows on the answer belongs to it
        said = f"{status}" if status < 400 else f"{status} {answer[:60].decode()}"
        self.stretches.append(Stretch(what, said, began, ended + 0.2, memory.most().peak - before))

    async def _stage(self, count: int, value: bytes) -> int:
        """Stage so many changes, or as many as there is room for."""
        numbers = iter(range(count))
        staged = 0

        async def stage() -> None:
            nonlocal staged
            connection = await Connection.open(*self._server.address)
            for number in numbers:
                status, _ = await connection.request(b"POST", "/set", b'{"k%06d":%b}' % (number, value))
                if status not in (200, 201):
                    break
                staged += 1
            connection.close()

        await asyncio.gather(*(stage() for _ in range(STAGERS)))
        return staged


def _object(members: dict[bytes, bytes]) -> bytes:
    return b"{" + b",".join(b'"%b":%b' % member for member in members.items()) + b"}"


def _line(stretch: Stretch, seen: Beats | None) -> str:
    waits = "- | -" if seen is None else f"{seen.longest * 1000:.0f} | {seen.p99 * 1000:.0f}"
    seconds = stretch.ended - stretch.began - 0.2
    return f"| {stretch.what} | {stretch.answer} | {seconds:.2f} | {waits} | {stretch.grown / MIB:.0f} |"


async def _measure(server: Server, act: Callable[[], Awaitable[None]]) -> list[tuple[float, float, int]]:
    connection = await Connection.open(*server.address)
    await connection.request(b"PUT", "/keys/pulse", b"1")
    connection.close()
    pulse = Pulse(server.address, "/keys/pulse")
    try:
        await act()
    except BaseException:
        pulse.kill()
        raise
    return pulse.stop(frozenset({200, 404}))  # the last request deletes it


def main(arguments: list[str]) -> int:
    """The exit status."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(prog="bench/holds.py", description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000, help="keys of one PUT [10000]")
    parser.add_argument("--changes", type=int, default=100_000, help="to stage for a commit, if there is room [100000]")
    parser.add_argument("--dir", type=Path, help="where to make the store [/tmp]")
    chosen = parser.parse_args(arguments[:at])
    with tempfile.TemporaryDirectory(prefix="kvtwist-holds-", dir=chosen.dir) as place:
        print(f"{source_version(ROOT)}, {time.strftime('%Y-%m-%d')}  \n{machine(Path(place))}\n")
        server = Server(Path(place) / "data", ["--profile", "transactional", *arguments[at + 1 :]])
        try:
            holds = Holds(server, chosen.keys, chosen.changes)
            samples = asyncio.run(_measure(server, holds.run))
        finally:
            server.stop()
    print("| request | answer | s | longest GET of others, ms | p99 | MiB more |\n|---|---|---:|---:|---:|---:|")
    for stretch in holds.stretches:
        print(_line(stretch, beats(samples, stretch.began, stretch.ended)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
