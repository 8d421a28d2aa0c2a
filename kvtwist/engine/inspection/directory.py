"""Lists the files of a store by name: the first step of every tool. It opens no file and makes none."""

from __future__ import annotations

import os
from collections.abc import Iterator

from attrs import Factory, define

from kvtwist.engine import manifest as manifests
from kvtwist.engine.backup import END
from kvtwist.engine.disk import Disk
from kvtwist.engine.disk_space import PIECES, SPARE
from kvtwist.engine.manifest import Manifest
from kvtwist.engine.pages import PageReader, is_unfinished, page_number
from kvtwist.engine.segment import segments
from kvtwist.engine.storage import ADMIN_SOCKET
from kvtwist.model import StoreError

_ALWAYS = {"lock", "pages", SPARE, ADMIN_SOCKET, f"{ADMIN_SOCKET}.lock", END, *PIECES}
DAMAGED = "damaged-"
"""The beginning of the names of directories in which a repair keeps the old files."""


class NotAStore(StoreError):
    """A directory holds no store."""


@define
class Listing:
    """
    :ivar path: the directory.
    :ivar manifests: (revision, path) of each manifest, oldest first.
    :ivar segments: (first revision, path) of each segment, oldest first.
    :ivar pages: the numbers of all pages.
    :ivar unfinished: paths of manifests and pages that were not finished.
    :ivar spare: path of the spare segment, if there is one.
    :ivar kept: paths of directories in which a repair keeps the old files.
    :ivar foreign: paths of files that do not belong to the store.
    """

    path: str
    manifests: list[tuple[int, str]]
    segments: list[tuple[int, str]]
    reader: PageReader
    pages: set[int] = Factory(set)
    unfinished: list[str] = Factory(list)
    spare: list[str] = Factory(list)
    kept: list[str] = Factory(list)
    foreign: list[str] = Factory(list)

    def needed_segments(self, after: int) -> list[tuple[int, str]]:
        """The segments that a start reads after a manifest of revision `after`."""
        begun = [first for first, _ in self.segments if first <= after + 1]
        return [found for found in self.segments if found[0] >= max(begun, default=0)]

    def files(self) -> list[str]:
        """The paths of all files of the store, except the lock and the files that a repair keeps."""
        found = [path for _, path in [*self.manifests, *self.segments]]
        return [*found, *map(self.reader.file_of, sorted(self.pages)), *self.unfinished, *self.spare]

    def leftovers(self, manifest: Manifest) -> Iterator[tuple[str, str]]:
        """(path, description) of files that the store of a manifest does not need. Its next start removes them."""
        for number in sorted(self.pages - manifest.pages()):
            yield self.reader.file_of(number), f"page {number}, which the manifest does not name"
        for revision, path in self.manifests:
            if revision != manifest.revision:
                yield path, "another manifest than the one that counts"
        needed = self.needed_segments(manifest.revision)
        for segment in self.segments:
            if segment not in needed:
                yield segment[1], "a segment of which everything is in pages"
        for path in self.unfinished:
            yield path, "not finished"


def look(disk: Disk, path: str) -> Listing:
    """
    List the files of a store.

    :raises NotAStore: the directory holds no store.
    :raises StoreError: it cannot be read.
    """
    path = os.path.abspath(path)
    try:
        names = disk.names(path)
    except FileNotFoundError:
        raise NotAStore(f"{path}: there is no such directory") from None
    except NotADirectoryError:
        raise NotAStore(f"{path} is not a directory") from None
    except OSError as error:
        raise StoreError(f"cannot use {path}: {error.strerror}") from error
    reader = PageReader(disk, os.path.join(path, "pages"))
    listing = Listing(path, manifests.found(disk, path), segments(disk, path), reader)
    known = {os.path.basename(file) for _, file in [*listing.manifests, *listing.segments]} | _ALWAYS
    for name in names:
        if name == SPARE:
            listing.spare.append(os.path.join(path, name))
        elif name.startswith(DAMAGED):
            listing.kept.append(os.path.join(path, name))
        elif name not in known:
            ours = manifests.is_unfinished(name)
            (listing.unfinished if ours else listing.foreign).append(os.path.join(path, name))
    if "pages" in names:
        _look_at_pages(disk, listing)
    begun = "lock" in names and "pages" in names
    if not (listing.manifests or listing.segments or listing.pages or begun):
        raise NotAStore(f"{path}: there is no store in this directory")
    return listing


def _look_at_pages(disk: Disk, listing: Listing) -> None:
    directory = listing.reader.path
    try:
        names = disk.names(directory)
    except OSError as error:
        raise StoreError(f"cannot use {directory}: {error.strerror}") from error
    for name in names:
        number = page_number(name)
        if number is not None:
            listing.pages.add(number)
        else:
            (listing.unfinished if is_unfinished(name) else listing.foreign).append(os.path.join(directory, name))
