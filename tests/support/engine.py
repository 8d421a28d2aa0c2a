"""
An engine in a test's hands: a clock that stands still, threads that are none, and disks that fail, fill up and forget.

Nothing here waits for anything: a worker runs its jobs at once, or one by one when the test says so.
"""

from __future__ import annotations

import errno
import gc
import os
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from attrs import Factory, define, field, frozen
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kvtwist.engine import Limits, Store, journal, run_writer
from kvtwist.engine.disk import Disk
from kvtwist.engine.recovery import Recovery
from kvtwist.engine.storage import Storage
from kvtwist.engine.timeline import Timeline
from kvtwist.engine.worker import InlineWorker, Worker
from kvtwist.model import (
    DATA,
    HISTORY,
    STAGED,
    Append,
    Clear,
    Condition,
    Delete,
    Exists,
    Get,
    Operation,
    Outcome,
    Put,
    Range,
    Read,
    Record,
    Result,
    Slice,
    UnchangedSince,
)

P = ParamSpec("P")
T = TypeVar("T")

Item = tuple[bytes, bytes]
KEYSPACES = (DATA, STAGED, HISTORY)


class TestCase(SynchronousTestCase):
    """A test that leaves no file, and no Deferred with an unhandled error."""

    @classmethod
    def setUpClass(cls) -> None:
        gc.collect()
        gc.freeze()  # so that the collection after each test has little to look at

    @classmethod
    def tearDownClass(cls) -> None:
        gc.unfreeze()

    def setUp(self) -> None:
        self.addCleanup(gc.collect)  # trial fails a test that logs an error, as a Deferred does when it is collected
        self._directory: Path | None = None

    @property
    def path(self) -> Path:
        """A directory of this test's own."""
        if self._directory is None:
            self._directory = new_directory()
            self.addCleanup(shutil.rmtree, self._directory, ignore_errors=True)
        return self._directory


def new_directory() -> Path:
    """A new directory, in memory where the system has such a place: no test here can tell, but for the time it takes."""
    memory = "/dev/shm"
    return Path(tempfile.mkdtemp(prefix="kvtwist-test-", dir=memory if os.access(memory, os.W_OK) else None))


def result_of(deferred: Deferred[T]) -> T:
    """What a Deferred has fired with; raises what it has failed with. It must have fired."""
    results: list[T | Failure] = []
    deferred.addBoth(results.append)
    assert results, "the Deferred has not fired"
    [result] = results
    if isinstance(result, Failure):
        result.raiseException()
    assert not isinstance(result, Failure)
    return result


def failure_of(deferred: Deferred[T]) -> BaseException | None:
    """What a Deferred has failed with, if it has failed; from here on it counts as handled."""
    failures: list[Failure] = []
    deferred.addErrback(failures.append)
    return failures[0].value if failures else None


# --- workers ----------------------------------------------------------------------------------------------------------


class SteppedWorker:
    """A `Worker` whose jobs wait until the test lets them run, oldest first."""

    stopped = False

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], object]] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def run(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """See `Worker`."""
        done: Deferred[T] = Deferred()
        if not self.stopped:
            self._jobs.append(lambda: execute(job, *args, **kwargs).addBoth(done.callback))
        return done

    def start(self) -> None:
        """See `Worker`."""

    def stop(self) -> None:
        """See `Worker`."""
        self.stopped = True
        self.finish()

    def step(self) -> None:
        """Run the job that has waited longest; its Deferred has fired then."""
        self._jobs.popleft()()

    def finish(self) -> None:
        """Run all jobs, and those that come of them."""
        while self._jobs:
            self.step()


def finish(*workers: SteppedWorker) -> None:
    """Run the jobs of several workers, alternately, until none has any."""
    while any(workers):
        for worker in workers:
            if worker:
                worker.step()


# --- disks ------------------------------------------------------------------------------------------------------------


class WatchedDisk(Disk):
    """
    The real disk, with a word before and after every call that changes something.

    What is composed of other calls (`save`) is told by its parts. A sync is told and left out: no process can see one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.paths: dict[int, str] = {}
        """Path of each descriptor that is open."""

    def before(self, call: str, path: str) -> None:
        """Called before each change, with the name of the method and the file it is about."""

    def after(self, call: str, path: str) -> None:
        """Called after each change that did not fail."""

    @contextmanager
    def _told(self, call: str, path: str) -> Iterator[None]:
        self.before(call, path)
        yield
        self.after(call, path)

    def create(self, path: str) -> int:
        with self._told("create", path):
            descriptor = super().create(path)
            self.paths[descriptor] = path
        return descriptor

    def reopen(self, path: str) -> int:
        with self._told("reopen", path):
            descriptor = super().reopen(path)
            self.paths[descriptor] = path
        return descriptor

    def extend(self, descriptor: int, size: int) -> None:
        with self._told("extend", self.paths[descriptor]):
            super().extend(descriptor, size)

    def write(self, descriptor: int, data: bytes) -> None:
        with self._told("write", self.paths[descriptor]):
            super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        with self._told("sync", self.paths[descriptor]):
            pass

    def cut(self, descriptor: int, size: int) -> None:
        with self._told("cut", self.paths[descriptor]):
            super().cut(descriptor, size)

    def close(self, descriptor: int) -> None:
        with self._told("close", self.paths[descriptor]):
            super().close(descriptor)
            del self.paths[descriptor]

    def cut_file(self, path: str, size: int, tail: bytes = b"") -> None:
        with self._told("cut_file", path):
            os.truncate(path, size)

    def space(self, directory: str) -> tuple[int, int]:
        """Plenty: the disk of the machine that runs the tests is of no matter."""
        return 2**50, 2**50

    def rename(self, old: str, new: str) -> None:
        with self._told("rename", new):
            super().rename(old, new)
            for descriptor, path in self.paths.items():
                if path == old:
                    self.paths[descriptor] = new

    def link(self, old: str, new: str) -> None:
        with self._told("link", new):
            super().link(old, new)

    def remove(self, path: str) -> None:
        with self._told("remove", path):
            super().remove(path)

    def sync_directory(self, path: str) -> None:
        with self._told("sync_directory", path):
            pass

    def abandon(self) -> None:
        """Close what a process that has died would have had open."""
        for descriptor in self.paths:
            os.close(descriptor)
        self.paths.clear()


@define
class _Fault:
    call: str
    error: OSError
    path: str
    skip: int
    times: int


class FaultyDisk(WatchedDisk):
    """
    A disk whose calls fail when a test says so.

    :ivar largest: a larger write to the journal finds no disk space.
    :ivar journal_writes: how often something was written there, or tried to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.largest = sys.maxsize
        self.journal_writes = 0
        self._faults: list[_Fault] = []

    def fail(self, call: str, number: int, path: str = "", skip: int = 0, times: int = 1) -> None:
        """
        Let calls fail with an error number.

        :param path: only where this is a part of the path.
        :param skip: so many calls succeed before.
        :param times: so many calls fail.
        """
        self._faults.append(_Fault(call, OSError(number, os.strerror(number)), path, skip, times))

    def heal(self) -> None:
        """No call fails any more."""
        self._faults.clear()

    def before(self, call: str, path: str) -> None:
        for fault in self._faults:
            if fault.call == call and fault.path in path and fault.times > 0:
                if fault.skip:
                    fault.skip -= 1
                else:
                    fault.times -= 1
                    raise fault.error

    def write(self, descriptor: int, data: bytes) -> None:
        """A write that fails has written half of the data, as the real one may have."""
        try:
            if "journal-" in self.paths[descriptor]:
                self.journal_writes += 1
                if len(data) > self.largest:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().write(descriptor, data)
        except OSError:
            Disk.write(self, descriptor, data[: len(data) // 2])
            raise

    def read(self, path: str) -> bytes:
        self.before("read", path)
        return super().read(path)

    def names(self, directory: str) -> list[str]:
        self.before("names", directory)
        return super().names(directory)


class SmallDisk(WatchedDisk):
    """A disk that is full once all files in a directory take `capacity` bytes."""

    def __init__(self, root: Path, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self._root = root

    def used(self) -> int:
        """Bytes of all files."""
        return _size_of(self._root)

    def space(self, directory: str) -> tuple[int, int]:
        return max(self.capacity - self.used(), 0), self.capacity

    def write(self, descriptor: int, data: bytes) -> None:
        inside = os.fstat(descriptor).st_size - os.lseek(descriptor, 0, os.SEEK_CUR)
        room = max(self.capacity - self.used(), 0) + inside
        super().write(descriptor, data[:room])
        if len(data) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def extend(self, descriptor: int, size: int) -> None:
        room = max(self.capacity - self.used(), 0)
        super().extend(descriptor, min(size, room))
        if size > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _size_of(directory: os.PathLike[str] | str) -> int:
    try:
        with os.scandir(directory) as entries:
            return sum(_size_of(entry.path) if entry.is_dir() else entry.stat().st_size for entry in entries)
    except FileNotFoundError:
        return 0


class ForgetfulDisk(FaultyDisk):
    """
    A disk that can tell what would be left of it after a power cut: what was synced, under the names that were.

    It is the least that a kernel promises: everything else is lost at once. It remembers over the deaths of processes.
    Call `put_away` at the end.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self._held: dict[int, int] = {}
        """A descriptor of each inode of which something is known, so that its number is not used again."""
        self._contents: dict[int, bytes] = {}
        self._names: dict[Path, dict[str, int | None]] = {}

    def after(self, call: str, path: str) -> None:
        self._remember(call, path)

    def _remember(self, call: str, path: str) -> None:
        if call in ("sync", "cut_file"):
            self._contents[self._inode(path)] = Path(path).read_bytes()
        elif call == "sync_directory" and Path(path).is_relative_to(self._root):
            self._names[Path(path)] = {
                entry.name: None if entry.is_dir() else self._inode(str(entry)) for entry in Path(path).iterdir()
            }

    def trust(self) -> None:
        """Count all that is there as synced: the machine has been off since."""
        for directory, _, names in os.walk(self._root):
            for name in names:
                self._remember("sync", os.path.join(directory, name))
            self._remember("sync_directory", directory)

    def cut_power(self, target: Path) -> None:
        """Make a directory that holds what is left."""
        target.mkdir()
        self._restore(self._root, target)

    def _restore(self, source: Path, target: Path) -> None:
        for name, inode in self._names.get(source, {}).items():
            if inode is None:
                (target / name).mkdir()
                self._restore(source / name, target / name)
            else:
                (target / name).write_bytes(self._contents.get(inode, b""))

    def _inode(self, path: str) -> int:
        descriptor = os.open(path, os.O_RDONLY)
        inode = os.fstat(descriptor).st_ino
        if inode in self._held:
            os.close(descriptor)
        else:
            self._held[inode] = descriptor
        return inode

    def put_away(self) -> None:
        """Give back all that it holds."""
        self.abandon()
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()


class WitnessDisk(ForgetfulDisk):
    """
    Keeps, of every moment at which a process could die, a copy of the directory, and one of what a power cut left.

    Moments are before and after each change, and in the middle of each write.

    :param album: where the copies go.
    :param note: what a test wants to know of each moment.
    """

    def __init__(self, root: Path, album: Path, note: Callable[[], object]) -> None:
        super().__init__(root)
        self.moments: list[Moment] = []
        self._album = album
        self._note = note
        self._in_write = False

    def before(self, call: str, path: str) -> None:
        self._keep(f"before {call} {os.path.basename(path)}")
        super().before(call, path)

    def after(self, call: str, path: str) -> None:
        super().after(call, path)
        self._keep(f"after {call} {os.path.basename(path)}")

    def write(self, descriptor: int, data: bytes) -> None:
        half = len(data) // 2
        Disk.write(self, descriptor, data[:half])
        self._keep(f"in write {os.path.basename(self.paths[descriptor])}")
        Disk.write(self, descriptor, data[half:])
        self._keep(f"after write {os.path.basename(self.paths[descriptor])}")

    def _keep(self, what: str) -> None:
        place = self._album / str(len(self.moments))
        place.mkdir()
        shutil.copytree(self._root, place / "killed")
        self.cut_power(place / "powerless")
        self.moments.append(Moment(what, self._note(), place / "killed", place / "powerless"))


@frozen
class Moment:
    """
    :ivar what: what the process was at.
    :ivar note: what the test knew then.
    :ivar killed: the directory as the kernel has it when the process dies.
    :ivar powerless: what the disk has when the machine dies.
    """

    what: str
    note: object
    killed: Path
    powerless: Path


# --- stores -----------------------------------------------------------------------------------------------------------


@define
class Engine:
    """
    A store in a directory, with everything it depends on. It begins empty-handed: call `open`.

    :ivar wall: what to add to the clock for the wall clock's time.
    :ivar reserve: see `Storage`.
    """

    path: Path
    clock: Clock = Factory(Clock)
    disk: WatchedDisk = Factory(FaultyDisk)
    journal: Worker = Factory(InlineWorker)
    pages: Worker = Factory(InlineWorker)
    limits: Limits = Factory(Limits)
    sync: bool = True
    wall: float = 1_000_000.0
    reserve: int = 0
    store: Store = field(init=False)
    storage: Storage = field(init=False)
    recovery: Recovery = field(init=False)

    def open(self) -> Recovery:
        """Open and start the store; :raises StoreError: as the store does."""
        timeline = Timeline(lambda: self.clock.seconds() + self.wall, self.clock.seconds)
        self.storage = Storage(str(self.path), self.disk, self.journal, self.pages, self.sync, reserve=self.reserve)
        self.store = Store(self.clock, timeline, self.storage, self.limits)
        self.recovery = self.store.open()
        self.store.start()
        return self.recovery

    def die(self) -> None:
        """
        End as a process does that is killed.

        What is left of its store still hangs together by Deferreds, and Python closes coroutines when it finds them
        unused: whatever happens there then must not reach the disk any more.
        """
        dead = InlineWorker()
        dead.stop()
        self.storage.page_worker = self.storage.read_worker = dead
        if hasattr(self.storage, "commit"):
            self.storage.commit._worker = dead
        self.storage.release()
        self.disk.abandon()
        for call in self.clock.getDelayedCalls():
            call.cancel()

    def reopen(self) -> Recovery:
        """Die and open again, with workers that run at once."""
        self.die()
        self.journal, self.pages = InlineWorker(), InlineWorker()
        return self.open()

    def close(self) -> Deferred[None]:
        """Stop in good order."""
        return Deferred.fromCoroutine(self.store.close())

    # What tests do all the time; each needs workers that run at once.

    def put(self, key: bytes, value: bytes, ttl_ms: int | None = None, keyspace: str = DATA) -> None:
        """Write a record."""
        self.do(put(key, value, ttl_ms, keyspace))

    def delete(self, key: bytes) -> None:
        """Remove a record."""
        self.do(Delete(DATA, key))

    def do(
        self, *operations: Operation, conditions: Sequence[Condition] = (), otherwise: Sequence[Operation] = ()
    ) -> Outcome:
        """Run a transaction."""
        done = self.store.transact(conditions, operations, otherwise)
        self.pump()
        return result_of(done)

    def iterate(self) -> None:
        """One iteration of the reactor."""
        iterate(self.clock)

    def pump(self) -> None:
        """Let the reactor go on until nothing is due any more."""
        self.clock.advance(0)

    def get(self, key: bytes, keyspace: str = DATA) -> bytes | None:
        """The value under a key."""
        record = result_of(self.store.get(keyspace, key))
        return None if record is None else record.value

    def items(self, keyspace: str = DATA, limit: int = 1000) -> list[Item]:
        """Every key and value, slice by slice."""
        return [(key, record.value) for key, record in self.records(keyspace, limit=limit)]

    def records(self, keyspace: str = DATA, reverse: bool = False, limit: int = 1000) -> list[tuple[bytes, Record]]:
        """Every key and record, slice by slice."""
        return whole_scan(self.store, keyspace, reverse=reverse, limit=limit)

    def now_ms(self) -> int:
        """The store's time."""
        return self.store._timeline.now_ms()

    def contents(self) -> dict[str, dict[bytes, Record]]:
        """Every record of every keyspace."""
        return {name: dict(self.records(name)) for name in KEYSPACES}

    def checkpoint(self) -> None:
        """Run a checkpoint, to its end or its failure."""
        result_of(self.store.housekeeping.checkpoint())

    def files(self, part: str = "") -> list[str]:
        """Names of all files below the directory that have a part in them, sorted."""
        names = [str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file()]
        return sorted(name for name in names if part in name)


def iterate(clock: Clock) -> None:
    """Call what is due, and not yet what is called later meanwhile."""
    for call in [call for call in clock.getDelayedCalls() if call.getTime() <= clock.seconds()]:
        if call.active():
            clock.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


def put(key: bytes, value: bytes, ttl_ms: int | None = None, keyspace: str = DATA) -> Put:
    """A `Put` of octets."""
    return Put(keyspace, key, value, "application/octet-stream", ttl_ms)


def whole_scan(
    store: Store,
    keyspace: str = DATA,
    start: bytes = b"",
    stop: bytes | None = None,
    limit: int = 1000,
    reverse: bool = False,
) -> list[tuple[bytes, Record]]:
    """All slices of a scan, joined."""
    found: list[tuple[bytes, Record]] = []
    while True:
        piece = result_of(store.scan(keyspace, start, stop, limit, reverse))
        found.extend(piece.items)
        if piece.resume is None:
            return found
        if reverse:
            stop = piece.resume
        else:
            start = piece.resume


class Model:
    """What a store should hold, in plain dictionaries."""

    def __init__(self) -> None:
        self.revision = 0
        self.started_at = 0
        """Up to where a store has forgotten when each keyspace changed: the revision of the manifest it started with."""
        self._keyspaces: dict[str, dict[bytes, Record]] = {}
        self._changed: dict[str, int] = {}

    def copy(self) -> Model:
        """One that goes its own way from here."""
        other = Model()
        other.revision = self.revision
        other._keyspaces = {name: dict(records) for name, records in self._keyspaces.items()}
        other._changed = dict(self._changed)
        return other

    def contents(self, now_ms: int) -> dict[str, dict[bytes, Record]]:
        """Every record of every keyspace, but for what has expired."""
        return {name: self.records(name, now_ms) for name in KEYSPACES}

    def records(self, keyspace: str, now_ms: int) -> dict[bytes, Record]:
        """What has not expired, in key order."""
        records = sorted(self._keyspaces.get(keyspace, {}).items())
        return {k: r for k, r in records if r.expires_ms is None or r.expires_ms > now_ms}

    def transact(
        self,
        conditions: Sequence[Condition],
        operations: Sequence[Operation],
        now_ms: int,
        otherwise: Sequence[Operation] = (),
    ) -> Outcome:
        """What `IStore.transact` says; slices have their items alone."""
        committed = all(self._holds(condition, now_ms) for condition in conditions)
        if not committed:
            operations = otherwise
        results: list[Result] = []
        if not all(isinstance(operation, Read) for operation in operations):
            self.revision += 1
        ranges = {o: self._range(o, now_ms) for o in operations if isinstance(o, Range)}
        for operation in operations:
            if isinstance(operation, Get):
                results.append(self.records(operation.keyspace, now_ms).get(operation.key))
            elif isinstance(operation, Range):
                results.append(ranges[operation])
            else:
                self._changed[operation.keyspace] = self.revision
                self._change(self._keyspaces.setdefault(operation.keyspace, {}), operation, now_ms)
                results.append(None)
        return Outcome(committed, results, self.revision)

    def _range(self, asked: Range, now_ms: int) -> Slice:
        found = [
            (key, record)
            for key, record in self.records(asked.keyspace, now_ms).items()
            if asked.start <= key and (asked.stop is None or key < asked.stop)
        ]
        return Slice(found[:: -1 if asked.reverse else 1][: asked.limit])

    def _holds(self, condition: Condition, now_ms: int) -> bool:
        if isinstance(condition, UnchangedSince):
            return max(self._changed.get(condition.keyspace, 0), self.started_at) <= condition.revision
        record = self.records(condition.keyspace, now_ms).get(condition.key)
        if isinstance(condition, Exists):
            return record is not None
        return condition.revision == (record.revision if record else 0)

    def _change(self, records: dict[bytes, Record], operation: Put | Append | Delete | Clear, now_ms: int) -> None:
        if isinstance(operation, Clear):
            records.clear()
        elif isinstance(operation, Delete):
            records.pop(operation.key, None)
        else:
            if isinstance(operation, Append):
                key = operation.prefix + now_ms.to_bytes(8, "big") + self.revision.to_bytes(8, "big")
            else:
                key = operation.key
            expires_ms = None if operation.ttl_ms is None else now_ms + operation.ttl_ms
            records[key] = Record(operation.value, operation.media_type, self.revision, now_ms, expires_ms)


class EngineCase(TestCase):
    """A test with a store in a directory, open and empty, whose pages are tiny, and of which few stay in memory."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(run_writer, "PAGE_SIZE", 100)
        self.patch(journal, "EXTENT", 300)
        self.engine = self.make_engine()
        self.engine.open()
        self.addCleanup(lambda: self.engine.die())

    def make_engine(self) -> Engine:
        """The engine that the test begins with."""
        return Engine(self.path / "store", limits=Limits(pages=1))
