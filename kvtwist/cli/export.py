"""`kvtwist export`: write every record of a store as a line of JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import click
from attrs import frozen

from kvtwist.cli.exits import BadInput
from kvtwist.cli.export_format import (
    BEGINNING,
    MAX_HEADER,
    MAX_LINE,
    PROGRESS,
    Header,
    end_line,
    header_line,
    read_end,
    read_header,
    read_record,
    record_line,
)
from kvtwist.cli.files import PARTIAL, Files, in_the_way
from kvtwist.cli.formatting import one_line
from kvtwist.cli.interrupts import Interrupts
from kvtwist.cli.output import Output, directory_argument, json_option, write
from kvtwist.cli.progress import progress
from kvtwist.cli.store_access import open_store
from kvtwist.engine.offline import OfflineStore
from kvtwist.model import StoreError
from kvtwist.words import counted

PIECE: Final = 2**18
"""Bytes written at a time; after each piece the progress bar advances and a pending signal is handled."""


@click.command(short_help="Write every record as a line of JSON.")
@directory_argument
@click.argument("file", metavar="[FILE]", type=click.Path(allow_dash=True), default="-")
@click.option("--keyspace", "keyspaces", multiple=True, metavar="K", help="Export only this keyspace; may be repeated.")
@click.option("--resume", is_flag=True, help="Continue an interrupted export to FILE.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@json_option
@click.pass_obj
def export(
    disk: Files, directory: str, file: str, keyspaces: tuple[str, ...], resume: bool, force: bool, as_json: bool
) -> None:
    """
    Write every record to FILE, or to standard output, as a line of JSON.

    FILE appears only after all of it is written and synced.
    """
    if resume and (file == "-" or force):
        raise click.UsageError("--resume needs a FILE and excludes --force")
    with Interrupts() as interrupts, open_store(disk, directory) as store:
        header = Header(1, store.revision, sorted(set(keyspaces)) or None)
        missing = set(keyspaces) - set(store.keyspaces())
        if missing:
            raise StoreError(f"{directory}: no keyspace {sorted(missing)[0]!r}")
        job = _Export(disk, store, header, interrupts)
        if file == "-":
            count = job.to_output()
        elif force and os.path.exists(file) and not os.path.isfile(file):
            count = job.to_device(file)
        else:
            count = job.to_file(file, resume, force)
    fields: dict[str, object] = {"type": "exported", "records": count, "revision": header.revision}
    line = f"{counted(count, 'record')} of revision {header.revision} in {one_line(file)}"
    Output(as_json).put(fields, None if file == "-" else line, err=file == "-")


@frozen
class _Existing:
    """
    The valid beginning of an export file.

    :ivar size: its length in bytes, a number of whole lines.
    :ivar records: the number of records in it.
    :ivar last: keyspace and key of the last record.
    :ivar finished: whether it is a complete export.
    """

    size: int = 0
    records: int = 0
    last: tuple[str, bytes] = ("", b"")
    finished: bool = False


@frozen
class _Export:
    """One run of the command. Each method that writes returns the number of records in the output."""

    disk: Files
    store: OfflineStore
    header: Header
    interrupts: Interrupts

    def to_output(self) -> int:
        """Write to standard output."""
        return self._write(write, _Existing())

    def to_device(self, file: str) -> int:
        """Write to a pipe or device, which can be neither replaced nor synced."""
        with self.interrupts.at_once():  # opening a pipe waits for its reader
            descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        try:
            return self._write(partial(self.disk.write, descriptor), _Existing())
        finally:
            os.close(descriptor)

    def to_file(self, file: str, resume: bool, force: bool) -> int:
        """Write a file under a temporary name, sync it, and rename it."""
        file = os.path.realpath(file) if force else os.path.abspath(file)
        if os.path.lexists(file) and not force:
            if resume and (existing := self._look_at(file)).finished:
                return existing.records
            raise _there_already(file)
        unfinished = file + PARTIAL
        descriptor = self.disk.claim(unfinished)
        try:
            if not BEGINNING.startswith(self.disk.read_part(unfinished, 0, len(BEGINNING)).rstrip(b"\0")):
                raise in_the_way(unfinished)
            existing = self._look_at(unfinished) if resume else _Existing()
            self.disk.cut(descriptor, existing.size)
            count = self._write(partial(self.disk.write, descriptor), existing)
            self.disk.sync(descriptor)
            if os.path.lexists(file) and not force:  # made by another process since the first check
                raise _there_already(file)
            self.disk.rename(unfinished, file)
            self.disk.sync_directory(os.path.dirname(file))
        finally:
            self.disk.close(descriptor)
        return count

    def _look_at(self, file: str) -> _Existing:
        """
        Find out how much of a file belongs to this export. Every line is read: a power cut may have left anything.

        :raises StoreError: the file is of another revision, or of other keyspaces.
        """
        with open(file, "rb") as content, self.interrupts.at_once():
            line = content.readline(MAX_HEADER)
            try:
                found = read_header(line)
            except BadInput:
                return _Existing()
            if not line.endswith(b"\n"):
                return _Existing()
            self._compare(found, file)
            size, records, last = len(line), 0, ("", b"")
            for line in iter(partial(content.readline, MAX_LINE), b""):
                try:
                    end = read_end(line)
                    if end is not None:
                        return _Existing(size, records, last, end.end == records and line.endswith(b"\n"))
                    record = read_record(line)
                except ValueError:
                    break
                if not line.endswith(b"\n") or (record.keyspace, record.key) <= last:
                    break
                size, records, last = size + len(line), records + 1, (record.keyspace, record.key)
            return _Existing(size, records, last)

    def _compare(self, found: Header, file: str) -> None:
        if found.revision != self.header.revision:
            now = self.header.revision
            raise StoreError(f"{file} is of revision {found.revision}, the store is at {now}; export without --resume")
        if found.keyspaces != self.header.keyspaces:
            raise StoreError(f"{file} is an export of other keyspaces ({', '.join(found.keyspaces or ['all'])})")

    def _write(self, put: Callable[[bytes], object], existing: _Existing) -> int:
        names = self.header.keyspaces or [name for name in self.store.keyspaces() if name != PROGRESS]
        piece = bytearray(b"" if existing.size else header_line(self.header))
        count = reported = existing.records
        with progress("exporting", sum(map(self.store.records, names))) as advance:
            advance(count)
            for line in self._lines(names, existing.last):
                piece += line
                count += 1
                if len(piece) >= PIECE:
                    with self.interrupts.at_once():  # writing to a pipe may block until its reader reads
                        put(bytes(piece))
                    piece.clear()
                    advance(count - reported)
                    reported = count
            piece += end_line(count)
            with self.interrupts.at_once():
                put(bytes(piece))
        return count

    def _lines(self, names: list[str], last: tuple[str, bytes]) -> Iterator[bytes]:
        """The lines of all records after `last`."""
        for name in names:
            if name >= last[0]:
                for key, record in self.store.scan(name, last[1] + b"\0" if name == last[0] else b""):
                    yield record_line(name, key, record)


def _there_already(file: str) -> StoreError:
    return StoreError(f"{file} already exists; --force replaces it")
