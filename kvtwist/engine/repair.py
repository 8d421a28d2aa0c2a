"""
Repair: makes a damaged store usable again, from all certain records, and from uncertain ones only on request.

A repair writes all live records into pages, and names them in a new manifest whose revision the store never had. Before
that manifest has its final name the store is unchanged; after that it needs none of the old files. They are kept in a
directory `damaged-<time>`. Manifests and pages, which never change, get a second name there before the new manifest is
written, so that a start between two steps cannot remove the last copy. Then the journal segments are moved there. While
one of them is left, no start succeeds, because it ends before the revision of the new manifest. A repair that was
interrupted is run again.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress

from attrs import frozen

from kvtwist.engine import manifest as manifests
from kvtwist.engine.disk import Disk
from kvtwist.engine.frame import Transaction
from kvtwist.engine.inspection.contents import apply
from kvtwist.engine.inspection.diagnosis import Advance, BadPage, Diagnosis
from kvtwist.engine.inspection.directory import DAMAGED
from kvtwist.engine.inspection.folding import (
    MAX_REVISION,
    Holes,
    LoosePages,
    Report,
    Told,
    Wishes,
    certain,
    folded,
    run_versions,
    salvaged,
)
from kvtwist.engine.inspection.journal_reading import AfterGap, Hole, JournalReading
from kvtwist.engine.inspection.salvage import claim_of
from kvtwist.engine.keyspace import Keyspace
from kvtwist.engine.manifest import Manifest
from kvtwist.engine.pages import PageDirectory
from kvtwist.engine.run_writer import EncodedRecords, PageNumbers, frozen_records, without_dead, write_frozen, write_run
from kvtwist.engine.sorted_run import SortedRun
from kvtwist.model import StoreDamaged, StoreError


@frozen
class Repaired:
    """
    :ivar kept: the directory of the old files.
    :ivar revision: the revision of the repaired store.
    """

    kept: str
    revision: int


class Repair:
    """
    A repair, planned from a diagnosis whose findings have been iterated over.

    :ivar basis: the source of the list of pages: "manifest", "older manifest" or "pages".
    :param told: called with each record that is not saved, or may be wrong.
    """

    def __init__(self, diagnosis: Diagnosis, wishes: Wishes, told: Told, advance: Advance = lambda _: None) -> None:
        self._wishes = wishes
        self._told = told
        self._advance = advance
        self._listing = diagnosis.listing
        self._diagnosis = diagnosis
        self.basis = "manifest"
        if diagnosis.manifest is None:
            older = _older(diagnosis)
            self._diagnosis = older or diagnosis
            self.basis = "pages" if older is None else "older manifest"
        self._manifest = self._diagnosis.manifest
        self._keyspaces: dict[str, Keyspace] = defaultdict(Keyspace)
        self._now_ms = int(time.time() * 1000)
        self._loose: LoosePages | None = None
        self._highest = max([self._diagnosis.after, *(revision for revision, _ in self._listing.manifests)])

    def rehearse(self) -> None:
        """Report what would not be saved, and change nothing. :raises StoreDamaged: the store cannot be repaired."""
        self._prepare()
        for name in sorted(self._names()):
            if self._is_affected(name):
                for _ in self._records(name):
                    pass

    def carry_out(self, disk: Disk) -> Repaired:
        """
        Repair the store. The caller holds its lock.

        :raises OSError: it failed; :raises StoreError: likewise. The store is unchanged, or takes another repair.
        """
        self._prepare()
        revision = self._highest + 1
        if revision > MAX_REVISION:
            raise StoreError(
                f"{self._listing.path}: revision {self._highest} is out of range; move the offending file aside"
            )
        staying = {number for name in self._names() for number in self._pages_that_stay(name)}
        kept = self._keep_originals(disk, staying)
        directory = PageDirectory(disk, self._listing.reader.path)
        numbers = PageNumbers(self._next_number())
        first_new = numbers.next
        try:
            runs = {name: self._write(name, directory, numbers) for name in sorted(self._names())}
            directory.sync()
            disk.sync_directory(self._listing.path)
            manifest = Manifest(
                revision, self._now_ms, numbers.next, {name: found for name, found in runs.items() if found}
            )
            manifests.write(disk, self._listing.path, manifest)
        except (OSError, StoreError):
            with suppress(OSError, StoreError):
                directory.remove(sorted(number for number in directory.numbers() if number >= first_new))
            raise
        disk.sync_directory(self._listing.path)
        self._put_away(disk, kept, directory, manifest)
        return Repaired(kept, revision)

    # --- reading ----------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        if self._manifest is None:
            self._loose = LoosePages(self._listing.reader, self._listing.pages, self._advance)
            self._highest = max(self._highest, self._loose.highest)
        else:
            self._now_ms = max(self._now_ms, self._manifest.time_ms)
            for name, runs in self._manifest.keyspaces.items():
                self._keyspaces[name].tables.install(runs)
        self._replay()
        self._tell_of_pages()

    def _replay(self) -> None:
        after = self._diagnosis.after
        needed = self._listing.needed_segments(after)
        if self._manifest is None and needed:
            after = min(
                after, needed[0][0] - 1
            )  # older segments, if they are still there, replace the lost list of pages
        reading = JournalReading(after, after)
        last = after
        for event in reading.read(self._diagnosis.disk, self._listing):
            if isinstance(event, Hole):
                if event.found is not None:
                    last = self._pass_gap(last, event.found)
                continue
            transaction = event.transaction if isinstance(event, AfterGap) else event
            last = self._pass_gap(last, transaction.revision)
            is_newer = transaction.revision > last
            last = max(last, transaction.revision)
            if isinstance(event, AfterGap):
                saved = is_newer and not self._wishes.stop_at_gap
                self._tell_behind(transaction, saved)
                if not saved:
                    continue
            apply(self._keyspaces, transaction)
            self._now_ms = max(self._now_ms, transaction.time_ms)
        self._highest = max(self._highest, reading.highest)

    def _names(self) -> set[str]:
        return {*self._keyspaces, *(self._loose.names() if self._loose else ())}

    def _bad_pages(self, name: str) -> list[BadPage]:
        """The bad pages of a keyspace; none if it was cleared since."""
        if not self._keyspaces[name].tables.runs:
            return []
        return [page for page in self._diagnosis.bad_pages.values() if page.keyspace == name]

    def _lost_pages(self, name: str) -> list[BadPage]:
        """The bad pages that are not whole in the file of another page."""
        return [page for page in self._bad_pages(name) if page.file is None]

    def _is_affected(self, name: str) -> bool:
        """Whether the pages of a keyspace have to be rewritten."""
        if self._loose is not None:
            return True
        return bool(self._bad_pages(name)) or (
            name in self._diagnosis.miscounted and bool(self._keyspaces[name].tables.runs)
        )

    def _pages_that_stay(self, name: str) -> set[int]:
        if self._is_affected(name):
            return set()
        return {ref.number for run in self._keyspaces[name].tables.runs for ref in run.pages}

    def _records(self, name: str) -> EncodedRecords:
        tables = self._keyspaces[name].tables
        sources = [certain(frozen_records(tables.active), 0)]
        holes: Holes | None = None
        if self._loose is not None:
            sources += self._loose.sources(name, self._keyspaces[name].cleared, self._highest, self._advance)
        else:
            assert self._manifest is not None
            bad = self._diagnosis.bad_pages
            holes = Holes(self._lost_pages(name))
            for depth, run in enumerate(tables.runs):
                pages, revision = self._listing.reader, self._manifest.revision
                sources.append(run_versions(pages, name, run.pages, depth + 1, bad, revision, self._advance))
        return folded(name, sources, holes, self._wishes, self._now_ms, self._told)

    # --- reporting --------------------------------------------------------------------------------------------------

    def _tell_of_pages(self) -> None:
        """Report the records of damaged pages that cannot be read."""
        if self._loose is not None:
            for keyspace, number in self._loose.damaged():
                self._tell_unreadable(keyspace, number, b"", None, self._highest)
            return
        assert self._manifest is not None
        for name in sorted(self._keyspaces):
            for page in self._lost_pages(name):
                ref = page.ref
                if page.is_other:
                    self._tell_lost(name, ref.number, None, ref.first, ref.stop)
                else:
                    self._tell_unreadable(name, ref.number, ref.first, ref.stop, self._manifest.revision)

    def _tell_unreadable(
        self, keyspace: str | None, number: int, first: bytes, stop: bytes | None, revision: int
    ) -> None:
        reader = self._listing.reader
        try:
            count = claim_of(reader.content(number), keyspace).count
        except StoreDamaged:
            count = None
        readable = len(salvaged(reader, number, keyspace, first, stop, revision)) if keyspace is not None else 0
        lost = None if count is None else max(count - readable, 0)
        if lost != 0:
            self._tell_lost(keyspace, number, lost, first, stop)

    def _tell_lost(self, keyspace: str | None, page: int, lost: int | None, first: bytes, stop: bytes | None) -> None:
        self._told(Report(kind="unreadable", keyspace=keyspace, page=page, records=lost, first=first, stop=stop))

    def _tell_behind(self, transaction: Transaction, saved: bool) -> None:
        for change in transaction.changes:
            size = None if change.value is None else len(change.key or b"") + len(change.value)
            self._told(
                Report(
                    kind="behind",
                    saved=saved,
                    keyspace=change.keyspace,
                    key=change.key,
                    revision=transaction.revision,
                    size=size,
                    records=1 if change.key is not None else None,
                )
            )

    def _pass_gap(self, last: int, found: int) -> int:
        """Report the revisions that are missing between two; return the one before `found`."""
        if found <= last + 1:
            return last
        self._told(Report(kind="missing", revisions=(last + 1, found - 1), records=None))
        return found - 1

    # --- writing ----------------------------------------------------------------------------------------------------

    def _next_number(self) -> int:
        known = 1 if self._manifest is None else self._manifest.next_page
        return max(known, max(self._listing.pages, default=0) + 1)

    def _write(self, name: str, directory: PageDirectory, numbers: PageNumbers) -> list[SortedRun]:
        tables = self._keyspaces[name].tables
        if self._is_affected(name):
            run = _finish(write_run(directory, name, numbers, without_dead(self._records(name), self._now_ms, True)))
            return [run] if run.pages else []
        if not tables.active:
            return tables.runs
        base = not tables.runs
        run = _finish(write_frozen(directory, name, numbers, tables.active, self._now_ms, base))
        return [run, *tables.runs] if run.pages else tables.runs

    def _retired(self, staying: set[int]) -> Iterator[str]:
        """The paths of all manifests and pages that the repaired store does not need."""
        for _, path in self._listing.manifests:
            yield path
        yield from self._listing.unfinished
        for number in sorted(self._listing.pages - staying):
            yield self._listing.reader.file_of(number)

    def _keep_originals(self, disk: Disk, staying: set[int]) -> str:
        kept = self._new_place(disk)
        disk.make_directory(os.path.join(kept, "pages"))
        for path in self._retired(staying):
            with suppress(FileNotFoundError, IsADirectoryError):  # a directory is not ours
                _keep(disk, path, self._kept_path(path, kept))
        disk.sync_directory(os.path.join(kept, "pages"))
        disk.sync_directory(kept)
        disk.sync_directory(self._listing.path)
        return kept

    def _new_place(self, disk: Disk) -> str:
        name = DAMAGED + time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        taken = set(disk.names(self._listing.path))
        candidates = [name, *(f"{name}-{count}" for count in range(2, len(taken) + 3))]
        return os.path.join(self._listing.path, next(name for name in candidates if name not in taken))

    def _kept_path(self, path: str, kept: str) -> str:
        return os.path.join(kept, os.path.relpath(path, self._listing.path))

    def _put_away(self, disk: Disk, kept: str, directory: PageDirectory, manifest: Manifest) -> None:
        for _, path in self._listing.segments:
            disk.rename(path, self._kept_path(path, kept))
            disk.sync_directory(kept)
            disk.sync_directory(self._listing.path)
        for path in self._listing.unfinished:
            with suppress(FileNotFoundError, IsADirectoryError):
                disk.remove(path)
        manifests.remove_others(disk, self._listing.path, manifest)
        directory.remove(sorted(directory.numbers() - manifest.pages()))
        disk.sync_directory(self._listing.path)


def _older(diagnosis: Diagnosis) -> Diagnosis | None:
    """The diagnosis of an older manifest that is valid with all its pages, and from which the journal goes on."""
    whole = [path for _, path in diagnosis.listing.manifests]
    begun = [path for path in diagnosis.listing.unfinished if manifests.is_unfinished(os.path.basename(path))]
    newest = max((revision for revision, _ in diagnosis.listing.manifests), default=0)
    for path in sorted([*whole[:-1], *begun], reverse=True):
        older = Diagnosis(diagnosis.path, diagnosis.advance, manifest_path=path, disk=diagnosis.disk)
        list(older.findings())
        if not older.problems and older.manifest is not None and older.journal.revision >= newest:
            return older
    return None


def _keep(disk: Disk, path: str, target: str) -> None:
    """Give a file a second name, or copy it if the file system has no hard links."""
    try:
        disk.link(path, target)
    except FileNotFoundError:
        raise
    except OSError:
        disk.save(target, disk.read(path))


def _finish(steps: Iterator[None]) -> SortedRun:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            run: SortedRun = end.value
            return run
