"""Records in the JSON of the native profile: key, value and metadata."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import lru_cache

from kvtwist.interfaces import IStore
from kvtwist.model import Range, Record
from kvtwist.profiles._json import quote
from kvtwist.profiles._listing import Element
from kvtwist.profiles._reply import Text, as_json_or_base64
from kvtwist.profiles._scan import Items

_quoted_type = lru_cache(1024)(quote)


def item(name: str, record: Record, keys_only: bool = False) -> Element:
    """The JSON object of a record; the middle part is its value."""
    key = b'{"key":' + quote(name)
    expires = b"null" if record.expires_ms is None else b"%d" % record.expires_ms
    after = b',"content_type":%b,"revision":%d,"modified":%d,"expires":%b}' % (
        _quoted_type(record.media_type),
        record.revision,
        record.modified_ms,
        expires,
    )
    if keys_only:
        return key, b"", after
    is_base64, text = as_json_or_base64(record)
    return key + (b',"value_base64":' if is_base64 else b',"value":'), text, after


def on_one_line(text: Text) -> Text:
    """JSON without line breaks, which it has between its tokens only; the same objects if there are none."""
    return _unbroken(text) if isinstance(text, bytes) else map(_unbroken, text)


def _unbroken(text: bytes) -> bytes:
    return text.replace(b"\n", b" ").replace(b"\r", b" ")


def named(items: Items) -> Iterator[tuple[str, Record]]:
    """Remove the records from a slice, and yield those with UTF-8 keys. Other keys cannot be named in JSON or paths."""
    while items:
        key, record = items.popleft()
        try:
            name = key.decode()
        except UnicodeDecodeError:
            continue
        yield name, record


def elements(items: Items, keys_only: bool) -> Iterator[Element]:
    """The JSON objects of a slice, whose records are removed."""
    for name, record in named(items):
        yield item(name, record, keys_only)


def lines(items: Items, keys_only: bool) -> Iterator[Element]:
    """The JSON objects of a slice, whose records are removed, each in a line."""
    for before, text, after in elements(items, keys_only):
        yield before, on_one_line(text), after + b"\n"


async def page_of(store: IStore, asked: Range) -> tuple[int, Items, bytes]:
    """
    A page of a listing: the revision that it shows, its records, and the JSON of `next`, the last key that it names if
    there may be more.
    """
    revision: int | None = None
    start, stop = asked.start, asked.stop
    while True:
        found = await store.scan(asked.keyspace, start, stop, asked.limit, asked.reverse)
        revision = found.revision if revision is None else revision
        last = [name for name, _ in named(deque(found.items))][-1:]
        if found.resume is None:
            return revision, deque(found.items), b"null"
        if last:
            return revision, deque(found.items), quote(last[0])
        start, stop = (start, found.resume) if asked.reverse else (found.resume, stop)


def after_prefix(prefix: bytes) -> bytes | None:
    """The first key after all keys with a prefix; None if there is none."""
    shortened = prefix.rstrip(b"\xff")
    return shortened[:-1] + bytes([shortened[-1] + 1]) if shortened else None
