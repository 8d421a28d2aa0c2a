"""
What is measured, a phase at a time.

A phase is a function that prepares itself and returns a coroutine function; only the latter is measured. Each runs in
a process of its own, on the directory that the phases before it have left, and checks what it reads: a store that
answers fast and wrong fails the run.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice, repeat
from typing import Any, Final

from attrs import define, frozen
from twisted.internet.defer import Deferred

from bench.contender import Contender
from bench.driving import drive, pause, turn
from bench.heartbeat import Heartbeat
from bench.plan import HOT_KEYS, Plan
from bench.workload import GROUP, RECORD_BYTES, Data

Figures = dict[str, float]
Measured = Callable[[], Awaitable[Figures]]


@define
class Stage:
    """
    What a phase has at hand. The store is opened only when the phase has prepared itself.

    :ivar opened: seconds that opening the store took.
    :ivar replayed: transactions that it found in its journal.
    """

    reactor: Any
    contender: Contender
    data: Data
    plan: Plan
    opened: float = 0.0
    replayed: int = 0


@frozen
class Phase:
    """
    :ivar fresh: begins with an empty directory; `kept` says whether the phases behind it get that directory.
    :ivar cold: the kernel is made to forget what it has cached of the files first.
    :ivar killed: ends with SIGKILL instead of a close.
    :ivar weighed: what it makes the disk write is of interest. So it ends with a checkpoint, and when all is quiet.
    :ivar needs: what a contender must be able to do for it.
    """

    name: str
    title: str
    prepare: Callable[[Stage], Measured]
    fresh: bool = False
    kept: bool = True
    cold: bool = False
    killed: bool = False
    weighed: bool = False
    needs: str | None = None


EXPIRY_PATIENCE: Final = 180.0
"""Seconds after which what has expired must not be counted any more. kvtwist looks for it on disk once a minute."""


class Stopwatch:
    """Real time, and the processor time of all threads, which other processes of a busy machine do not add to."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._used = time.process_time()

    def rate(self, count: int) -> Figures:
        """What so many operations took."""
        seconds = time.perf_counter() - self._started
        used = time.process_time() - self._used
        return {"count": count, "seconds": seconds, "rate": count / seconds, "cpu_seconds": used}


# --- writing ----------------------------------------------------------------------------------------------------------


def _writing(stage: Stage, order: Iterable[int], generation: int) -> Measured:
    async def run() -> Figures:
        heart = Heartbeat(stage.reactor)
        watch = Stopwatch()
        count = await drive(stage.reactor, _writer(stage, generation), order)
        return {**watch.rate(count), "user_bytes": count * RECORD_BYTES, **heart.stop()}

    return run


def _writer(stage: Stage, generation: int) -> Callable[[int], Deferred[Any]]:
    put, key, value = stage.contender.put, stage.data.key, stage.data.value
    return lambda index: put(key(index), value(index, generation))


def load_sequential(stage: Stage) -> Measured:
    """Every key once, in key order."""
    return _writing(stage, range(stage.data.size), 1)


def load_random(stage: Stage) -> Measured:
    """Every key once, in no order."""
    return _writing(stage, stage.data.shuffled(), 1)


def update_sequential(stage: Stage) -> Measured:
    """Keys that are there, in key order, round and round."""
    size = stage.data.size
    return _writing(stage, (at % size for at in range(stage.plan.updates)), 2)


def update_uniform(stage: Stage) -> Measured:
    """Keys that are there, any of them."""
    return _writing(stage, islice(stage.data.uniform(3), stage.plan.updates), 3)


def update_skewed(stage: Stage) -> Measured:
    """Keys that are there, few of them mostly."""
    return _writing(stage, islice(stage.data.skewed(4), stage.plan.updates), 4)


def put_single(stage: Stage) -> Measured:
    """One writer, who waits for each write: a sync to a write."""

    async def run() -> Figures:
        chosen = islice(stage.data.uniform(5), stage.plan.singles)
        watch = Stopwatch()
        count = await drive(stage.reactor, _writer(stage, 5), chosen, 1, stage.plan.seconds)
        return watch.rate(count)

    return run


# --- reading ----------------------------------------------------------------------------------------------------------


def _reading(stage: Stage, keys: Iterable[bytes]) -> Measured:
    get = stage.contender.get

    def read(key: bytes) -> Deferred[Any]:
        found = get(key)
        return found if found.called and found.result is not None else found.addCallback(_present)

    async def run() -> Figures:
        watch = Stopwatch()
        return watch.rate(await drive(stage.reactor, read, keys, seconds=stage.plan.seconds))

    return run


def _present(found: Any) -> Any:
    if found is None:
        raise LookupError("a record is missing")
    return found


def get_one(stage: Stage) -> Measured:
    """The same key all the time."""
    return _reading(stage, repeat(stage.data.key(stage.data.size // 2), stage.plan.hot_reads))


def get_hot(stage: Stage) -> Measured:
    """A hundred keys, spread over all."""
    chosen = [stage.data.key(index) for index in islice(stage.data.uniform(6), HOT_KEYS)]
    return _reading(stage, [chosen[at % HOT_KEYS] for at in range(stage.plan.hot_reads)])


def get_uniform(stage: Stage) -> Measured:
    """Any key, beginning with nothing in memory."""
    return _reading(stage, [stage.data.key(index) for index in islice(stage.data.uniform(7), stage.plan.reads)])


def scan_all(stage: Stage) -> Measured:
    """Every record in key order, a slice at a time, with a turn of the reactor between two as a listing has."""

    async def run() -> Figures:
        heart = Heartbeat(stage.reactor)
        watch = Stopwatch()
        count = 0
        start: bytes | None = b""
        while start is not None:
            found = await stage.contender.scan(start)
            count += len(found.items)
            start = found.resume
            await turn(stage.reactor)
        figures = {**watch.rate(count), **heart.stop()}
        _same("records in a full scan", count, stage.data.size)
        return figures

    return run


def scan_prefix(stage: Stage) -> Measured:
    """The hundred records under one prefix; counted in scans."""
    groups = [index // GROUP for index in islice(stage.data.uniform(8), stage.plan.prefixes)]
    prefixes = [stage.data.prefix(group) for group in groups]
    scan = stage.contender.scan

    def act(prefix: bytes) -> Deferred[Any]:
        return scan(prefix, prefix + b"\xff").addCallback(_whole_group)

    async def run() -> Figures:
        watch = Stopwatch()
        return watch.rate(await drive(stage.reactor, act, prefixes, seconds=stage.plan.seconds))

    return run


def _whole_group(found: Any) -> None:
    _same("records under a prefix", len(found.items), GROUP)


# --- what a store does now and then -----------------------------------------------------------------------------------


def restart(stage: Stage) -> Measured:
    """From a clean stop to the first answer."""

    async def run() -> Figures:
        started = time.perf_counter()
        _present(await stage.contender.get(stage.data.key(0)))
        return {"seconds": stage.opened + time.perf_counter() - started, "replayed": stage.replayed}

    return run


def checkpoint(stage: Stage) -> Measured:
    """Some uniform updates, untimed, and then the checkpoint that moves them."""

    async def run() -> Figures:
        await drive(stage.reactor, _writer(stage, 9), islice(stage.data.uniform(9), stage.plan.before_checkpoint))
        heart = Heartbeat(stage.reactor)
        started = time.perf_counter()
        await stage.contender.checkpoint()
        return {"seconds": time.perf_counter() - started, **heart.stop()}

    return run


def kill(stage: Stage) -> Measured:
    """Uniform updates, all of them acknowledged; then this process is killed."""

    async def run() -> Figures:
        count = await drive(stage.reactor, _writer(stage, KILLED), islice(_killed(stage), stage.plan.before_kill))
        return {"count": count}

    return run


KILLED: Final = 10
"""The generation of what is written before the kill."""


def _killed(stage: Stage) -> Iterable[int]:
    return stage.data.uniform(KILLED)


def recover(stage: Stage) -> Measured:
    """From the kill to the first answer; and then, untimed, whether all is there that was acknowledged."""

    async def run() -> Figures:
        started = time.perf_counter()
        _present(await stage.contender.get(stage.data.key(0)))
        seconds = stage.opened + time.perf_counter() - started
        written = bytearray(stage.data.size)
        for index in islice(_killed(stage), stage.plan.before_kill):
            written[index] = True
        await _check(stage, range(stage.data.size), lambda index, found: found == KILLED or not written[index])
        figures = {"seconds": seconds, "replayed": float(stage.replayed)}
        return {**figures, "rate": stage.replayed / stage.opened} if stage.replayed else figures

    return run


async def _check(stage: Stage, expected: Sequence[int], is_right: Callable[[int, int], bool]) -> None:
    """Read everything; :raises RuntimeError: it is not exactly the expected records, each with a right value."""
    contender, data = stage.contender, stage.data
    at = 0
    start: bytes | None = b""
    while start is not None:
        found = await contender.scan(start)
        for key, held in found.items:
            index = expected[at]
            _same("a key", key, data.key(index))
            if not is_right(index, data.generation(index, contender.value(held))):
                raise RuntimeError(f"record {index} is older than what was acknowledged")
            at += 1
        start = found.resume
        await turn(stage.reactor)
    _same("records", at, len(expected))


def expiry_wave(stage: Stage) -> Measured:
    """Half of all records, in memory and on disk, expire at one moment; timed from then on until none is counted."""
    size = stage.data.size
    batches = [range(start, min(start + 1000, size), 2) for start in range(0, size, 1000)]
    left = range(1, size, 2)

    async def put(chosen: list[range], until: float | None) -> float:
        def act(batch: range) -> Deferred[Any]:
            records = [(stage.data.key(index), stage.data.value(index, 11)) for index in batch]
            return stage.contender.put_all(records, None if until is None else max(_ms_until(until), 1))

        started = time.time()
        await drive(stage.reactor, act, chosen, 4)
        await stage.contender.checkpoint()
        return time.time() - started

    async def gone(seconds: float) -> bool:
        end = time.perf_counter() + seconds
        while stage.contender.count() > len(left) and time.perf_counter() < end:
            await pause(stage.reactor, 0.05)
        return stage.contender.count() <= len(left)

    async def run() -> Figures:
        tried = batches[: len(batches) // 10 + 1]
        deadline = time.time() + 1.5 * await put(tried, None) * len(batches) / len(tried) + 2
        on_disk = len(batches) * 3 // 4
        await put(batches[:on_disk], deadline)
        await drive(
            stage.reactor,
            lambda batch: stage.contender.put_all(
                [(stage.data.key(index), stage.data.value(index, 11)) for index in batch], max(_ms_until(deadline), 1)
            ),
            batches[on_disk:],
            4,
        )
        await pause(stage.reactor, max(deadline - time.time(), 0))
        heart = Heartbeat(stage.reactor)
        started = time.perf_counter()
        while not await gone(1.5):
            await stage.contender.checkpoint()
            if time.perf_counter() - started > EXPIRY_PATIENCE:
                raise RuntimeError(f"{stage.contender.count()} records are counted when {len(left)} are left")
        figures = {"seconds": time.perf_counter() - started, **heart.stop()}
        await _check(stage, left, lambda index, generation: True)
        return figures

    return run


def _ms_until(deadline: float) -> int:
    return int((deadline - time.time()) * 1000)


def clear(stage: Stage) -> Measured:
    """Everything goes, some of it still in memory; the heart beats on for a second and through a checkpoint."""

    async def run() -> Figures:
        await drive(stage.reactor, _writer(stage, 12), islice(stage.data.uniform(12), stage.plan.before_checkpoint))
        heart = Heartbeat(stage.reactor)
        started = time.perf_counter()
        await stage.contender.clear()
        seconds = time.perf_counter() - started
        await pause(stage.reactor, 1)
        await stage.contender.checkpoint()
        figures = {"seconds": seconds, **heart.stop()}
        await _check(stage, range(0), lambda index, generation: False)
        return figures

    return run


def _same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise RuntimeError(f"{what}: {found!r} where {expected!r} should be")


PHASES: Final = (
    Phase("load-sequential", "load, sequential keys", load_sequential, fresh=True, kept=False, weighed=True),
    Phase("load-random", "load, random keys", load_random, fresh=True, weighed=True),
    Phase("restart", "clean restart", restart, cold=True),
    Phase("get-one", "get, one key", get_one),
    Phase("get-hot", "get, 100 hot keys", get_hot),
    Phase("get-uniform", "get, uniform, from cold", get_uniform, cold=True),
    Phase("scan", "full scan", scan_all),
    Phase("prefix", "scan of a prefix (100 records)", scan_prefix),
    Phase("put-single", "put, one writer", put_single),
    Phase("update-sequential", "update, sequential", update_sequential, weighed=True),
    Phase("update-uniform", "update, uniform", update_uniform, weighed=True),
    Phase("update-skewed", "update, skewed (zipf)", update_skewed, weighed=True),
    Phase("checkpoint", "checkpoint", checkpoint, needs="checkpoint"),
    Phase("kill", "updates before SIGKILL", kill, killed=True),
    Phase("recover", "restart after SIGKILL", recover),
    Phase("expiry", "expiry of half", expiry_wave, needs="expire"),
    Phase("clear", "clear of all", clear),
)
"""In the order in which they run. `load-random` makes what all behind it work on."""
