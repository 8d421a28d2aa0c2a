"""
Reading a journal that may be damaged: on past what cannot be read, saying what is missing.

Transactions are given out for as long as their revisions are consecutive. What is behind a gap is told, and never
given out as a part of the store: it was built upon what is missing.
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
    Bytes of a file that are no frame, or no header, of a journal.

    :ivar is_rest: whether they are all that follows in the file: nothing need ever have been written there.
    """

    path: str
    start: int
    end: int
    is_rest: bool = False


@frozen
class Hole:
    """
    Something between two transactions that should not be there, or is missing.

    :ivar places: the bytes that it may have been in.
    :ivar expected: the revision that should be next.
    :ivar found: the revision that is; None: none follows.
    """

    places: list[Place]
    expected: int
    found: int | None

    @property
    def is_harmless(self) -> bool:
        """Whether nothing is missing, and there is nothing that should not be there."""
        return self.found == self.expected and all(place.is_rest for place in self.places)

    @property
    def is_gap(self) -> bool:
        """Whether transactions are missing here, and others follow."""
        return self.found is not None and self.found > self.expected


@frozen
class Behind:
    """A transaction that can be read, and is behind a gap."""

    place: Place
    transaction: Transaction


Event = Transaction | Hole | Behind


@define
class JournalReading:
    """
    :ivar revision: the last transaction before the first gap.
    :ivar highest: the largest revision that was seen anywhere.
    """

    revision: int
    highest: int
    _places: list[Place] = Factory(list)
    _gap: bool = False

    def read(self, disk: Disk, listing: Listing) -> Iterator[Event]:
        """Everything that a listing's journal holds behind `revision`, in order. Read to the end before asking it."""
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
            # The last segment is empty, and what should be before it is not.
            yield self._hole(needed[-1][0])
        if self._places:
            yield self._hole(None)
        self.revision = max(self.revision, after)

    def _read_others(self, disk: Disk, listing: Listing, needed: list[tuple[int, str]]) -> Iterator[Event]:
        """What follows in segments that are not needed by their names: somebody has renamed them."""
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
            yield Behind(place, transaction)
            return
        if self._places or revision != self.revision + 1:
            yield self._hole(revision)
        if revision > self.revision + 1:
            self._gap = True
            yield Behind(place, transaction)
        elif revision == self.revision + 1:
            self.revision = revision
            yield transaction

    def _hole(self, found: int | None) -> Hole:
        hole = Hole(self._places, self.revision + 1, found)
        self._places = []
        return hole
