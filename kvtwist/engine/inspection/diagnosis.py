"""
Checks a whole store: every checksum and every invariant of manifest, pages and journal.

Nothing is changed, and at most one page and one segment are in memory at a time. The journal is replayed as a start
does; if that fails, `journal_reading` tells what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from attrs import Factory, define, evolve, frozen

from kvtwist.engine import manifest as manifests
from kvtwist.engine.disk import Disk
from kvtwist.engine.inspection.directory import Listing, look
from kvtwist.engine.inspection.findings import Finding
from kvtwist.engine.inspection.journal_reading import AfterGap, Hole, JournalReading
from kvtwist.engine.inspection.page_faults import faults_of, tombstones_of
from kvtwist.engine.inspection.readonly import ReadOnlyDisk
from kvtwist.engine.inspection.salvage import claim_of, readable_records
from kvtwist.engine.manifest import Manifest
from kvtwist.engine.page import BODY, NONSENSE, OLD_PAGE_HEADER, PAGE_HEADER, Page
from kvtwist.engine.pages import passing_error
from kvtwist.engine.recovery import Recovery, replay
from kvtwist.engine.sorted_run import PageRef, SortedRun
from kvtwist.model import StoreDamaged
from kvtwist.words import counted

Advance = Callable[[int], object]
"""Called with the number of bytes that were read since the last call."""


@frozen
class BadPage:
    """
    A page that cannot be used.

    :ivar depth: the index of its run, 0 for the newest.
    :ivar is_other: whether its file holds another page, so nothing of it can be read there.
    :ivar file: the number of the page in whose file it is whole; None if it is in no other file.
    """

    keyspace: str
    depth: int
    ref: PageRef
    is_other: bool = False
    file: int | None = None


@define
class Diagnosis:
    """
    The diagnosis of a store. Iterate over `findings` first: the attributes are valid after that.

    :ivar manifest_path: the manifest to check instead of the newest.
    :ivar manifest: the manifest; None if it is damaged; an empty one if there is none and none is needed.
    :ivar bad_pages: the unusable pages that the manifest names, by number.
    :ivar miscounted: keyspaces whose manifest and pages differ in the number of tombstones.
    :ivar after: the revision after which the journal is needed.
    :ivar journal: the content of the journal.
    :ivar journal_error: the error of a start; None if there is none.
    :ivar torn_bytes: how many bytes a start would cut off.
    :ivar problems: how many problems were found.
    """

    path: str
    advance: Advance = lambda _: None
    manifest_path: str | None = None
    disk: Disk = Factory(ReadOnlyDisk)
    listing: Listing = Factory(lambda self: look(self.disk, self.path), takes_self=True)
    manifest: Manifest | None = None
    bad_pages: dict[int, BadPage] = Factory(dict)
    miscounted: set[str] = Factory(set)
    after: int = 0
    journal: JournalReading = Factory(lambda: JournalReading(0, 0))
    journal_error: str | None = None
    torn_bytes: int = 0
    problems: int = 0
    _strays: list[tuple[int, int]] | None = None

    def size(self) -> int:
        """About how many bytes the diagnosis reads."""
        files = [path for _, path in self.listing.segments]
        files += [self.listing.reader.file_of(number) for number in self.listing.pages]
        return sum(self._length(path) for path in files)

    def findings(self) -> Iterator[Finding]:
        """All problems, leftovers and notes."""
        for finding in self._findings():
            self.problems += finding.kind == "problem"
            yield finding

    def _findings(self) -> Iterator[Finding]:
        yield from self._manifest()
        if self.manifest is None:
            yield from self._pages_alone()
        else:
            yield from self._pages(self.manifest)
        yield from self._journal()
        if self.manifest is not None:
            for path, what in self.listing.leftovers(self.manifest):
                yield Finding(kind="leftover", file=path, what=what, end=self._length(path), at=0)
        for path in self.listing.kept:
            yield Finding(kind="note", file=path, what="files that a repair has replaced; the store does not need them")
        for path in self.listing.foreign:
            yield Finding(kind="note", file=path, what="is not the store's")

    # --- the manifest ---------------------------------------------------------------------------------------------

    def _manifest(self) -> Iterator[Finding]:
        listing = self.listing
        if not listing.manifests and self.manifest_path is None:
            if not listing.segments and listing.pages:
                what = "there are pages, but neither a manifest nor a journal"
                yield Finding(kind="problem", file=listing.path, what=what)
            elif not listing.pages or listing.segments[0][0] == 1:
                self.manifest = Manifest()  # there has been no checkpoint yet
            else:
                yield Finding(kind="problem", file=listing.path, what="there is no manifest")
                self.after = listing.segments[0][0] - 1
            return
        revision, path = self._newest()
        self.after = revision
        try:
            manifest = manifests.read(self.disk, path)
        except (OSError, StoreDamaged) as error:
            _unless_damage(error)
            length = self._length(path)
            yield Finding(kind="problem", file=path, what=_reason(error, path), at=0, end=length)
            return
        faults = list(manifest_faults(manifest))
        for fault in faults:
            yield Finding(kind="problem", file=path, what=fault)
        if not faults:
            self.manifest = manifest

    def _newest(self) -> tuple[int, str]:
        if self.manifest_path is None:
            return self.listing.manifests[-1]
        return manifests.revision_of(self.manifest_path), self.manifest_path

    # --- pages ----------------------------------------------------------------------------------------------------

    def _pages(self, manifest: Manifest) -> Iterator[Finding]:
        for keyspace, runs in manifest.keyspaces.items():
            for depth, run in enumerate(runs):
                yield from self._run(manifest, keyspace, depth, run)

    def _run(self, manifest: Manifest, keyspace: str, depth: int, run: SortedRun) -> Iterator[Finding]:
        tombstones = 0
        whole = True
        for ref in run.pages:
            page, found, is_other = self._page(keyspace, ref, manifest.revision)
            self.advance(ref.size)
            if page is None:
                file, count = self._elsewhere(ref)
                self.bad_pages[ref.number] = BadPage(keyspace, depth, ref, is_other, file)
                whole = False
                if file is not None:
                    what = f"{found[0].what}; page {ref.number} is whole in the file of page {file}"
                    found = [evolve(found[0], what=what, records=count, readable=count)]
            else:
                tombstones += tombstones_of(page)
            yield from found
        if whole and tombstones != run.tombstones:
            self.miscounted.add(keyspace)
            path = self._newest()[1]
            removed = counted(tombstones, "removed record")
            what = f"keyspace {keyspace!r}, run {depth}: {removed}, and should be {run.tombstones}"
            yield Finding(kind="problem", file=path, what=what)

    def _page(self, keyspace: str, ref: PageRef, revision: int) -> tuple[Page | None, list[Finding], bool]:
        """The page if it can be used; the problems with it; whether its file holds another page."""
        number = ref.number

        def problem(what: str, at: int | None, end: int | None, count: int | None, readable: int) -> Finding:
            return Finding(
                kind="problem",
                file=self.listing.reader.file_of(number),
                what=f"page {number}: {what}",
                at=at,
                end=end,
                page=number,
                keyspace=keyspace,
                first=ref.first,
                stop=ref.stop,
                records=count,
                readable=readable,
            )

        if number not in self.listing.pages:
            return None, [problem("there is no such file", None, None, None, 0)], False
        try:
            content = self.listing.reader.content(number)
        except StoreDamaged as error:
            _unless_damage(error)
            return None, [problem(str(error), None, None, None, 0)], False
        claim = claim_of(content, keyspace)
        try:
            page = Page(content)
            other = ref.fault(page)
            faults = [] if other is not None else list(faults_of(page, keyspace, ref, revision))
        except (StoreDamaged, *NONSENSE):
            readable = readable_records(content, claim, ref.first, ref.stop, revision)
            what, at, end = _checksum_fault(content, ref.size)
            return None, [problem(what, at, end, claim.count, len(readable))], False
        if other is not None:
            return None, [problem(other, None, None, None, 0)], True
        if not faults:
            return page, [], False
        readable = readable_records(content, claim, ref.first, ref.stop, revision)
        return None, [problem(what, at, None, len(page), len(readable)) for at, what in faults], False

    def _elsewhere(self, ref: PageRef) -> tuple[int | None, int]:
        """
        The number of the page in whose file this one is whole, and how many records it has. Files may have been swapped
        or renamed.
        """
        if self._strays is None:
            self._strays = list(self.listing.reader.strays(sorted(self.listing.pages)))
        for number, file in self._strays:
            if number == ref.number:
                with suppress(StoreDamaged):
                    return file, len(self.listing.reader.read(ref, file))
        return None, 0

    def _pages_alone(self) -> Iterator[Finding]:
        """Check the pages without a manifest."""
        for number in sorted(self.listing.pages):
            file = self.listing.reader.file_of(number)
            self.advance(self._length(file))
            try:
                self.listing.reader.read_loose(number)
            except StoreDamaged as error:
                _unless_damage(error)
                yield Finding(kind="problem", file=file, what=_reason(error, file), page=number)

    # --- the journal ----------------------------------------------------------------------------------------------

    def _journal(self) -> Iterator[Finding]:
        recovery = Recovery()
        try:
            for _ in replay(self.disk, self.path, self.after, recovery):
                pass
        except (OSError, StoreDamaged) as error:
            _unless_damage(error)
            self.journal_error = _reason(error)
        self.torn_bytes = recovery.torn_bytes
        self.journal = JournalReading(self.after, self.after)
        holes: list[Hole] = []
        behind: list[AfterGap] = []
        count = 0
        for event in self.journal.read(self.disk, self.listing):
            if isinstance(event, Hole):
                holes.append(event)
            elif isinstance(event, AfterGap):
                count += 1
                behind = [*behind[:1], event]
        self.advance(sum(self._length(path) for _, path in self.listing.segments))
        if self.journal_error is None:
            if self.torn_bytes:
                torn = counted(self.torn_bytes, "byte")
                what = f"its end is unfinished ({torn}) after a crash; the next start cuts it off"
                yield Finding(kind="note", file=self.listing.segments[-1][1], what=what)
            return
        # Zeros, or frames with an older salt, may follow the last frame. They count only if there is no other hole.
        certain = [hole for hole in holes if hole.found is not None and not hole.is_harmless] or holes
        told = [finding for hole in certain for finding in self._tell_hole(hole)]
        if not told:
            file = self.listing.segments[-1][1] if self.listing.segments else self.listing.path
            what = self.journal_error.removeprefix(f"{file}: ").removeprefix(f"{self.listing.path}: ")
            told = [Finding(kind="problem", file=file, what=what)]
        yield from told
        if behind:
            first, last = behind[0].transaction.revision, behind[-1].transaction.revision
            what = f"{counted(count, 'transaction')} from here on can be read, but follow missing ones"
            place = behind[0].place
            yield Finding(
                kind="note", file=place.path, what=what, at=place.start, end=place.end, revisions=(first, last)
            )

    def _tell_hole(self, hole: Hole) -> Iterator[Finding]:
        lost = (hole.expected, hole.found - 1) if hole.found is not None and hole.is_gap else None
        revisions = "" if lost is None else f", revisions {lost[0]} to {lost[1]} are missing"
        for place in hole.places:
            if place.is_rest and hole.found == hole.expected:
                continue
            what = f"no frame of the journal can be read here, after revision {hole.expected - 1}{revisions}"
            yield Finding(kind="problem", file=place.path, what=what, at=place.start, end=place.end, revisions=lost)
        if not hole.places and hole.found is not None:
            what = f"revision {hole.found} follows on {hole.expected - 1}{revisions}"
            yield Finding(kind="problem", file=self.listing.path, what=what, revisions=lost)

    def _length(self, path: str) -> int:
        try:
            return self.disk.length(path)
        except OSError:
            return 0


def manifest_faults(manifest: Manifest) -> Iterator[str]:
    """The faults of a manifest with a valid checksum."""
    seen: set[int] = set()
    for keyspace, runs in manifest.keyspaces.items():
        for depth, run in enumerate(runs):
            where = f"keyspace {keyspace!r}, run {depth}"
            if not run.pages:
                yield f"{where}: it has no page"
            before = b""
            for at, ref in enumerate(run.pages):
                if at and ref.first < before:
                    yield f"{where}: key {ref.first!r} follows on {before!r}"
                if ref.stop is not None and ref.stop <= ref.first:
                    yield f"{where}: a page from {ref.first!r} to before {ref.stop!r}"
                before = ref.first + b"\0" if ref.stop is None else ref.stop
                if ref.number in seen or not 0 < ref.number < manifest.next_page:
                    yield f"{where}: page number {ref.number} is used twice, or is not assigned yet"
                seen.add(ref.number)


def _checksum_fault(content: bytes, size: int) -> tuple[str, int, int]:
    """The fault of a page with a wrong checksum, and the bytes concerned (from, to)."""
    length = "" if len(content) == size else f", and it is {counted(len(content), 'byte')} long instead of {size}"
    if not content.startswith((PAGE_HEADER, OLD_PAGE_HEADER)):
        return f"it does not begin as a page{length}", 0, min(len(PAGE_HEADER), len(content))
    return f"its checksum is wrong{length}", BODY, len(content)


def _unless_damage(error: BaseException | None) -> None:
    """Raise an error that says nothing about the file: the process may not read it, or has no memory for it."""
    passing = passing_error(error)
    if passing is not None:
        raise passing


def _reason(error: Exception, path: str = "") -> str:
    """The reason of an error, without the name of the file."""
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror})"
    return str(error).removeprefix(f"{path}: ") if path else str(error)
