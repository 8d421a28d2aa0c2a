"""
Reads transactions back from the journal of a store in use, for watches that are far behind.

A checkpoint may remove segments meanwhile. It removes the oldest ones first, so what is found has no gap.
"""

from __future__ import annotations

from bisect import bisect_right

from twisted.internet.defer import Deferred

from kvtwist.engine.disk import Disk
from kvtwist.engine.frame import Transaction, frame_at, frame_size
from kvtwist.engine.segment import HEADER_SIZE, header_of, segments, segments_after
from kvtwist.engine.worker import Worker

_AT_A_TIME = 2**20
"""How many bytes are read in one job, unless a frame is longer."""
_PLACES = 1000
"""How many places are remembered."""


class Backlog:
    """:param worker: its jobs read the journal."""

    def __init__(self, disk: Disk, directory: str, worker: Worker) -> None:
        self._disk = disk
        self._directory = directory
        self._worker = worker
        self._places: list[tuple[int, str, int]] = []
        """Where frames begin: (the revision before, path of the segment, offset), in order. For the jobs only."""

    def oldest(self, durable: int) -> Deferred[int]:
        """The earliest revision after which the journal holds all transactions up to the last durable one."""
        return self._worker.run(self._oldest, durable)

    def read(self, after: int, durable: int) -> Deferred[list[Transaction] | None]:
        """
        Some of the transactions after a revision and up to the last durable one, without a gap; None if the journal
        does not hold them. The list may be empty: the next call reads on.

        Fails with `OSError`.
        """
        return self._worker.run(self._read, after, durable)

    def _oldest(self, durable: int) -> int:
        found = segments(self._disk, self._directory)
        return min(found[0][0] - 1, durable) if found else durable

    def _read(self, after: int, durable: int) -> list[Transaction] | None:
        place = self._place_before(after)
        if place is None:
            return None
        revision, path, offset = place
        try:
            transactions, end = self._frames(path, offset, durable)
        except FileNotFoundError:  # a checkpoint has just removed the segment
            return None
        if not transactions or transactions[0].revision != revision + 1:
            return None
        self._remember(transactions[-1].revision, path, end)
        return [transaction for transaction in transactions if transaction.revision > after]

    def _place_before(self, after: int) -> tuple[int, str, int] | None:
        """A place from which on the transactions after a revision are found."""
        found = segments_after(self._disk, self._directory, after)
        if not found or found[0][0] > after + 1:
            return None
        first, path = found[0]
        at = bisect_right(self._places, after, key=_revision_of) - 1
        if at >= 0 and self._places[at][1] == path:
            return self._places[at]
        return first - 1, path, HEADER_SIZE

    def _remember(self, revision: int, path: str, offset: int) -> None:
        if len(self._places) >= _PLACES:
            self._places.clear()
        at = bisect_right(self._places, revision, key=_revision_of)
        if not at or self._places[at - 1][0] != revision:
            self._places.insert(at, (revision, path, offset))

    def _frames(self, path: str, offset: int, durable: int) -> tuple[list[Transaction], int]:
        """The transactions of some frames, and where the next frame begins."""
        salt, _, _ = header_of(self._disk.read_part(path, 0, HEADER_SIZE))
        data = memoryview(self._disk.read_part(path, offset, _AT_A_TIME))
        size = frame_size(data, 0, salt)
        if size is not None and size > len(data):
            data = memoryview(self._disk.read_part(path, offset, size))
        transactions: list[Transaction] = []
        at = 0
        while (frame := frame_at(data, at, salt)) is not None:
            if frame.batch.transactions[-1].revision > durable:
                break  # it may still fail, and be written over
            transactions += frame.batch.transactions
            at = frame.end
        return transactions, offset + at


def _revision_of(place: tuple[int, str, int]) -> int:
    return place[0]
