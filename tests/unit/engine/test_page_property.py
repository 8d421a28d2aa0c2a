"""
A key is found in a page however it is looked for, as it is in a dictionary.

A key may be anywhere: in front of another key, within it, in a value, in the name of a media type, across two records;
and a value may look like a record.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kvtwist.engine.memtable import Entry, Tombstone
from kvtwist.engine.page import LANDMARKS, Page, encode_page, encode_record
from kvtwist.model import DATA, JSON, OCTETS, TEXT, Record
from tests.support.engine import TestCase

_LAST = 2**48 - 1
_LETTERS = b"\x00\x01ab\xff"
KEYS = st.one_of(
    st.lists(st.sampled_from(_LETTERS), max_size=5).map(bytes),
    st.binary(max_size=3),
    st.builds(lambda letter, size: bytes([letter]) * size, st.sampled_from(_LETTERS), st.sampled_from((15, 255, 300))),
)
_NUMBERS = st.one_of(st.sampled_from((0, 1, 0x6161, 2**32 - 1, 2**32, _LAST)), st.integers(0, _LAST))
_MEDIA_TYPES = st.one_of(st.sampled_from((JSON, TEXT, OCTETS)), st.sampled_from(("", "a", "ab", "text/x" * 40)))
_SIZES = st.sampled_from((0, 1, 1, 1, 1, 1, 1, 20, 600, 9000))


@st.composite
def entries(draw: st.DrawFn) -> dict[bytes, Entry]:
    """In key order. Some values are full of keys, or hold what a record of one would be."""
    keys = sorted(draw(st.sets(KEYS, min_size=1, max_size=3 * LANDMARKS)))
    some = st.sampled_from(keys)
    plain = st.builds(lambda key: encode_record(key, Record(b"not this", TEXT, 1, 1)), some)
    values = st.builds(lambda piece, size: (piece * size)[:10_000], st.one_of(some, plain, KEYS), _SIZES)
    numbers = st.one_of(_NUMBERS, some.map(lambda key: int.from_bytes(key[:6], "little")))
    records = st.builds(Record, values, _MEDIA_TYPES, numbers, numbers, st.one_of(st.none(), st.none(), numbers))
    # Few different ones, so that there may be many.
    kinds = draw(st.lists(st.one_of(records, records, st.builds(Tombstone, numbers)), min_size=1, max_size=6))
    return {key: draw(st.sampled_from(kinds)) for key in keys}


class PageProperty(TestCase):
    @settings(max_examples=200)
    @given(entries(), st.lists(KEYS, max_size=10), st.lists(st.tuples(st.integers(0), st.integers(0, 20)), max_size=10))
    def test_a_page_is_a_dictionary(
        self, held: dict[bytes, Entry], others: list[bytes], pieces: list[tuple[int, int]]
    ) -> None:
        content = encode_page(1, DATA, [encode_record(key, entry) for key, entry in held.items()])
        page = Page(content)
        asked = {*held, *others, b""}
        for key in held:
            asked |= {key[:-1], key[1:], key[: len(key) % 256], key + b"\x00", key + b"a", b"\x00" + key}
        for entry in held.values():
            if isinstance(entry, Record) and entry.expires_ms is not None:
                asked |= {entry.expires_ms.to_bytes(6, "little")[:size] for size in range(1, 7)}
        for at, size in pieces:  # any bytes of the page itself
            asked.add(content[at % len(content) :][:size])
        for key in asked:
            self.assertEqual(page.get(key), held.get(key), key)
        self.assertEqual(list(page.range(b"", None)), list(held.items()))
        self.assertEqual(list(page.records()), list(Page(content).records()), "large ones were asked for before")
