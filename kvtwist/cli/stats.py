"""`kvtwist stats`: report how much a store holds, and what takes the space."""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heappush, heappushpop, merge
from itertools import groupby
from operator import itemgetter

import click
from attrs import Factory, define
from rich.console import Console
from rich.table import Table

from kvtwist.cli.formatting import moment, put_bytes, shown, size
from kvtwist.cli.output import Output, directory_argument, json_option
from kvtwist.cli.progress import progress
from kvtwist.cli.store_access import inspecting, suggesting_check
from kvtwist.engine import manifest as manifests
from kvtwist.engine.inspection.contents import Contents
from kvtwist.engine.inspection.directory import Listing
from kvtwist.engine.inspection.readonly import ReadOnlyDisk
from kvtwist.engine.manifest import Manifest
from kvtwist.engine.page import expires_of, is_tombstone, weight_of
from kvtwist.engine.sorted_run import SortedRun
from kvtwist.words import counted

LARGEST = 10
"""The number of largest values to report."""
_OVERHEAD = 19
"""Bytes of a record in a page besides key and value, without expiry and with a common media type."""


@click.command(short_help="Report how much a store holds.")
@directory_argument
@click.option("--deep", is_flag=True, help="Read every record: exact figures, largest values, expiry.")
@json_option
def stats(directory: str, deep: bool, as_json: bool) -> None:
    """
    Report how much a store holds, and what takes the space.

    Without --deep only the manifest is read: record counts are those of a server's metrics, changes that are only in
    the journal do not count, and the size of superseded records is an estimate.
    """
    output = Output(as_json)
    with inspecting(directory) as listing, suggesting_check(directory):
        manifest = manifests.load(ReadOnlyDisk(), listing.path)
        _put_store(output, listing, manifest)
        if deep:
            contents = Contents(directory)
            keyspaces = _deep(contents)
        else:
            keyspaces = [_from_manifest(name, runs) for name, runs in sorted(manifest.keyspaces.items())]
    if as_json:
        for keyspace in keyspaces:
            output.put(keyspace.fields(deep), None)
    elif keyspaces:
        _put_table(output, keyspaces, deep)


@define
class _Keyspace:
    name: str
    runs: int
    pages: int
    page_bytes: int
    records: int = 0
    weight: int = 0
    removed: int = 0
    superseded: int = 0
    expires_ms: int | None = None
    expiring: int = 0
    expired: int = 0
    largest: list[tuple[int, bytes]] = Factory(list)

    def fields(self, deep: bool) -> dict[str, object]:
        """The fields of a JSON line."""
        fields: dict[str, object] = {
            "type": "keyspace",
            "keyspace": self.name,
            "records": self.records,
            "bytes": self.weight,
            "runs": self.runs,
            "pages": self.pages,
            "page_bytes": self.page_bytes,
            "removed": self.removed,
            "superseded_bytes": self.superseded,
            "next_expiry_ms": self.expires_ms,
        }
        if deep:
            fields.update(expiring=self.expiring, expired=self.expired, largest=[*map(_large, self.largest)])
        return fields


def _large(found: tuple[int, bytes]) -> dict[str, object]:
    fields: dict[str, object] = {"size": found[0]}
    put_bytes(fields, "key", found[1])
    return fields


def _put_store(output: Output, listing: Listing, manifest: Manifest) -> None:
    leftovers = [path for path, _ in listing.leftovers(manifest)]
    needed = listing.needed_segments(manifest.revision)
    fields: dict[str, object] = {
        "type": "store",
        "revision": manifest.revision,
        "time_ms": manifest.time_ms,
        "manifest_bytes": _total([path for _, path in listing.manifests[-1:]]),
        "segments": len(needed),
        "journal_bytes": _total([path for _, path in needed]),
        "spare_bytes": _total(listing.spare),
        "leftovers": len(leftovers),
        "leftover_bytes": _total(leftovers),
        "kept": len(listing.kept),
    }
    output.put(
        fields,
        f"revision {manifest.revision} of {moment(manifest.time_ms)} in pages; "
        f"{counted(len(needed), 'journal segment')} ({size(_total([path for _, path in needed]))}) after it\n"
        f"{counted(len(leftovers), 'leftover')} ({size(_total(leftovers))})",
    )


def _total(paths: list[str]) -> int:
    disk = ReadOnlyDisk()
    return sum(disk.length(path) for path in paths)


def _from_manifest(name: str, runs: list[SortedRun]) -> _Keyspace:
    found = _Keyspace(name, len(runs), sum(len(run.pages) for run in runs), sum(run.size for run in runs))
    found.records = sum(run.records for run in runs)
    found.weight = sum(run.weight for run in runs)
    found.removed = sum(run.tombstones for run in runs)
    found.superseded = max(found.page_bytes - found.weight - _OVERHEAD * found.records - 32 * found.pages, 0)
    expiries = [run.expires_ms for run in runs if run.expires_ms is not None]
    found.expires_ms = min(expiries, default=None)
    return found


def _deep(contents: Contents) -> list[_Keyspace]:
    now_ms = max(int(time.time() * 1000), contents.time_ms)
    total = sum(run.size for runs in contents.manifest.keyspaces.values() for run in runs)
    with progress("reading", total, in_bytes=True) as advance:
        return [_count(contents, name, now_ms, advance) for name in contents.names()]


def _count(contents: Contents, name: str, now_ms: int, advance: Callable[[int], None]) -> _Keyspace:
    runs = contents.manifest.keyspaces.get(name, [])
    found = _from_manifest(name, runs)
    found.records = found.weight = found.removed = found.superseded = 0
    found.expires_ms, found.largest = None, []
    by_key = itemgetter(0)
    for key, group in groupby(merge(*contents.sources(name, advance), key=by_key), key=by_key):
        (_, record), *older = group
        found.superseded += sum(len(superseded) for _, superseded in older)
        if is_tombstone(record):
            found.removed += 1
            continue
        expires_ms = expires_of(record)
        if expires_ms is not None and expires_ms <= now_ms:
            found.expired += 1
            continue
        if expires_ms is not None:
            found.expiring += 1
            found.expires_ms = expires_ms if found.expires_ms is None else min(found.expires_ms, expires_ms)
        found.records += 1
        found.weight += weight_of(record)
        large = (weight_of(record) - len(key), key)
        if len(found.largest) < LARGEST:
            heappush(found.largest, large)
        else:
            heappushpop(found.largest, large)
    found.largest.sort(reverse=True)
    return found


def _put_table(output: Output, keyspaces: list[_Keyspace], deep: bool) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("keyspace", no_wrap=True)
    for column in ("records", "bytes", "runs", "pages", "on disk", "removed", "superseded", "next expiry"):
        table.add_column(column, justify="right", no_wrap=True)
    for found in keyspaces:
        about = "" if deep else "~"
        table.add_row(
            found.name,
            str(found.records),
            size(found.weight),
            str(found.runs),
            str(found.pages),
            size(found.page_bytes),
            str(found.removed),
            f"{about}{size(found.superseded)}",
            moment(found.expires_ms),
        )
    console = Console(width=None if Console().is_terminal else 200, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(table)
    output.tell("\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n")))
    for found in keyspaces if deep else []:
        if found.expiring or found.expired:
            expired = f"{counted(found.expired, 'record')} expired"
            output.tell(f"{found.name}: {counted(found.expiring, 'record')} will expire, {expired}")
        for length, key in found.largest:
            output.tell(f"{found.name}: {size(length)} under {shown(key)}")
