"""
Reads a journal that may be damaged: skips what cannot be read, and reports what is missing.

Transactions count as long as their revisions are consecutive. Those after a gap are reported as such (`AfterGap`),
since they build on the missing ones.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import Factory, define, frozen

from kvtwist.engine.disk import Disk
from kvtwist.engine.frame import Transaction, whole_frames
from kvtwist.engine.inspection.directory import Listing
from kvtwist.engine.segment import header_of


@frozen
class Place:
    """
    Bytes of a segment.

    :ivar is_rest: whether they reach to the end of the file, so that there may never have been a frame.
    """

    path: str
    start: int
    end: int
    is_rest: bool = False


@frozen
class Hole:
    """
    Unreadable bytes, or missing transactions, between two transactions.

    :ivar places: the unreadable bytes.
    :ivar expected: the revision that should be next.
    :ivar found: the revision that is next; None if none follows.
    """

    places: list[Place]
    expected: int
    found: int | None

    @property
    def is_harmless(self) -> bool:
        """Whether nothing is missing, and the unreadable bytes are at the ends of files."""
        return self.found == self.expected and all(place.is_rest for place in self.places)

    @property
    def is_gap(self) -> bool:
        """Whether transactions are missing, and others follow."""
        return self.found is not None and self.found > self.expected


@frozen
class AfterGap:
    """A transaction that can be read, but follows a gap."""

    place: Place
    transaction: Transaction


Event = Transaction | Hole | AfterGap


@define
class JournalReading:
    """
    :ivar revision: the last transaction before the first gap.
    :ivar highest: the largest revision that was found.
    """

    revision: int
    highest: int
    _places: list[Place] = Factory(list)
    _gap: bool = False

    def read(self, disk: Disk, listing: Listing) -> Iterator[Event]:
        """All events after `revision`, in order. The attributes are valid after the last one."""
        after = self.revision
        needed = listing.needed_segments(after)
        if needed:
            self.revision = min(after, needed[0][0] - 1)
        for first, path in needed:
            self.highest = max(self.highest, first - 1)
            try:
                content = disk.read(path)
            except OSError:
                self._places.append(Place(path, 0, 0))
                continue
            for event in self._read_segment(path, content):
                if not isinstance(event, Transaction) or event.revision > after:
                    yield event
        yield from self._read_others(disk, listing, needed)
        if needed and not self._gap and self.revision + 1 < needed[-1][0]:
            # The last segment is empty, and the transactions before it are missing.
            yield self._hole(needed[-1][0])
        if self._places:
            yield self._hole(None)
        self.revision = max(self.revision, after)

    def _read_others(self, disk: Disk, listing: Listing, needed: list[tuple[int, str]]) -> Iterator[Event]:
        """Later transactions in segments that are not needed by their names: they were renamed."""
        for found in listing.segments:
            _, path = found
            if found in needed or any(disk.is_same(path, read) for _, read in needed):
                continue
            try:
                content = disk.read(path)
            except OSError:
                continue
            for frame in whole_frames(content, header_of(content)[0]):
                for transaction in frame.batch.transactions:
                    if transaction.revision > self.revision:
                        yield from self._take(transaction, Place(path, frame.start, frame.end))

    def _read_segment(self, path: str, content: bytes) -> Iterator[Event]:
        salt, whole, at = header_of(content)
        if not whole and content:
            self._places.append(Place(path, 0, at))
        for frame in whole_frames(content, salt):
            if frame.start > at:
                self._places.append(Place(path, at, frame.start))
            at = frame.end
            for transaction in frame.batch.transactions:
                yield from self._take(transaction, Place(path, frame.start, frame.end))
        if at < len(content):
            self._places.append(Place(path, at, len(content), True))

    def _take(self, transaction: Transaction, place: Place) -> Iterator[Event]:
        revision = transaction.revision
        self.highest = max(self.highest, revision)
        if self._gap:
            yield AfterGap(place, transaction)
            return
        if self._places or revision != self.revision + 1:
            yield self._hole(revision)
        if revision > self.revision + 1:
            self._gap = True
            yield AfterGap(place, transaction)
        elif revision == self.revision + 1:
            self.revision = revision
            yield transaction

    def _hole(self, found: int | None) -> Hole:
        hole = Hole(self._places, self.revision + 1, found)
        self._places = []
        return hole
