"""
`kvtwist import`: records from lines of JSON into a store, each line once, however often it is interrupted.

How far it is stands in the store itself, in a keyspace of its own, and is written in the same transaction as the
records of each batch. The end of the import removes it, in the same transaction as the last batch.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import click
import msgspec
from attrs import define

from kvtwist.cli.exits import BadInput
from kvtwist.cli.export_format import MAX_HEADER, MAX_LINE, PROGRESS, read_end, read_header, read_record
from kvtwist.cli.files import Files
from kvtwist.cli.interrupts import Interrupts
from kvtwist.cli.output import Output, directory_argument, json_option
from kvtwist.cli.progress import progress
from kvtwist.cli.store_access import open_store
from kvtwist.engine.offline import OfflineStore
from kvtwist.model import JSON, Clear, Operation, Put, StoreError
from kvtwist.words import counted

BATCH_LINES = 1000
BATCH_BYTES = 2**20
_CHUNK = 2**20
_KEY = b"progress"


class Progress(msgspec.Struct):
    """
    How far an import is.

    :ivar lines: how many lines have been done, the header among them.
    :ivar size: how many bytes they take.
    :ivar checksum: CRC-32 of these bytes.
    :ivar imported: how many records have been written.
    :ivar expired: how many had expired.
    """

    lines: int = 0
    size: int = 0
    checksum: int = 0
    imported: int = 0
    expired: int = 0

    def note(self, line: bytes) -> None:
        """Count a line as done."""
        self.lines += 1
        self.size += len(line)
        self.checksum = zlib.crc32(line, self.checksum)


@click.command("import", short_help="Read what export has written.")
@directory_argument
@click.argument("file", metavar="[FILE]", type=click.Path(allow_dash=True), default="-")
@click.option("--create", is_flag=True, help="Make a new store where there is none: DIR is missing, or empty.")
@click.option("--resume", is_flag=True, help="Go on with an import that was interrupted, from the same FILE.")
@click.option("--restart", is_flag=True, help="Forget an import that was interrupted, and begin with the first line.")
@json_option
@click.pass_obj
def import_(disk: Files, directory: str, file: str, create: bool, resume: bool, restart: bool, as_json: bool) -> None:
    """Write the records in FILE, or on standard input, which `kvtwist export` has written, into a store."""
    if resume and restart:
        raise click.UsageError("--resume and --restart exclude each other")
    name = "standard input" if file == "-" else file
    with Interrupts() as interrupts, _input(file, interrupts) as content:
        with interrupts.at_once():
            first = _first_line(content, name)  # before anything is made
        with open_store(disk, directory, create) as store:
            job = _Import(store, content, name, _state(store, directory, resume, restart), interrupts)
            job.run(first)
    state = job.state
    fields: dict[str, object] = {"type": "imported", "records": state.imported, "expired": state.expired}
    expired = f"; {state.expired} had expired" if state.expired else ""
    Output(as_json).put(fields, f"{counted(state.imported, 'record')} imported{expired}")


@contextmanager
def _input(file: str, interrupts: Interrupts) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
    else:
        with interrupts.at_once():
            content = open(file, "rb")  # noqa: SIM115 # closed below; of a pipe it waits for a writer
        with content:
            yield content


def _first_line(content: BinaryIO, name: str) -> bytes:
    line = content.readline(MAX_HEADER)
    try:
        read_header(line)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from None
    return line


def _state(store: OfflineStore, directory: str, resume: bool, restart: bool) -> Progress:
    record = store.get(PROGRESS, _KEY)
    if record is None:
        if resume:
            raise StoreError(f"{directory}: no import has been interrupted here: it has ended, or it never began")
        return Progress()
    if resume:
        return msgspec.json.decode(record.value, type=Progress)
    if not restart:
        raise StoreError(
            f"{directory}: an import was interrupted here: use --resume to go on, or --restart to begin anew"
        )
    return Progress()


@define
class _Import:
    store: OfflineStore
    content: BinaryIO
    name: str
    state: Progress
    interrupts: Interrupts

    def run(self, header: bytes) -> None:
        """Do all that is left. What has been written when it raises an error is whole batches."""
        with progress("importing", self._size(), in_bytes=True) as advance:
            if self.state.lines:
                with self.interrupts.at_once():
                    self._skip(header)
            else:
                self.state.note(header)
                self.store.write([_progress(self.state)])
            advance(self.state.size)
            while (batch := self._arrived()) is not None:
                operations, state, is_last = batch
                self.store.write([*operations, Clear(PROGRESS) if is_last else _progress(state)])
                advance(state.size - self.state.size)
                self.state = state
                if is_last:
                    return
        raise BadInput(f"{self.name}: line {self.state.lines + 1}: the last line, which counts the records, is missing")

    def _size(self) -> int | None:
        try:
            return os.fstat(self.content.fileno()).st_size or None
        except (OSError, ValueError):
            return None

    def _skip(self, header: bytes) -> None:
        """Pass what has been done, and make sure that it is what was done."""
        checksum, left = zlib.crc32(header), self.state.size - len(header)
        while left > 0 and (chunk := self.content.read(min(left, _CHUNK))):
            checksum = zlib.crc32(chunk, checksum)
            left -= len(chunk)
        if left or checksum != self.state.checksum:
            lines = self.state.lines
            raise BadInput(f"{self.name} is not what the import began with: its first {counted(lines, 'line')} differ")

    def _arrived(self) -> tuple[list[Operation], Progress, bool] | None:
        """The next batch, however long it takes to come."""
        with self.interrupts.at_once():
            return self._batch()

    def _batch(self) -> tuple[list[Operation], Progress, bool] | None:
        """What is to be written next, how far the import is then, and whether that is all; None: no line is left."""
        operations: list[Operation] = []
        state = msgspec.structs.replace(self.state)
        now_ms = int(time.time() * 1000)
        while len(operations) < BATCH_LINES and state.size - self.state.size < BATCH_BYTES:
            line = self.content.readline(MAX_LINE)
            if not line:
                break
            try:
                end = read_end(line)
                if end is not None:
                    self._check_end(end.end, state)
                    return operations, state, True
                if not line.endswith(b"\n"):
                    raise ValueError("it is not whole: the file ends within it, or it is too long")
                record = read_record(line)
            except ValueError as error:
                raise BadInput(f"{self.name}: line {state.lines + 1}: {error}") from None
            state.note(line)
            if record.expires_ms is not None and record.expires_ms <= now_ms:
                state.expired += 1
            else:
                operations.append(record)
                state.imported += 1
        return (operations, state, False) if state.lines > self.state.lines else None

    def _check_end(self, records: int, state: Progress) -> None:
        """:raises ValueError: the last line is not right there."""
        if records != state.lines - 1:
            raise ValueError(f"it counts {counted(records, 'record')}, and there are {state.lines - 1} before it")
        if self.content.readline(MAX_LINE):
            raise ValueError("something follows on the last line")


def _progress(state: Progress) -> Put:
    return Put(PROGRESS, _KEY, msgspec.json.encode(state), JSON)
