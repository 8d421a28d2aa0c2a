"""Faults in a page with a valid checksum that is the one that the manifest names: it was written wrong."""

from __future__ import annotations

from collections.abc import Iterator

from kvtwist.engine.page import Page, expires_of, is_record, is_tombstone, key_of, revision_of
from kvtwist.engine.sorted_run import PageRef


def faults_of(page: Page, keyspace: str, ref: PageRef, revision: int) -> Iterator[tuple[int | None, str]]:
    """
    (byte, description) of each fault; the byte is None for faults of the whole page.

    :param page: the page that the manifest names, see `PageRef.fault`.
    :param ref: its description in the manifest.
    :param revision: the revision of the manifest.

    Raises any of `NONSENSE` for bytes that were never written as a page.
    """
    if page.keyspace != keyspace:
        yield None, f"it is a page of keyspace {page.keyspace!r}"
    previous: bytes | None = None
    expires_ms: int | None = None
    for index in range(len(page)):
        at, _ = page.place(index)
        record = page.record(index)
        if not is_record(record):
            yield at, "there is no record where one should begin"
            return
        key = key_of(record)
        if previous is not None and key <= previous:
            yield at, f"key {key!r} follows on {previous!r}"
        if ref.stop is not None and key >= ref.stop:
            yield at, f"key {key!r} is not in the page's range, which ends before {ref.stop!r}"
        if not 0 < revision_of(record) <= revision:
            yield at, f"the record of key {key!r} is of revision {revision_of(record)}, the manifest of {revision}"
        expiry = None if is_tombstone(record) else expires_of(record)
        if expiry is not None:
            expires_ms = expiry if expires_ms is None else min(expires_ms, expiry)
        previous = key
    if expires_ms != ref.expires_ms:
        yield None, f"its first record to expire does so at {expires_ms}, and should at {ref.expires_ms}"


def tombstones_of(page: Page) -> int:
    """The number of tombstones in a page."""
    return sum(is_tombstone(record) for _, record in page.records())
