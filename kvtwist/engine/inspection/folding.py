"""
Merges the records of a keyspace for a repair, from sources of which some have holes.

The newest version of each key counts. If a page is lost, versions in older runs of the keys in its range are *older*:
they may have been replaced or removed since. Records that can be read of the lost page are *unsure*. Both are reported,
and left out unless the operator asks for them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from itertools import groupby
from operator import attrgetter
from typing import Literal

from attrs import frozen

from kvtwist.engine.inspection.diagnosis import Advance, BadPage
from kvtwist.engine.inspection.salvage import claim_of, readable_records
from kvtwist.engine.page import NONSENSE, Page, expires_of, is_tombstone, revision_of, weight_of
from kvtwist.engine.pages import PageReader
from kvtwist.engine.run_writer import EncodedRecords
from kvtwist.engine.sorted_run import PageRef
from kvtwist.model import DATA, HISTORY, STAGED, StoreDamaged

ReportKind = Literal["unsure", "older", "unreadable", "behind", "missing"]
MAX_REVISION = 2**48 - 1


@frozen(kw_only=True)
class Report:
    """
    Records that a repair does not save, or that it saves although they may be wrong.

    :ivar kind: `unsure`: a record of a damaged page; `older`: a version that a lost page may have replaced or removed;
        `unreadable`: the other records of a damaged page; `behind`: a change after a gap in the journal; `missing`:
        transactions that are lost.
    :ivar saved: whether the records are in the repaired store.
    :ivar key: the key of the record; None if unknown.
    :ivar revision: its revision.
    :ivar size: bytes of key and value; None for a removed record.
    :ivar page: the damaged page.
    :ivar records: how many records are concerned; None if unknown.
    :ivar first: the first key of their range; `stop`: its end (exclusive), None for the end of the keyspace.
    :ivar revisions: the first and the last missing transaction.
    """

    kind: ReportKind
    saved: bool = False
    keyspace: str | None = None
    key: bytes | None = None
    revision: int | None = None
    size: int | None = None
    page: int | None = None
    records: int | None = 1
    first: bytes | None = None
    stop: bytes | None = None
    revisions: tuple[int, int] | None = None


Told = Callable[[Report], object]


@frozen
class Version:
    """
    The record of a key in one source.

    :ivar level: the index of the source, 0 for the newest.
    :ivar page: the damaged page that it was read from; None if it is certain.
    """

    key: bytes
    record: bytes
    level: int
    page: int | None = None


@frozen
class Wishes:
    """
    The options of a repair.

    :ivar salvage: whether to save unsure records.
    :ivar keep_older: whether to save older ones.
    :ivar stop_at_gap: whether to leave out the transactions after a gap in the journal.
    """

    salvage: bool = False
    keep_older: bool = False
    stop_at_gap: bool = False


class Holes:
    """The key ranges of lost pages, by level."""

    def __init__(self, bad: Sequence[BadPage]) -> None:
        """:param bad: the lost pages of one keyspace. The journal is level 0, the newest run level 1."""
        self._levels: dict[int, list[tuple[bytes, bytes | None, int]]] = defaultdict(list)
        for page in sorted(bad, key=lambda page: page.ref.first):
            self._levels[page.depth + 1].append((page.ref.first, page.ref.stop, page.ref.number))

    def above(self, key: bytes, level: int) -> int | None:
        """The lost page that may have held a newer version of a key than a level does; None if there is none."""
        for at, ranges in self._levels.items():
            if at < level:
                index = bisect_right(ranges, key, key=lambda found: found[0]) - 1
                if index >= 0 and (ranges[index][1] is None or key < (ranges[index][1] or b"")):
                    return ranges[index][2]
        return None


def certain(records: EncodedRecords, level: int) -> Iterator[Version]:
    """The versions of records that are undamaged."""
    for key, record in records:
        yield Version(key, record, level)


def run_versions(
    reader: PageReader,
    keyspace: str,
    refs: list[PageRef],
    level: int,
    bad: dict[int, BadPage],
    revision: int,
    advance: Advance,
) -> Iterator[Version]:
    """The versions in a run, including records that can be read of its damaged pages."""
    for ref in refs:
        advance(ref.size)
        page = bad.get(ref.number)
        if page is None or page.file is not None:
            yield from certain(reader.read(ref, None if page is None else page.file).records(), level)
        elif not page.is_other:
            for key, record in salvaged(reader, ref.number, keyspace, ref.first, ref.stop, revision):
                yield Version(key, record, level, ref.number)


def salvaged(
    reader: PageReader, number: int, keyspace: str | None, first: bytes, stop: bytes | None, revision: int
) -> list[tuple[bytes, bytes]]:
    """The readable records of a damaged page, see `kvtwist.engine.inspection.salvage`."""
    try:
        content = reader.content(number)
    except StoreDamaged:
        return []
    return readable_records(content, claim_of(content, keyspace), first, stop, revision)


def folded(
    keyspace: str,
    sources: Sequence[Iterator[Version]],
    holes: Holes | None,
    wishes: Wishes,
    now_ms: int,
    told: Told,
) -> EncodedRecords:
    """
    (key, encoded record) of each key's newest version, in order.

    :param sources: the newest first.
    :param holes: the lost pages; None if the order of the sources is unknown, so that the largest revision counts.
    """
    by_key = attrgetter("key")
    for key, group in groupby(merge(*sources, key=by_key), key=by_key):
        versions = list(group)
        if holes is None:
            versions.sort(key=lambda version: revision_of(version.record), reverse=True)
        record = _newest(keyspace, versions, holes, wishes, now_ms, told)
        if record is not None:
            yield key, record


def _newest(
    keyspace: str, versions: list[Version], holes: Holes | None, wishes: Wishes, now_ms: int, told: Told
) -> bytes | None:
    skipped: int | None = None
    for version in versions:
        above = skipped if holes is None else holes.above(version.key, version.level)
        if version.page is None and above is None:
            return version.record
        saved = (version.page is None or wishes.salvage) and (above is None or wishes.keep_older)
        if not _is_dead(version.record, now_ms) or version.page is not None:
            told(_report(keyspace, version, above, saved))
        if saved:
            return version.record
        if version.page is None:
            return None  # it has replaced the versions below
        skipped = version.page
    return None


def _is_dead(record: bytes, now_ms: int) -> bool:
    if is_tombstone(record):
        return True
    expires_ms = expires_of(record)
    return expires_ms is not None and expires_ms <= now_ms


def _report(keyspace: str, version: Version, above: int | None, saved: bool) -> Report:
    return Report(
        kind="older" if version.page is None else "unsure",
        saved=saved,
        keyspace=keyspace,
        key=version.key,
        revision=revision_of(version.record),
        size=None if is_tombstone(version.record) else weight_of(version.record),
        page=above if version.page is None else version.page,
    )


# --- without a manifest -----------------------------------------------------------------------------------------------


@frozen
class _Found:
    number: int
    first: bytes
    last: bytes


class LoosePages:
    """
    All pages of a directory without a manifest, by the keyspace in their headers.

    Pages whose ranges do not overlap form a chain, so that at most as many pages are in memory as there were runs.

    :ivar highest: the largest revision of a record in an undamaged page.
    :ivar unreadable: pages whose keyspace cannot be read.
    """

    def __init__(self, reader: PageReader, numbers: set[int], advance: Advance) -> None:
        self.highest = 0
        self.unreadable: list[int] = []
        self._reader = reader
        self._chains: dict[str, list[list[int]]] = {}
        self._damaged: dict[str, list[int]] = defaultdict(list)
        found: dict[str, list[_Found]] = defaultdict(list)
        for number in sorted(numbers):
            self._sort_in(number, found, advance)
        self._chains = {name: _chains(pages) for name, pages in found.items()}
        for name in [name for name in self._damaged if name not in {*found, DATA, STAGED, HISTORY}]:
            self.unreadable += self._damaged.pop(name)  # the name is damaged

    def _sort_in(self, number: int, found: dict[str, list[_Found]], advance: Advance) -> None:
        try:
            content = self._reader.content(number)
            advance(len(content))
        except StoreDamaged:
            self.unreadable.append(number)
            return
        try:
            page = Page(content)
            revisions = [revision_of(record) for _, record in page.records()]
            if revisions:
                found[page.keyspace].append(_Found(number, page[0], page[len(page) - 1]))
                self.highest = max(self.highest, *revisions)
        except (StoreDamaged, *NONSENSE):
            name = claim_of(content).keyspace
            if name:
                self._damaged[name].append(number)
            else:
                self.unreadable.append(number)

    def names(self) -> set[str]:
        """The keyspaces with pages."""
        return {*self._chains, *self._damaged}

    def damaged(self) -> Iterator[tuple[str | None, int]]:
        """(keyspace, page) of each damaged page; the keyspace may be None."""
        for number in self.unreadable:
            yield None, number
        for name, numbers in self._damaged.items():
            for number in numbers:
                yield name, number

    def sources(self, keyspace: str, not_before: int, highest: int, advance: Advance) -> Iterator[Iterator[Version]]:
        """
        :param not_before: the revision at which the keyspace was cleared. Older records are left out.
        :param highest: the largest possible revision of a record in a damaged page.
        """
        for chain in self._chains.get(keyspace, []):
            yield self._chain(chain, not_before, advance)
        for number in self._damaged.get(keyspace, []):
            records = salvaged(self._reader, number, keyspace, b"", None, highest)
            newer = [(key, record) for key, record in records if revision_of(record) >= not_before]
            yield iter([Version(key, record, 1, number) for key, record in newer])

    def _chain(self, chain: list[int], not_before: int, advance: Advance) -> Iterator[Version]:
        for number in chain:
            page = Page(self._reader.content(number))
            advance(page.size)
            for key, record in page.records():
                if revision_of(record) >= not_before:
                    yield Version(key, record, 1)


def _chains(pages: list[_Found]) -> list[list[int]]:
    chains: list[tuple[list[int], bytes]] = []
    for page in sorted(pages, key=attrgetter("first")):
        at = next((at for at, (_, last) in enumerate(chains) if last < page.first), None)
        if at is None:
            chains.append(([page.number], page.last))
        else:
            chain, _ = chains[at]
            chain.append(page.number)
            chains[at] = chain, page.last
    return [chain for chain, _ in chains]
