"""The `kvtwist` command in a test's hands, and stores whose whole history is known."""

from __future__ import annotations

import base64
import errno
import json
import shutil
import time
from pathlib import Path
from typing import Any

from attrs import Factory, define
from click.testing import CliRunner, Result

from kvtwist.cli.files import Files
from kvtwist.cli.main import cli
from kvtwist.model import DATA, HISTORY, STAGED, Append, Clear, Delete, Operation, Put, Record
from tests.support.engine import Engine, FaultyDisk, InlineWorker, Model

Contents = dict[str, dict[bytes, tuple[bytes, str, int, int | None]]]
"""Value, media type, time of writing and expiry of every key, by keyspace."""


def kvtwist(*arguments: str | Path, text: bytes | None = None, disk: Files | None = None) -> Result:
    """
    Run a command in this process; an error that it does not turn into an exit code is raised.

    :param disk: what it writes by, in place of the real disk.
    """
    return CliRunner().invoke(cli, [*map(str, arguments)], input=text, catch_exceptions=False, obj=disk)


def objects(result: Result) -> list[dict[str, Any]]:
    """What a command has written with `--json`."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def bytes_of(line: dict[str, Any], name: str) -> bytes:
    """Bytes in a line of `--json`."""
    return base64.b64decode(line[f"{name}_base64"]) if f"{name}_base64" in line else line[name].encode()


def plain(contents: dict[str, dict[bytes, Record]]) -> Contents:
    """Records without their revisions, which an import and a repair may change; no empty keyspace."""
    return {
        name: {k: (r.value, r.media_type, r.modified_ms, r.expires_ms) for k, r in records.items()}
        for name, records in contents.items()
        if records
    }


def contents_of(path: Path, sure: bool = True) -> Contents:
    """
    What a store holds, as a server sees it. It is opened on a copy.

    :param sure: whether it is also closed and opened again.
    """
    copy = path.with_name(path.name + "-copy")
    shutil.copytree(path, copy)
    try:
        engine = Engine(copy, wall=time.time())
        engine.open()
        found = plain(engine.contents())
        engine.die()
        return found
    finally:
        shutil.rmtree(copy)


@define
class Chronicle:
    """
    A store in a directory, and what it held after each of its transactions.

    :ivar states: the contents by revision.
    """

    engine: Engine
    model: Model = Factory(Model)
    states: dict[int, Contents] = Factory(lambda: {0: {}})

    @classmethod
    def begin(cls, path: Path) -> Chronicle:
        """A new store, whose time is the present."""
        engine = Engine(path, wall=time.time())
        engine.open()
        return cls(engine)

    def do(self, *operations: Operation) -> None:
        """Run a transaction."""
        now_ms = self.engine.now_ms()
        self.engine.do(*operations)
        self.model.transact([], operations, now_ms)
        self.states[self.model.revision] = plain(self.model.contents(now_ms))

    @property
    def last(self) -> Contents:
        """What it holds."""
        return self.states[self.model.revision]

    def reopen(self) -> None:
        """Close it in good order, and open it again."""
        self.engine.close()
        self.engine.journal, self.engine.pages = InlineWorker(), InlineWorker()
        self.engine.open()

    def end(self, clean: bool = False) -> Path:
        """Close the store, or let its process die; returns where it is."""
        if clean:
            self.engine.close()
        self.engine.die()
        return self.engine.path


def eventful(path: Path) -> Chronicle:
    """A store with several runs in every keyspace, tombstones, expiry, a journal of two segments, and no leftovers."""
    told = Chronicle.begin(path)
    octets = "application/octet-stream"
    for number in range(12):
        told.do(
            Put(DATA, b"k%02d" % number, b"first %d" % number * 3, octets), Put(STAGED, b"s", b"%d" % number, octets)
        )
    told.engine.checkpoint()
    for number in range(0, 12, 3):
        told.do(Put(DATA, b"k%02d" % number, b"second" * 4, "text/plain", 10**9), Delete(DATA, b"k%02d" % (number + 1)))
    told.do(Append(HISTORY, b"h", b"event", "application/json", 10**9))
    told.engine.checkpoint()
    told.do(Put(DATA, b"k05", b"third", "image/png"), Put(DATA, b"\xff\x00", b"\x00\xff", octets))
    told.do(Clear(STAGED), Put(STAGED, b"t", b"after", octets))
    told.engine.checkpoint()
    for number in range(6):
        told.do(Put(DATA, b"k%02d" % (number * 2), b"in the journal", "text/plain"), Delete(DATA, b"k11"))
    assert isinstance(told.engine.disk, FaultyDisk)
    told.engine.disk.fail("rename", errno.EIO, path="manifest")
    told.engine.checkpoint()
    for number in range(4):
        told.do(Put(DATA, b"k%02d" % (number * 3), b"behind %d" % number, octets))
    told.do(Clear(STAGED))
    told.do(Put(STAGED, b"u", b"last", octets))
    return told
