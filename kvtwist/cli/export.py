"""`kvtwist export`: every record of a store as a line of JSON."""

from __future__ import annotations

import os
import sys
from typing import BinaryIO

import click
import msgspec
from attrs import frozen

from kvtwist.cli.directory import working
from kvtwist.cli.exits import BadInput
from kvtwist.cli.lines import (
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
from kvtwist.cli.output import directory_argument, json_option
from kvtwist.cli.progress import Interrupts, progress
from kvtwist.engine.offline import OfflineStore
from kvtwist.model import StoreError
from kvtwist.words import counted

EVERY = 1000
"""After how many records the progress is told, and Ctrl-C heard."""


@click.command(short_help="Write every record as a line of JSON.")
@directory_argument
@click.argument("file", metavar="[FILE]", type=click.Path(dir_okay=False, allow_dash=True), default="-")
@click.option("--keyspace", "keyspaces", multiple=True, metavar="K", help="Just this keyspace; may be repeated.")
@click.option("--resume", is_flag=True, help="Go on behind the last whole line of FILE.")
@click.option("--force", is_flag=True, help="Replace FILE if there is one.")
@json_option
def export(directory: str, file: str, keyspaces: tuple[str, ...], resume: bool, force: bool, as_json: bool) -> None:
    """Write every record to FILE, or to standard output, as a line of JSON."""
    if resume and (file == "-" or force):
        raise click.UsageError("--resume needs a FILE to go on with, and no --force")
    with Interrupts() as interrupts, working(directory) as store:
        header = Header(1, store.revision, sorted(set(keyspaces)) or None)
        missing = set(keyspaces) - set(store.keyspaces())
        if missing:
            raise StoreError(f"{directory}: there is no keyspace {sorted(missing)[0]!r}")
        if file == "-":
            count = _write(store, sys.stdout.buffer, header, _Begun(), interrupts)
            sys.stdout.buffer.flush()
        else:
            count = _to_file(store, file, header, resume, force, interrupts)
    if as_json:
        fields = {"type": "exported", "records": count, "revision": header.revision}
        click.echo(msgspec.json.encode(fields), err=file == "-")
    elif file != "-":
        click.echo(f"{counted(count, 'record')} of revision {header.revision} in {file}")


@frozen
class _Begun:
    """
    What is in a file already.

    :ivar size: bytes of whole lines.
    :ivar last: keyspace and key of the last record.
    :ivar finished: whether nothing is missing.
    """

    size: int = 0
    records: int = 0
    last: tuple[str, bytes] | None = None
    finished: bool = False


def _to_file(store: OfflineStore, file: str, header: Header, resume: bool, force: bool, interrupts: Interrupts) -> int:
    begun = _Begun()
    if resume and os.path.exists(file):
        with open(file, "r+b") as content:
            begun = _look_at(content, file, header)
            if begun.finished:
                return begun.records
            content.truncate(begun.size)
            content.seek(begun.size)
            return _write_synced(store, content, header, begun, interrupts)
    try:
        with open(file, "wb" if force else "xb") as new:
            return _write_synced(store, new, header, begun, interrupts)
    except FileExistsError:
        raise StoreError(f"{file} is there already: --resume goes on with it, --force replaces it") from None


def _look_at(content: BinaryIO, file: str, header: Header) -> _Begun:
    """:raises BadInput: it is not what this export would have begun with."""
    number = size = 0
    last = b""
    while (line := content.readline(MAX_LINE)).endswith(b"\n"):
        number += 1
        size += len(line)
        last = line
        if number == 1:
            _compare(read_header(line), header, file)
    if number == 0:
        return _Begun()
    if number == 1:
        return _Begun(size)
    try:
        end = read_end(last)
        if end is not None:
            return _Begun(size, end.end, None, True)
        record = read_record(last)
    except ValueError as error:
        raise BadInput(f"{file}: line {number}: {error}") from None
    return _Begun(size, number - 1, (record.keyspace, record.key))


def _compare(found: Header, header: Header, file: str) -> None:
    if found.revision != header.revision:
        raise StoreError(
            f"{file} is of revision {found.revision}, and the store of {header.revision} by now: begin anew"
        )
    if found.keyspaces != header.keyspaces:
        raise StoreError(f"{file} was begun with other keyspaces ({', '.join(found.keyspaces or ['all'])})")


def _write_synced(store: OfflineStore, content: BinaryIO, header: Header, begun: _Begun, interrupts: Interrupts) -> int:
    try:
        count = _write(store, content, header, begun, interrupts)
    finally:
        content.flush()
        if content.seekable():  # a pipe under a name has no disk
            os.fsync(content.fileno())
    return count


def _write(store: OfflineStore, content: BinaryIO, header: Header, begun: _Begun, interrupts: Interrupts) -> int:
    """Returns how many records there are, with those that were there already."""
    if not begun.size:
        content.write(header_line(header))
    count = begun.records
    names = header.keyspaces or [name for name in store.keyspaces() if name != PROGRESS]
    with progress("exporting", sum(map(store.records, names))) as advance:
        advance(count)
        for name in names:
            start = b""
            if begun.last is not None:
                if name < begun.last[0]:
                    continue
                if name == begun.last[0]:
                    start = begun.last[1] + b"\0"
            for key, record in store.scan(name, start):
                interrupts.at_once = True  # whoever reads the other end of a pipe may take his time
                content.write(record_line(name, key, record))
                interrupts.at_once = False
                count += 1
                if count % EVERY == 0:
                    interrupts.check()
                    advance(EVERY)
    content.write(end_line(count))
    return count
