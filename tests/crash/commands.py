"""
What commands do with files, and what has to be there after a power loss at any moment of it.

Each command runs once, on the real disk, and every change is written down. After each change, and at the end, come
power losses and a kill. What they leave is judged by the commands themselves: a copy, an export, a store is whole or not
there, all is there once the command has said so, and the command can be run again.
"""

from __future__ import annotations

import errno
import io
import os
import random
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from attrs import frozen

from kvtwist.cli.export_format import PROGRESS
from kvtwist.cli.files import PARTIAL
from kvtwist.engine.backup import END
from kvtwist.engine.inspection.directory import DAMAGED
from kvtwist.engine.offline import opened
from kvtwist.model import DATA, Put, StoreError
from tests.support.engine import FaultyDisk, new_directory
from tests.support.picks import randomly
from tests.support.recording import RecordingDisk, Volume, digest_of, write_down
from tests.support.tools import Chronicle, Contents, contents_of, eventful, kvtwist

Site = tuple[str, str, str]
_OURSELVES = ("kvtwist.engine.disk", "kvtwist.cli.files")
_WATCHED = ("kvtwist.cli.", "kvtwist.engine.repair")
_VALUE = b"w" * 400
HEADER = b'{"kvtwist_export":1,"revision":1}\n'
LINES = [
    b'{"keyspace":"data","key":"%03d","value":"%b","media_type":"text/plain","modified_ms":7}\n' % (n, _VALUE)
    for n in range(35)
]


_BEFORE = 31
"""The last revision of the store."""
_known: dict[bytes, Contents] = {}
"""What stores hold, by the digest of their files."""


class Lost(AssertionError):
    """What is there after a power loss may not be."""


@frozen
class Command:
    """
    :ivar name: of the test.
    :ivar prepare: makes what there is before, in a directory.
    :ivar arguments: of the command, in that directory; the second one is whether it is to go on after a power loss.
    :ivar judge: raises `Lost`, or `StoreError`, when something may not be there. Its second argument is whether the
        command had ended. Returns whether all is there.
    """

    name: str
    prepare: Callable[[Path], object]
    arguments: Callable[[Path, bool], list[str | Path]]
    judge: Callable[[Path, bool], bool]


def site_of(call: str, path: str) -> Site:
    """
    Where in the watched modules a sync is asked for: the method of the disk, the innermost function, and of a directory
    the path. Elsewhere, which is in the engine and has tests of its own, the function is empty.
    """
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("kvtwist.") and module not in _OURSELVES:
            asker = f"{module.rpartition('.')[2]}.{frame.f_code.co_name}" if module.startswith(_WATCHED) else ""
            directory = re.sub(rf"{DAMAGED}\w+", DAMAGED, path) if call == "sync_directory" else ""
            return call, asker, directory
        frame = frame.f_back  # type: ignore[assignment]
    raise AssertionError("nobody asks")


class Campaign:
    """
    Runs a command again and again, from the same beginning.

    :ivar sites: what has asked for a sync: see `site_of`.
    """

    def __init__(self, command: Command) -> None:
        self.command = command
        self.sites: set[Site] = set()
        self._beginning = new_directory()
        self._fine: set[tuple[bool, bytes]] = set()
        command.prepare(self._beginning)

    def remove(self) -> None:
        """Remove its files."""
        shutil.rmtree(self._beginning)

    def check(self, seed: int, forgotten: Callable[[Site], bool] = lambda site: False) -> None:
        """
        Run the command once, and judge what power losses leave, and a kill.

        :param forgotten: which syncs are left out.
        :raises Lost: something may not be there.
        """
        place = new_directory()
        try:
            shutil.copytree(self._beginning, place, dirs_exist_ok=True)

            def noted(call: str, path: str) -> bool:
                site = site_of(call, os.path.relpath(path, place))
                self.sites.add(site)
                return forgotten(site)

            disk = RecordingDisk(place, noted)
            result = kvtwist(*self.command.arguments(place, False), disk=disk)
            if result.exit_code:
                raise AssertionError(result.output)
        finally:
            shutil.rmtree(place)
        # The last moments come first: there it is that most faults are seen.
        for number, volume in reversed([*_moments(disk)]):
            done = number == len(disk.log)
            for attempt in range(5):
                choices = random.Random(f"{seed}-{number}-{attempt}")
                pick = (_keep, _lose, *[randomly(choices)] * 3)[attempt]
                left = volume.crash(pick, ordered=attempt == 0 or choices.random() < 0.5)
                state = done, digest_of(left)
                if state not in self._fine:
                    self._judge(left, done, f"after change {number} of {len(disk.log)}, attempt {attempt}")
                    self._fine.add(state)

    def _judge(self, left: dict[str, bytes | None], done: bool, when: str) -> None:
        command = self.command
        place = new_directory()
        root = place / "left"
        write_down(left, root)
        try:
            whole = command.judge(root, done)
            if done and not whole:
                raise Lost("the command had ended, and not all is there")
            if not whole:
                result = kvtwist(*command.arguments(root, True))
                if result.exit_code:
                    raise Lost(f"it cannot be run again: {result.output}")
                if not command.judge(root, True):
                    raise Lost("it was run again, and not all is there")
        except (Lost, StoreError) as error:
            raise Lost(f"{command.name}, {when}: {error}; there were {sorted(left)}") from error
        finally:
            shutil.rmtree(place)


def _keep(count: int) -> int:
    return count - 1


def _lose(count: int) -> int:
    return 0


def _moments(disk: RecordingDisk) -> Iterator[tuple[int, Volume]]:
    volume = disk.begin.copy()
    yield 0, volume.copy()
    for number, change in enumerate(disk.log, 1):
        volume.apply(change)
        yield number, volume.copy()


# --- the commands -----------------------------------------------------------------------------------------------------


def a_store(place: Path) -> Path:
    """A store in a directory, closed in good order, without a time of its own."""
    return eventful(place / "store").end()


def a_store_without_a_manifest(place: Path) -> None:
    """A store whose first checkpoint has failed: all is in two segments of the journal."""
    told = Chronicle.begin(place / "store")
    told.do(Put(DATA, b"first", b"1", "text/plain"))
    assert isinstance(told.engine.disk, FaultyDisk)
    told.engine.disk.fail("rename", errno.EIO, path="manifest")
    told.engine.checkpoint()
    told.do(Put(DATA, b"second", b"2", "text/plain"))
    store = told.end()
    assert len([*store.glob("journal-0*")]) == 2 and not [*store.glob("manifest-*")]
    (place / "copy").mkdir()


def archived(store: Path) -> bytes:
    """The archive that a server would send of a store."""
    whole = io.BytesIO()
    files = [
        path
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name[:2] != "lo" and "spare" not in path.name
    ]
    manifests = [path for path in files if path.name.startswith("manifest")]
    end = msgspec.json.encode({"revision": 1, "files": len(files) - len(manifests[:-1])})
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in files:
            if path not in manifests[:-1]:
                tar.add(path, str(path.relative_to(store)))
        member = tarfile.TarInfo(END)
        member.size = len(end)
        tar.addfile(member, io.BytesIO(end))
    return whole.getvalue()


def _held_by(path: Path) -> Contents:
    """What a store holds. The same files are opened once: many of the states differ elsewhere."""
    files = {str(at.relative_to(path)): at.read_bytes() if at.is_file() else None for at in path.rglob("*")}
    digest = digest_of(files)
    if digest not in _known:
        _known[digest] = contents_of(path)
    return _known[digest]


def _copy_is_whole(place: Path, done: bool) -> bool:
    """Of a copy that has a name of its own once it is whole."""
    if not (place / "copy").exists():
        return False
    _assert_copied(place)
    if done and (place / "copy" / PARTIAL).exists():
        raise Lost("the mark of what is unfinished is still there")
    return True


def _filled_is_whole(place: Path, done: bool) -> bool:
    """Of a copy in a directory that was there: until it is whole no start takes it for a store."""
    if {path.name for path in (place / "copy").iterdir()} <= {PARTIAL, "lock"}:
        return False
    if kvtwist("check", place / "copy").exit_code and not _opens(place / "copy"):
        shutil.rmtree(place / "copy")  # it is told to
        (place / "copy").mkdir()
        return False
    _assert_copied(place)
    return True


def _opens(path: Path) -> bool:
    try:
        with opened(str(path), create=True):
            return True
    except StoreError:
        return False


def _assert_copied(place: Path) -> None:
    if kvtwist("check", place / "copy").exit_code:
        raise Lost("the copy is not whole")
    if _held_by(place / "copy") != _held_by(place / "store"):
        raise Lost("the copy holds something else")


def _is_exported(place: Path, done: bool) -> bool:
    if not (place / "file").exists():
        return False
    found = (place / "file").read_bytes()
    if found == (place / "expected").read_bytes():
        return True
    if (place / "old").exists() and found == (place / "old").read_bytes() and not done:
        return False
    raise Lost("the file is not whole")


def _export_ready(place: Path) -> None:
    store = a_store(place)
    (place / "expected").write_bytes(kvtwist("export", store).stdout_bytes)


def _old_export_ready(place: Path) -> None:
    _export_ready(place)
    for name in ("old", "file"):
        (place / name).write_bytes(HEADER + b'{"end":0}\n')


def _import_ready(place: Path) -> None:
    a_store(place)
    (place / "lines").write_bytes(HEADER + b"".join(LINES) + b'{"end":%d}\n' % len(LINES))


def _is_imported(place: Path, done: bool) -> bool:
    with opened(str(place / "store")) as store:
        found = [key for key, record in store.scan(DATA) if record.value == _VALUE]
        going_on = any(True for _ in store.scan(PROGRESS))
        revision = store.revision
    if found != [b"%03d" % number for number in range(len(found))]:
        raise Lost("lines are missing")
    if len(found) < len(LINES) or going_on:
        return False
    if revision != _BEFORE + 1 + 4:
        raise Lost("there are other transactions than one for each batch, and one before them")
    return True


def _import_arguments(place: Path, again: bool) -> list[str | Path]:
    if again:
        with opened(str(place / "store")) as store:
            again = any(True for _ in store.scan(PROGRESS))
    return ["import", *(["--resume"] if again else []), place / "store", place / "lines"]


def _compact_ready(place: Path) -> None:
    shutil.copytree(a_store(place), place / "before")


def _is_compacted(place: Path, done: bool) -> bool:
    if _held_by(place / "store") != _held_by(place / "before"):
        raise Lost("the store holds something else")
    return done


def _repair_ready(place: Path) -> None:
    store = a_store(place)
    page = sorted((store / "pages").iterdir())[-1]
    content = bytearray(page.read_bytes())
    content[-1] ^= 1
    page.write_bytes(content)
    shutil.copytree(store, place / "before")
    shutil.copytree(store, place / "repaired")
    assert kvtwist("repair", "--yes", place / "repaired").exit_code == 0


def _is_repaired(place: Path, done: bool) -> bool:
    there = {path.read_bytes().rstrip(b"\0") for path in (place / "store").rglob("*") if path.is_file()}
    for path in (place / "before").rglob("*"):
        if path.is_file() and path.name != "lock" and path.read_bytes().rstrip(b"\0") not in there:
            raise Lost(f"{path.name} is gone")
    if kvtwist("check", place / "store").exit_code:
        return False
    found, expected = _held_by(place / "store"), _held_by(place / "repaired")
    if found != expected:
        raise Lost("the store holds something else")
    return True


COMMANDS = [
    Command(
        "a backup of a directory",
        a_store,
        lambda place, again: ["backup", place / "store", place / "copy"],
        _copy_is_whole,
    ),
    Command(
        "an archive that is restored",
        lambda place: (place / "archive").write_bytes(archived(a_store(place))),
        lambda place, again: ["restore", place / "archive", place / "copy"],
        _copy_is_whole,
    ),
    Command(
        "a directory that is filled",
        lambda place: (a_store(place), (place / "copy").mkdir()),
        lambda place, again: ["restore", place / "store", place / "copy"],
        _filled_is_whole,
    ),
    Command(
        "a directory that is filled with a journal",
        a_store_without_a_manifest,
        lambda place, again: ["restore", place / "store", place / "copy"],
        _filled_is_whole,
    ),
    Command(
        "an export",
        _export_ready,
        lambda place, again: ["export", *(["--resume"] if again else []), place / "store", place / "file"],
        _is_exported,
    ),
    Command(
        "an export in the place of another",
        _old_export_ready,
        lambda place, again: ["export", "--force", place / "store", place / "file"],
        _is_exported,
    ),
    Command("an import", _import_ready, _import_arguments, _is_imported),
    Command("compact", _compact_ready, lambda place, again: ["compact", place / "store"], _is_compacted),
    Command("repair", _repair_ready, lambda place, again: ["repair", "--yes", place / "store"], _is_repaired),
]
