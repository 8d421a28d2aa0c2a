"""
What a server goes through, phase by phase, and what it must have to show for it afterwards.

The truth is kept here: which write of each record was the last to be acknowledged. A listing is compared with it byte
by byte as it comes, and a phase that finds a difference ends the journey.
"""

from __future__ import annotations

import asyncio
import re
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

from attrs import Factory, define, frozen

from bench.proc import Memory, disk_bytes
from bench.pulse_process import Beats, Pulse, beats
from bench.server_process import Server
from bench.web_client import Connection, WrongAnswer
from bench.workload import GROUP, RECORD_BYTES, Data

PULSE_KEY: Final = "~pulse"
"""Sorts behind all others, and is in every listing."""
_PULSE_VALUE: Final = b'"beats"'
_PATIENCE: Final = 180.0
"""Seconds after the last expiry until the server must count only what is left."""
_RECORDS = re.compile(rb'^kvtwist_store_records\{keyspace="data"\} ([0-9.e+]+)$', re.MULTILINE)


class Lost(Exception):
    """The server has not got what it acknowledged."""


@frozen
class Amounts:
    """
    :ivar keys: how many records there are.
    :ivar batch: how many of them go into one PUT.
    :ivar shuffled: whether they are loaded in no order.
    :ivar reads: how many uniform reads.
    :ivar updates: how many uniform updates, each a PUT of its own.
    """

    keys: int
    batch: int
    shuffled: bool
    reads: int
    updates: int


@define
class Stretch:
    """
    What a phase took.

    :ivar began: and `ended`: on the clock of `time.monotonic`.
    :ivar memory: the most that the server had meanwhile.
    :ivar disk: bytes of its directory at the end.
    """

    phase: str
    began: float
    ended: float
    requests: int
    memory: Memory
    disk: int
    beats: Beats | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@define
class Account:
    """
    A whole journey.

    :ivar base: bytes in memory of a server that has been asked for nothing yet.
    :ivar disk_ratios: disk over raw data, by what it was measured after.
    :ivar seconds: of starts and stops.
    """

    base: int = 0
    stretches: list[Stretch] = Factory(list)
    disk_ratios: dict[str, float] = Factory(dict)
    seconds: dict[str, float] = Factory(dict)


class Journey:
    """:param tell: called with each stretch as it ends."""

    def __init__(
        self, directory: Path, server_options: list[str], amounts: Amounts, tell: Callable[[Stretch], None]
    ) -> None:
        self.account = Account()
        self._directory = directory
        self._options = server_options
        self._amounts = amounts
        self._tell = tell
        self._data = Data(amounts.keys)
        self._generations = array("B", bytes(amounts.keys))
        """By record, the write that was acknowledged; 0 for none."""
        self._load_seconds = 0.0
        self._gone_by = 0.0
        """When the last of what expires has done so, as `time.time` says it."""
        self._server: Server | None = None

    async def run(self) -> None:
        """All of it; :raises Lost, WrongAnswer, PulseFailed, ServerFailed: it went wrong."""
        server = self._start("first start")
        self.account.base = server.memory.most().resident
        async with self._connections(1) as [connection]:
            await _answer(connection, 201, b"PUT", f"/keys/{PULSE_KEY}", _PULSE_VALUE)
        await self._beating(self._with_all, frozenset({200}))
        self.account.seconds["stop with all keys"] = server.stop()
        self._weigh("after a clean stop with all keys")
        server = self._start("start with all keys")
        await self._beating(self._with_half, frozenset({200}))
        self.account.seconds["stop with half of the keys"] = server.stop()
        self._weigh("after a clean stop with half of the keys")
        server = self._start("start with half of the keys")
        await self._beating(self._to_the_end, frozenset({200, 404}))  # the last phase takes away what beats
        self.account.seconds["last stop"] = server.stop()

    def kill(self) -> None:
        """Leave no server behind."""
        if self._server is not None:
            self._server.kill()

    def _start(self, what: str) -> Server:
        self._server = server = Server(self._directory, self._options)
        self.account.seconds[what] = server.start_seconds
        return server

    async def _beating(self, phases: Callable[[], Awaitable[None]], allowed: frozenset[int]) -> None:
        assert self._server is not None
        pulse = Pulse(self._server.address, f"/keys/{PULSE_KEY}")
        try:
            await phases()
        except BaseException:
            pulse.kill()
            raise
        samples = await asyncio.to_thread(pulse.stop, allowed)
        for stretch in self.account.stretches:
            stretch.beats = stretch.beats or beats(samples, stretch.began, stretch.ended)

    async def _with_all(self) -> None:
        self._load_seconds = (await self._phase("load", self._load)).seconds
        self._weigh("after the load, with what waits in the journal")
        await self._phase("uniform reads", self._read)
        await self._phase("uniform updates", self._update)
        await self._phase("GET /keys", self._list)
        await self._phase("GET /keys?filter=$...", self._filter)

    async def _with_half(self) -> None:
        deadline = time.time() + 3 + self._load_seconds * 0.75
        await self._phase("half is written to expire", lambda: self._write_expiring(deadline))
        await asyncio.sleep(max(deadline - time.time(), 0))
        await self._phase("expiry wave, and reads", self._expire)
        await self._phase("GET /keys after that", self._list)

    async def _to_the_end(self) -> None:
        await self._phase("GET /keys after a restart", self._list)
        await self._phase("DELETE /keys", self._clear)

    async def _phase(self, name: str, act: Callable[[], Awaitable[int]]) -> Stretch:
        assert self._server is not None
        watch = self._server.memory
        watch.begin()
        began = time.monotonic()
        requests = await act()
        stretch = Stretch(name, began, time.monotonic(), requests, watch.most(), disk_bytes(self._directory))
        self.account.stretches.append(stretch)
        self._tell(stretch)
        return stretch

    def _weigh(self, when: str) -> None:
        left = sum(1 for generation in self._generations if generation)
        self.account.disk_ratios[when] = disk_bytes(self._directory) / (left * RECORD_BYTES)

    # --- the phases; each returns how many requests it made -------------------------------------------------------

    async def _load(self) -> int:
        order = self._data.shuffled() if self._amounts.shuffled else range(self._amounts.keys)
        return await self._in_parallel(
            4, lambda connection, batch: self._put(connection, batch, 1, "/keys"), _batches(order, self._amounts.batch)
        )

    async def _write_expiring(self, deadline: float) -> int:
        async def put(connection: Connection, batch: list[int]) -> None:
            seconds = max(round(deadline - time.time()), 1)
            await self._put(connection, batch, 3, f"/keys?expire_in={seconds}")
            self._gone_by = max(self._gone_by, time.time() + seconds)

        halves = range(0, self._amounts.keys, 2)
        return await self._in_parallel(4, put, _batches(halves, self._amounts.batch))

    async def _put(self, connection: Connection, batch: list[int], generation: int, target: str) -> None:
        pairs = (self._pair(index, generation) for index in batch)
        status, _ = await connection.request(b"PUT", target, b"{" + b",".join(pairs) + b"}")
        _check(status in (200, 201), f"a PUT of {len(batch)} keys was answered with {status}")
        for index in batch:
            self._generations[index] = generation

    async def _read(self) -> int:
        async def read(connection: Connection, index: int) -> None:
            body = await _answer(connection, 200, b"GET", f"/keys/{self._data.name(index)}")
            if body != self._data.json(index, self._generations[index]):
                raise Lost(f"key {self._data.name(index)} is {body[:40]!r}")

        return await self._in_parallel(16, read, islice(self._data.uniform(21), self._amounts.reads))

    async def _update(self) -> int:
        async def update(connection: Connection, index: int) -> None:
            await _answer(connection, 200, b"PUT", f"/keys/{self._data.name(index)}", self._data.json(index, 2))
            self._generations[index] = 2

        return await self._in_parallel(16, update, islice(self._data.uniform(22), self._amounts.updates))

    async def _list(self) -> int:
        left = (index for index, generation in enumerate(self._generations) if generation)
        await self._compare("/keys", left, b'"%s":%s' % (PULSE_KEY.encode(), _PULSE_VALUE))
        return 1

    async def _filter(self) -> int:
        """A filter that begins with `$` has to look at every key; this one lets through the first of each group."""
        await self._compare("/keys?filter=$-00000", range(0, self._amounts.keys, GROUP), b"")
        return 1

    async def _compare(self, target: str, expected: Iterable[int], last: bytes) -> None:
        async with self._connections(1) as [connection]:
            difference = _difference(target)
            wanted = self._listing(expected, last)
            ahead = b""
            async for piece in connection.stream(target):
                while len(ahead) < len(piece):
                    more = next(wanted, None)
                    if more is None:
                        raise difference(piece, ahead)
                    ahead += more
                if not ahead.startswith(piece):
                    raise difference(piece, ahead)
                ahead = ahead[len(piece) :]
            if ahead or next(wanted, b""):
                raise difference(b"", ahead)

    def _listing(self, indexes: Iterable[int], last: bytes) -> Iterator[bytes]:
        """The bytes that a listing of so many records is made of, in pieces of some size."""
        separator = b"{"
        for batch in _batches(indexes, 1000):
            yield separator + b",".join(self._pair(index, self._generations[index]) for index in batch)
            separator = b","
        yield (separator + last if last else b"") + b"}"

    async def _expire(self) -> int:
        """Read everywhere, until the server counts only what is left; then look at some that must be gone."""
        for index in range(0, self._amounts.keys, 2):
            self._generations[index] = 0
        over = asyncio.Event()

        async def read(connection: Connection, index: int) -> None:
            asked = time.time()
            status, _ = await connection.request(b"GET", f"/keys/{self._data.name(index)}")
            if index % 2 or asked > self._gone_by:
                wanted = 200 if index % 2 else 404
                _check(status == wanted, f"key {self._data.name(index)}: {status} instead of {wanted}")

        def until_over(indexes: Iterator[int]) -> Iterator[int]:
            while not over.is_set():
                yield next(indexes)

        async def wait() -> None:
            try:
                await self._counted(self._amounts.keys // 2 + 1, self._gone_by + _PATIENCE)
            finally:
                over.set()

        reading = self._in_parallel(4, read, until_over(self._data.uniform(23)))
        requests, _ = await asyncio.gather(reading, wait())
        return requests

    async def _counted(self, wanted: int, end: float) -> None:
        async with self._connections(1) as [connection]:
            while True:
                found = _RECORDS.search(await _answer(connection, 200, b"GET", "/metrics"))
                count = int(float(found[1])) if found else -1
                if count == wanted:
                    return
                _check(time.time() < end, f"{count} records are counted where {wanted} are left")
                await asyncio.sleep(0.25)

    async def _clear(self) -> int:
        async with self._connections(1) as [connection]:
            await _answer(connection, 204, b"DELETE", "/keys")
            await asyncio.sleep(2)  # what is freed, and when, belongs to it
            body = await _answer(connection, 200, b"GET", "/keys")
            _check(body == b"{}", f"after DELETE /keys there is still {body[:60]!r}")
        return 1

    # --- how they talk --------------------------------------------------------------------------------------------

    def _pair(self, index: int, generation: int) -> bytes:
        return b'"%s":%s' % (self._data.name(index).encode(), self._data.json(index, generation))

    async def _in_parallel(
        self, count: int, act: Callable[[Connection, Any], Awaitable[None]], subjects: Iterable[Any]
    ) -> int:
        """Act on every subject, over so many connections; how many that were."""
        shared = iter(subjects)

        async def work(connection: Connection) -> int:
            done = 0
            for subject in shared:
                await act(connection, subject)
                done += 1
            return done

        async with self._connections(count) as connections:
            return sum(await asyncio.gather(*map(work, connections)))

    @asynccontextmanager
    async def _connections(self, count: int) -> AsyncIterator[list[Connection]]:
        assert self._server is not None
        opened = [await Connection.open(*self._server.address) for _ in range(count)]
        try:
            yield opened
        finally:
            for connection in opened:
                connection.close()


def _batches(indexes: Iterable[int], count: int) -> Iterator[list[int]]:
    left = iter(indexes)
    while batch := list(islice(left, count)):
        yield batch


async def _answer(connection: Connection, wanted: int, method: bytes, target: str, body: bytes = b"") -> bytes:
    status, answer = await connection.request(method, target, body)
    _check(status == wanted, f"{method.decode()} {target}: {status} instead of {wanted}: {answer[:100]!r}")
    return answer


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise WrongAnswer(otherwise)


def _difference(target: str) -> Callable[[bytes, bytes], Lost]:
    def describe(found: bytes, wanted: bytes) -> Lost:
        at = next((at for at, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), 0)
        return Lost(f"GET {target} has {found[at : at + 60]!r} where {wanted[at : at + 60]!r} should be")

    return describe
