"""
Some phases of engine.py in a process of their own, so that its memory and its writes are theirs alone.

The argument is a `Job` as JSON; the figures of each phase are a line of JSON. The interpreter may be that of an older
checkout, so nothing is imported here but the standard library and what kvtwist itself needs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attrs import asdict, frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twisted.python.failure import Failure

from bench import machine
from bench.data import GROUP, RECORD_BYTES, Data
from bench.heartbeat import Heartbeat
from bench.stores import STORES, Found, Store

IN_FLIGHT: Final = 64
"""Operations that wait at the same time, as on a server with so many busy connections."""
QUIET: Final = 0.3
"""Seconds without a write after which the background work of a store is over."""


@frozen
class Job:
    """
    :ivar checkout: the root of the kvtwist to import.
    :ivar seconds: after which reads and single writes end.
    """

    store: str
    process: str
    size: int
    directory: str
    checkout: str
    seconds: float

    def as_argument(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


Figures = dict[str, float]


@frozen
class Work:
    """What a phase works with."""

    reactor: Any
    store: Store
    data: Data
    seconds: float

    async def drive(
        self, act: Callable[[Any], Deferred[Any]], subjects: Iterable[Any], in_flight: int = IN_FLIGHT
    ) -> int:
        """
        Call `act` with each subject, so many at a time; return how many that were.

        What is answered at once is taken in bursts of `IN_FLIGHT`, with an iteration of the reactor after each.
        """
        count = waiting = 0
        failures: list[Failure] = []
        room: Deferred[None] | None = None

        def answered(result: object) -> None:
            nonlocal waiting, room
            waiting -= 1
            if isinstance(result, Failure):
                failures.append(result)
            if room is not None:
                resumed, room = room, None
                resumed.callback(None)

        for subject in subjects:
            waiting += 1
            act(subject).addBoth(answered)
            count += 1
            if waiting >= in_flight:
                room = Deferred()
                await room
            elif not count % IN_FLIGHT:
                await self.iteration()
            if failures:
                failures[0].raiseException()
        while waiting:
            room = Deferred()
            await room
        if failures:
            failures[0].raiseException()
        return count

    @property
    def reads(self) -> int:
        """How many to prepare; they may take longer than there is time."""
        return min(self.data.size * 10, 500_000)

    def iteration(self) -> Deferred[None]:
        """Fires in the next iteration of the reactor."""
        return deferLater(self.reactor, 0)

    def until_late(self, subjects: Iterable[Any]) -> Iterable[Any]:
        """Subjects until the time of a phase is over."""
        end = time.perf_counter() + self.seconds
        for subject in subjects:
            if time.perf_counter() > end:
                return
            yield subject

    async def write(self, indexes: Iterable[int], generation: int, in_flight: int = IN_FLIGHT) -> int:
        """Write records; how many."""
        put, key, value = self.store.put, self.data.key, self.data.value
        return await self.drive(lambda index: put(key(index), value(index, generation)), indexes, in_flight)

    async def slices(self) -> AsyncIterator[Sequence[tuple[bytes, Any]]]:
        """All records, with an iteration of the reactor after each slice."""
        start: bytes | None = b""
        while start is not None:
            items, start = await self.store.scan(start)
            yield items
            await self.iteration()


class _Watch:
    """Measures from its making on."""

    def __init__(self, work: Work) -> None:
        self._heart = Heartbeat(work.reactor)
        self._started, self._used = time.perf_counter(), time.process_time()

    def figures(self, count: int) -> Figures:
        """What so many operations took: real time, and the processor time of all threads."""
        seconds, used = time.perf_counter() - self._started, time.process_time() - self._used
        return {"rate": count / seconds, "cpu_seconds": used / count, **self._heart.stop()}


async def load(work: Work) -> Figures:
    """Write every key once, in random order."""
    order = work.data.shuffled()
    watch = _Watch(work)
    return watch.figures(await work.write(order, 1))


async def update(work: Work) -> Figures:
    """Write as many records as there are, each as likely as any other."""
    watch = _Watch(work)
    return watch.figures(await work.write(work.data.uniform(2, work.data.size), 2))


async def put_single(work: Work) -> Figures:
    """One writer waits for each write: what a sync costs."""
    watch = _Watch(work)
    return watch.figures(await work.write(work.until_late(work.data.uniform(3, 10**6)), 3, in_flight=1))


async def _read(work: Work, keys: Sequence[bytes]) -> Figures:
    get = work.store.get
    watch = _Watch(work)
    return watch.figures(await work.drive(lambda key: get(key).addCallback(_present), work.until_late(keys)))


def _present(record: object) -> None:
    if record is None:
        raise LookupError("a record is missing")


async def get_one(work: Work) -> Figures:
    """Read the same key again and again."""
    return await _read(work, [work.data.key(work.data.size // 2)] * work.reads)


async def get_any(work: Work) -> Figures:
    """Read any key, in a process that has read nothing yet; the kernel has the files in memory."""
    return await _read(work, [work.data.key(index) for index in work.data.uniform(4, work.reads)])


async def scan_all(work: Work) -> Figures:
    """Read all records in key order."""
    count = 0
    watch = _Watch(work)
    async for items in work.slices():
        count += len(items)
    _same("records", count, work.data.size)
    return watch.figures(count)


async def scan_prefix(work: Work) -> Figures:
    """Read the hundred records under a prefix; an operation is one such scan."""
    prefixes = [work.data.prefix(index // GROUP) for index in work.data.uniform(5, work.reads // 10)]

    def act(prefix: bytes) -> Deferred[Any]:
        return work.store.scan(prefix, prefix + b"~").addCallback(_whole_group)

    watch = _Watch(work)
    return watch.figures(await work.drive(act, work.until_late(prefixes)))


def _whole_group(found: Found) -> None:
    _same("records under a prefix", len(found[0]), GROUP)


KILLED_GENERATION: Final = 6


def _killed(work: Work) -> Iterable[int]:
    return work.data.uniform(KILLED_GENERATION, min(work.data.size, 300_000))


async def kill(work: Work) -> Figures:
    """Write records; SIGKILL follows as soon as the last is acknowledged."""
    watch = _Watch(work)
    return watch.figures(await work.write(_killed(work), KILLED_GENERATION))


async def recover(work: Work) -> Figures:
    """Read the first record after SIGKILL."""
    watch = _Watch(work)
    _present(await work.store.get(work.data.key(0)))
    return watch.figures(1)


async def check_recovered(work: Work) -> None:
    """:raises ValueError: a record that was acknowledged before SIGKILL is not there, or is older."""
    written = bytearray(work.data.size)
    for index in _killed(work):
        written[index] = True
    index = 0
    async for items in work.slices():
        for key, record in items:
            _same("a key", key, work.data.key(index))
            if work.data.generation(index, work.store.value(record)) != KILLED_GENERATION and written[index]:
                raise ValueError(f"record {index} is older than the write that was acknowledged")
            index += 1
    _same("records", index, work.data.size)


def _same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ValueError(f"{what}: {found!r} instead of {expected!r}")


PROCESSES: Final[dict[str, dict[str, Callable[[Work], Awaitable[Figures]]]]] = {
    "load": {"load": load},
    "read": {"get any": get_any, "get one": get_one, "scan": scan_all, "prefix": scan_prefix},
    "update": {"update": update},
    "kill": {"put single": put_single, "kill": kill},
    "recover": {"recover": recover},
}
"""In the order in which they run; each works on the directory that the one before has left."""


async def _settled(reactor: Any) -> None:
    """Return when the store has done its work in the background, which belongs to the cost of the phase."""
    before = -1
    while before != (before := machine.bytes_written()):
        await deferLater(reactor, QUIET)


async def _run(reactor: Any, job: Job) -> None:
    store = STORES[job.store](reactor, job.directory)
    work = Work(reactor, store, Data(job.size), job.seconds)
    await work.iteration()  # the reactor runs, and kvtwist has collected the garbage of its start
    machine.forget_peak()
    resident = machine.peak_resident()
    opening = time.perf_counter()
    store.open()
    if job.process != "recover":
        await _settled(reactor)
    written = machine.bytes_written()
    for name, phase in PROCESSES[job.process].items():
        figures = await phase(work)
        figures["seconds_with_open"] = time.perf_counter() - opening
        figures["resident"] = machine.peak_resident() - resident
        if name == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "recover":
            await check_recovered(work)
        if name in ("load", "update"):
            await _settled(reactor)
            await store.close()
            figures["written"] = (machine.bytes_written() - written) / (job.size * RECORD_BYTES)
        print(json.dumps({"phase": name, **figures}), flush=True)
    if job.process not in ("load", "update"):
        await store.close()


async def _main(reactor: Any, argument: str) -> None:
    job = Job(**json.loads(argument))
    sys.path[0] = job.checkout  # for kvtwist, which is not imported yet; bench has been, from this tree
    try:
        await _run(reactor, job)
    except BaseException:
        Failure().printTraceback()
        os._exit(1)  # a store that was not closed has threads, which would outlive the failure


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(_main(reactor, sys.argv[1])))
