"""`kvtwist reset-time`: set the store's time back to the clock's, after the clock was ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click

from kvtwist.cli.files import Files
from kvtwist.cli.formatting import moment
from kvtwist.cli.interrupts import Interrupts
from kvtwist.cli.output import Output, directory_argument, json_option
from kvtwist.cli.progress import progress
from kvtwist.cli.store_access import open_store
from kvtwist.engine.offline import OfflineStore
from kvtwist.engine.timeline import WallTime
from kvtwist.model import HISTORY, Delete, Operation, Record, Restore

BATCH_OPERATIONS = 1000
BATCH_BYTES = 2**20


@click.command("reset-time", short_help="Set the store's time back after the clock was ahead.")
@directory_argument
@json_option
@click.pass_obj
def reset_time(disk: Files, directory: str, as_json: bool) -> None:
    """
    Set the time of a store, which never runs backwards by itself, back to the clock's.

    Records with a later time count as written now and keep their time to live; history events with a later time are
    deleted. All other records stay. Records that expired too early come back if they are still on disk.
    """
    timeline = WallTime()
    with Interrupts() as interrupts, open_store(disk, directory, timeline=timeline) as store:
        now_ms, before_ms = timeline.now_ms(), timeline.written_ms
        changed = 0
        with progress("resetting", sum(map(store.records, store.keyspaces()))) as advance:
            for keyspace in store.keyspaces():
                for operations in _batches(store, keyspace, now_ms, advance):
                    interrupts.check()
                    store.write(operations)
                    changed += len(operations)
        if before_ms > now_ms:
            store.checkpoint()  # writes the new time, and removes the journal, which holds the old one
    fields = {"type": "reset", "before_ms": before_ms, "time_ms": min(before_ms, now_ms), "changed": changed}
    line = f"{changed} records had later times; the last recorded time was {moment(before_ms)}"
    Output(as_json).put(fields, f"{line} and is now the clock's" if before_ms > now_ms else line)


def _batches(
    store: OfflineStore, keyspace: str, now_ms: int, advance: Callable[[int], None]
) -> Iterator[list[Operation]]:
    """Operations that reset the records with later times, a batch at a time."""
    batch: list[Operation] = []
    size = 0
    for key, record in store.scan(keyspace):
        advance(1)
        if record.modified_ms > now_ms:
            batch.append(_reset(keyspace, key, record, now_ms))
            size += len(record.value)
            if len(batch) == BATCH_OPERATIONS or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _reset(keyspace: str, key: bytes, record: Record, now_ms: int) -> Operation:
    if keyspace == HISTORY:  # its keys contain the time
        return Delete(keyspace, key)
    later_ms = record.modified_ms - now_ms
    expires_ms = None if record.expires_ms is None else record.expires_ms - later_ms
    return Restore(keyspace, key, record.value, record.media_type, None, modified_ms=now_ms, expires_ms=expires_ms)
