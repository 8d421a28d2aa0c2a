"""
`kvtwist import`: write records from lines of JSON to a store, each line once, however often the import is interrupted.

The progress is a record in the store itself, in a keyspace of its own: each batch updates it in the transaction that
writes the batch, and the last batch removes it.
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
    The progress of an import.

    :ivar lines: number of lines done, including the header.
    :ivar size: length of these lines in bytes.
    :ivar checksum: CRC-32 of these bytes.
    :ivar imported: number of records written.
    :ivar expired: number of records left out because they had expired.
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


@click.command("import", short_help="Read what export wrote.")
@directory_argument
@click.argument("file", metavar="[FILE]", type=click.Path(allow_dash=True), default="-")
@click.option("--create", is_flag=True, help="Make a new store if DIR is missing or empty.")
@click.option("--resume", is_flag=True, help="Continue an interrupted import of the same FILE.")
@click.option("--restart", is_flag=True, help="Forget an interrupted import and begin with the first line.")
@json_option
@click.pass_obj
def import_(disk: Files, directory: str, file: str, create: bool, resume: bool, restart: bool, as_json: bool) -> None:
    """Import an export, from FILE or from standard input, into a store."""
    if resume and restart:
        raise click.UsageError("--resume and --restart exclude each other")
    name = "standard input" if file == "-" else file
    with Interrupts() as interrupts, _input(file, interrupts) as content:
        with interrupts.at_once():
            first = _first_line(content, name)  # checked before a store is made
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
            content = open(file, "rb")  # noqa: SIM115 # closed below; opening a pipe waits for its writer
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
            raise StoreError(f"{directory}: no interrupted import to resume: it has ended, or never began")
        return Progress()
    if resume:
        return msgspec.json.decode(record.value, type=Progress)
    if not restart:
        raise StoreError(
            f"{directory}: an import was interrupted; use --resume to continue it, or --restart to begin again"
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
        """Import the lines that are left. An error leaves whole batches written."""
        with progress("importing", self._size(), in_bytes=True) as advance:
            if self.state.lines:
                with self.interrupts.at_once():
                    self._skip(header)
            else:
                self.state.note(header)
                self.store.write([_progress(self.state)])
            advance(self.state.size)
            while (batch := self._next_batch()) is not None:
                operations, state, is_last = batch
                self.store.write([*operations, Clear(PROGRESS) if is_last else _progress(state)])
                advance(state.size - self.state.size)
                self.state = state
                if is_last:
                    return
        raise BadInput(f"{self.name}: line {self.state.lines + 1}: the last line, with the record count, is missing")

    def _size(self) -> int | None:
        try:
            return os.fstat(self.content.fileno()).st_size or None
        except (OSError, ValueError):
            return None

    def _skip(self, header: bytes) -> None:
        """Skip the lines that are done, and verify that they are the ones that were imported."""
        checksum, left = zlib.crc32(header), self.state.size - len(header)
        while left > 0 and (chunk := self.content.read(min(left, _CHUNK))):
            checksum = zlib.crc32(chunk, checksum)
            left -= len(chunk)
        if left or checksum != self.state.checksum:
            lines = self.state.lines
            raise BadInput(f"{self.name}: the first {counted(lines, 'line')} are not those of the interrupted import")

    def _next_batch(self) -> tuple[list[Operation], Progress, bool] | None:
        """Read the next batch. A signal ends the command at once here: the input may be a pipe without data."""
        with self.interrupts.at_once():
            return self._batch()

    def _batch(self) -> tuple[list[Operation], Progress, bool] | None:
        """Operations, the progress after them, and whether the last line was read; None at the end of the input."""
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
                    raise ValueError("the line is incomplete or too long")
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
        """:raises ValueError: the count is wrong, or the input continues after the last line."""
        if records != state.lines - 1:
            raise ValueError(f"it counts {counted(records, 'record')}, but {state.lines - 1} precede it")
        if self.content.readline(MAX_LINE):
            raise ValueError("there is data after the last line")


def _progress(state: Progress) -> Put:
    return Put(PROGRESS, _KEY, msgspec.json.encode(state), JSON)
