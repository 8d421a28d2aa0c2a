"""`kvtwist dump`: show the content of a store's files, also of damaged ones."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click
from attrs import Factory, define

from kvtwist.cli import exits
from kvtwist.cli.formatting import moment, put_bytes, shown, size
from kvtwist.cli.output import Output, directory_argument, json_option
from kvtwist.cli.store_access import inspecting, suggesting_check
from kvtwist.engine import manifest as manifests
from kvtwist.engine.frame import Change, Frame, Transaction, whole_frames
from kvtwist.engine.inspection.contents import Contents
from kvtwist.engine.inspection.directory import Listing
from kvtwist.engine.inspection.folding import MAX_REVISION
from kvtwist.engine.inspection.page_faults import tombstones_of
from kvtwist.engine.inspection.readonly import ReadOnlyDisk
from kvtwist.engine.inspection.salvage import claim_of, readable_records
from kvtwist.engine.manifest import Manifest
from kvtwist.engine.memtable import Tombstone
from kvtwist.engine.page import NONSENSE, Page, decode_record
from kvtwist.engine.segment import header_of
from kvtwist.model import StoreDamaged
from kvtwist.words import counted


@click.command(short_help="Show the content of the files.")
@directory_argument
@click.option("--manifest", "manifest", is_flag=True, help="The sorted runs and pages of the store.")
@click.option("--pages", is_flag=True, help="Every page on disk or in the manifest.")
@click.option("--page", type=click.IntRange(1), metavar="N", help="The records of a page, as far as they can be read.")
@click.option("--segments", is_flag=True, help="The journal: segments, frames and changes.")
@click.option("--records", is_flag=True, help="Every record of the store, as a server would see it.")
@json_option
@click.pass_context
def dump(
    ctx: click.Context,
    directory: str,
    manifest: bool,
    pages: bool,
    page: int | None,
    segments: bool,
    records: bool,
    as_json: bool,
) -> None:
    """Show the content of a store's files. Without an option: the manifest and the pages."""
    with inspecting(directory) as listing:
        dumper = _Dumper(Output(as_json), listing)
        if not (manifest or pages or page or segments or records):
            manifest = pages = True
        if manifest:
            dumper.manifest()
        if pages:
            dumper.pages()
        if page is not None:
            dumper.page(page)
        if segments:
            dumper.segments()
        if records:
            with suggesting_check(directory):
                dumper.records(Contents(directory))
    if dumper.damaged:
        ctx.exit(exits.PROBLEMS)


@define
class _Dumper:
    _output: Output
    _listing: Listing
    damaged: bool = False
    _disk: ReadOnlyDisk = Factory(ReadOnlyDisk)

    def manifest(self) -> None:
        found = self._newest()
        if found is None:
            return
        file, manifest = found
        fields = {"revision": manifest.revision, "time_ms": manifest.time_ms, "next_page": manifest.next_page}
        line = f"{file}: revision {manifest.revision}, {moment(manifest.time_ms)}, next page {manifest.next_page}"
        self._output.put({"type": "manifest", "file": file, **fields}, line)
        for keyspace, runs in manifest.keyspaces.items():
            for depth, run in enumerate(runs):
                counts = {"records": run.records, "weight": run.weight, "tombstones": run.tombstones}
                place = {"keyspace": keyspace, "run": depth}
                line = (
                    f"  {keyspace} run {depth}: {counted(len(run.pages), 'page')}, {size(run.size)}, "
                    f"records {run.records:+}, bytes of keys and values {run.weight:+}, {run.tombstones} removed"
                )
                self._output.put({"type": "run", **place, "pages": len(run.pages), "size": run.size, **counts}, line)
                for ref in run.pages:
                    entry: dict[str, object] = {"type": "entry", "page": ref.number, **place}
                    entry.update(size=ref.size, expires_ms=ref.expires_ms)
                    put_bytes(entry, "first", ref.first)
                    if ref.stop is not None:
                        put_bytes(entry, "stop", ref.stop)
                    if isinstance(ref.seal, int):
                        entry["checksum"] = ref.seal
                    expires = "" if ref.expires_ms is None else f", expires from {moment(ref.expires_ms)}"
                    self._output.put(
                        entry, f"    page {ref.number}: from {shown(ref.first)}, {size(ref.size)}{expires}"
                    )

    def _newest(self) -> tuple[str, Manifest] | None:
        if not self._listing.manifests:
            self._output.put({"type": "none", "what": "manifest"}, "no manifest")
            return None
        _, path = self._listing.manifests[-1]
        try:
            return os.path.basename(path), manifests.read(self._disk, path)
        except StoreDamaged as error:
            self._bad(os.path.basename(path), str(error).removeprefix(f"{path}: "))
            return None

    def _bad(self, file: str, what: str, at: int | None = None, end: int | None = None) -> None:
        self.damaged = True
        fields: dict[str, object] = {"type": "damaged", "file": file, "what": what}
        where = "" if at is None else f", bytes {at} to {end}"
        if at is not None:
            fields.update(at=at, end=end)
        self._output.put(fields, f"DAMAGED {file}: {what}{where}")

    # --- pages ----------------------------------------------------------------------------------------------------

    def pages(self) -> None:
        places: dict[int, tuple[str, int]] = {}
        named: set[int] = set()
        manifest = Manifest()
        if self._listing.manifests:
            try:
                manifest = manifests.read(self._disk, self._listing.manifests[-1][1])
            except StoreDamaged:
                self.damaged = True
        for keyspace, runs in manifest.keyspaces.items():
            for depth, run in enumerate(runs):
                places.update((ref.number, (keyspace, depth)) for ref in run.pages)
        named.update(places)
        for number in sorted(named | self._listing.pages):
            self._page_line(number, places.get(number))

    def _page_line(self, number: int, place: tuple[str, int] | None) -> None:
        file = os.path.relpath(self._listing.reader.file_of(number), self._listing.path)
        try:
            page = self._listing.reader.read_loose(number)
            fields: dict[str, object] = {
                "type": "page",
                "page": number,
                "file": file,
                "keyspace": page.keyspace,
                "run": None if place is None else place[1],
                "records": len(page),
                "tombstones": tombstones_of(page),
                "size": page.size,
            }
            put_bytes(fields, "first", page[0])
            put_bytes(fields, "last", page[len(page) - 1])
        except (StoreDamaged, *NONSENSE) as error:
            self._bad(file, str(error).removeprefix(f"{self._listing.reader.file_of(number)}: "))
            return
        run = "not in the manifest" if place is None else f"run {place[1]}"
        line = (
            f"{file}: page {number}, {page.keyspace} {run}: {counted(len(page), 'record')}, {size(page.size)}, "
            f"{shown(page[0])} to {shown(page[len(page) - 1])}"
        )
        self._output.put(fields, line)

    def page(self, number: int) -> None:
        reader = self._listing.reader
        try:
            content = reader.content(number)
        except StoreDamaged as error:
            self._bad(os.path.relpath(reader.file_of(number), self._listing.path), f"page {number}: {error}")
            return
        try:
            page = Page(content)
            keyspace: str | None = page.keyspace
            records = page.records()
        except (StoreDamaged, *NONSENSE) as error:
            claim = claim_of(content)
            keyspace = claim.keyspace
            records = iter(readable_records(content, claim, b"", None, MAX_REVISION))
            self._bad(os.path.relpath(reader.file_of(number), self._listing.path), f"page {number}: {error}")
        for key, record in records:
            self._record(keyspace, key, record)

    def _record(self, keyspace: str | None, key: bytes, encoded: bytes) -> None:
        entry = decode_record(encoded)
        fields: dict[str, object] = {"type": "record", "keyspace": keyspace}
        put_bytes(fields, "key", key)
        if isinstance(entry, Tombstone):
            fields.update(revision=entry.revision, removed=True)
            self._output.put(fields, f"{keyspace} {shown(key)} removed, revision {entry.revision}")
            return
        put_bytes(fields, "value", entry.value)
        fields.update(
            media_type=entry.media_type,
            revision=entry.revision,
            modified_ms=entry.modified_ms,
            expires_ms=entry.expires_ms,
        )
        expires = "" if entry.expires_ms is None else f", expires {moment(entry.expires_ms)}"
        what = f"{entry.media_type}, {size(len(entry.value))}, revision {entry.revision}, {moment(entry.modified_ms)}"
        self._output.put(fields, f"{keyspace} {shown(key)} = {shown(entry.value)} ({what}{expires})")

    def records(self, contents: Contents) -> None:
        for keyspace in contents.names():
            for key, record in contents.records(keyspace):
                entry = decode_record(record)
                if isinstance(entry, Tombstone):
                    continue
                if entry.expires_ms is None or entry.expires_ms > contents.time_ms:
                    self._record(keyspace, key, record)

    # --- the journal ------------------------------------------------------------------------------------------------

    def segments(self) -> None:
        for first, path in self._listing.segments:
            file = os.path.basename(path)
            content = self._disk.read(path)
            salt, whole, at = header_of(content)
            self._output.put(
                {"type": "segment", "file": file, "first_revision": first, "size": len(content)},
                f"{file}: {size(len(content))}",
            )
            if content and not whole:
                self._bad(file, "the header is not whole", 0, at)
            for frame in whole_frames(content, salt):
                if frame.start > at:
                    self._bad(file, "no frame can be read here", at, frame.start)
                at = frame.end
                self._frame(file, frame)
            if at < len(content):
                fields: dict[str, object] = {"type": "rest", "file": file, "at": at, "end": len(content)}
                self._output.put(fields, f"  {at}: end of the frames")

    def _frame(self, file: str, frame: Frame) -> None:
        batch = frame.batch
        last = batch.transactions[-1].revision if batch.transactions else None
        fields: dict[str, object] = {
            "type": "frame",
            "file": file,
            "at": frame.start,
            "end": frame.end,
            "synced": batch.synced,
            "transactions": len(batch.transactions),
        }
        line = f"  {frame.start}: frame to {frame.end}, {counted(len(batch.transactions), 'transaction')} to {last}"
        self._output.put(fields, f"{line}, synced to {batch.synced}")
        for transaction in batch.transactions:
            for fields, line in _changes(transaction):
                self._output.put(fields, line)


def _changes(transaction: Transaction) -> Iterator[tuple[dict[str, object], str]]:
    for change in transaction.changes:
        fields: dict[str, object] = {
            "type": "change",
            "revision": transaction.revision,
            "time_ms": transaction.time_ms,
            "keyspace": change.keyspace,
        }
        if change.key is not None:
            put_bytes(fields, "key", change.key)
        if change.value is not None:
            put_bytes(fields, "value", change.value)
            fields.update(media_type=change.media_type, expires_ms=change.expires_ms, modified_ms=change.modified_ms)
        fields["change"] = "clear" if change.key is None else "delete" if change.value is None else "put"
        yield fields, f"    {transaction.revision} {moment(transaction.time_ms)} {_shown(change)}"


def _shown(change: Change) -> str:
    if change.key is None:
        return f"{change.keyspace} cleared"
    if change.value is None:
        return f"{change.keyspace} {shown(change.key)} removed"
    expires = "" if change.expires_ms is None else f", expires {moment(change.expires_ms)}"
    what = f"{change.media_type}, {size(len(change.value))}{expires}"
    return f"{change.keyspace} {shown(change.key)} = {shown(change.value)} ({what})"
