"""Preconditions of RFC 9110, 13: how they are read, and what they permit."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from werkzeug.exceptions import BadRequest, PreconditionFailed

from kvtwist.model import DATA, OCTETS, Delete, Record
from kvtwist.profiles._conditions import not_modified, preconditions, transact_if
from tests.support.engine import EngineCase, put, result_of

MODIFIED_MS: Final = 784_111_777_250
"""A quarter of a second after the date that RFC 9110 uses."""
RECORD: Final = Record(b"v", OCTETS, 7, MODIFIED_MS)
AT, BEFORE, AFTER = (b"Sun, 06 Nov 1994 08:49:%d GMT" % second for second in (37, 36, 38))


class Request:
    """As much of one as has conditions."""

    def __init__(self, **headers: bytes) -> None:
        self._headers = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        self.conditional = bool(headers)

    def getHeader(self, name: bytes) -> bytes | None:
        return self._headers.get(name)


def read(record: Record, **headers: bytes) -> int:
    """The status of a GET."""
    try:
        answer = not_modified(Request(**headers), record, {})
    except PreconditionFailed:
        return 412
    return 200 if answer is None else answer.code


def permitted(record: Record | None, **headers: bytes) -> bool:
    """Whether a PUT is done."""
    asked = preconditions(Request(**headers))
    return asked is None or asked.permit(record)


class ReadTests(SynchronousTestCase):
    def test_reads(self) -> None:
        for headers, status in (
            ({}, 200),
            ({"if_match": b'"7"'}, 200),
            ({"if_match": b'"6", "7"'}, 200),
            ({"if_match": b'"8"'}, 412),
            ({"if_match": b"*"}, 200),
            ({"if_match": b'W/"7"'}, 412),  # a strong comparison
            ({"if_none_match": b'"7"'}, 304),
            ({"if_none_match": b'W/"7"'}, 304),
            ({"if_none_match": b'"1","07","77"'}, 200),
            ({"if_none_match": b"*"}, 304),
            ({"if_modified_since": AT}, 304),
            ({"if_modified_since": AFTER}, 304),
            ({"if_modified_since": BEFORE}, 200),
            ({"if_modified_since": b"yesterday"}, 200),
            ({"if_modified_since": b""}, 200),
            ({"if_none_match": b'"1"', "if_modified_since": AFTER}, 200),  # the date does not count beside tags
            ({"if_unmodified_since": AT}, 200),
            ({"if_unmodified_since": BEFORE}, 412),
            ({"if_unmodified_since": b"?"}, 200),
            ({"if_match": b'"7"', "if_unmodified_since": BEFORE}, 200),
            ({"if_match": b'"8"', "if_none_match": b'"7"'}, 412),
            ({"if_match": b'"7"', "if_none_match": b'"7"'}, 304),
        ):
            with self.subTest(headers=headers):
                self.assertEqual(read(RECORD, **headers), status)

    def test_what_is_no_list_of_tags_is_refused(self) -> None:
        for value in (
            b"",
            b"7",
            b'"7',
            b'7"',
            b'"a" "b"',
            b'w/"7"',
            b"*, *",
            b'*,"7"',
            b'"\x7f"',
            b'W/ "7"',
            b",",
            b"W/",
        ):
            for header in ("if_match", "if_none_match"):
                with self.subTest(value=value):
                    self.assertRaises(BadRequest, preconditions, Request(**{header: value}))

    @given(
        st.lists(st.tuples(st.booleans(), st.binary(max_size=3)), min_size=1), st.sampled_from([b",", b", ", b" ,,\t"])
    )
    def test_any_list_of_tags_is_read(self, tags: list[tuple[bool, bytes]], comma: bytes) -> None:
        opaque = [bytes(byte for byte in tag if byte > 0x20 and byte not in b'"\x7f') for _, tag in tags]
        value = comma.join(
            (b"W/" if weak else b"") + b'"%b"' % tag for (weak, _), tag in zip(tags, opaque, strict=True)
        )
        asked = preconditions(Request(if_match=value, if_none_match=value))
        assert asked is not None
        self.assertEqual(asked.none_match, set(opaque))
        self.assertEqual(asked.match, {tag for (weak, _), tag in zip(tags, opaque, strict=True) if not weak})


class WriteTests(SynchronousTestCase):
    def test_writes(self) -> None:
        for headers, on_record, on_nothing in (
            ({}, True, True),
            ({"if_match": b'"7"'}, True, False),
            ({"if_match": b'"8"'}, False, False),
            ({"if_match": b'"0"'}, False, False),
            ({"if_match": b"*"}, True, False),
            ({"if_none_match": b"*"}, False, True),
            ({"if_none_match": b'"7"'}, False, True),
            ({"if_none_match": b'"8"'}, True, True),
            ({"if_unmodified_since": AT}, True, True),
            ({"if_unmodified_since": BEFORE}, False, True),
            ({"if_modified_since": AFTER}, True, True),  # is for reads
            ({"if_match": b'"7"', "if_none_match": b"*"}, False, False),
        ):
            with self.subTest(headers=headers):
                self.assertEqual(permitted(RECORD, **headers), on_record)
                self.assertEqual(permitted(None, **headers), on_nothing)


class TransactTests(EngineCase):
    def delete(self, exists: bool = False, **headers: bytes) -> bool:
        async def delete() -> bool:
            asked = preconditions(Request(**headers))
            outcome = await transact_if(asked, self.engine.store, DATA, b"a", [Delete(DATA, b"a")], exists)
            return outcome.committed

        return bool(result_of(Deferred.fromCoroutine(delete())))

    def test_what_is_not_permitted_is_not_done(self) -> None:
        self.engine.put(b"a", b"1")
        with self.assertRaises(PreconditionFailed):
            self.delete(if_match=b'"2"')
        self.assertIn(b"a", dict(self.engine.records()))
        self.assertTrue(self.delete(if_match=b'"1"'))
        self.assertNotIn(b"a", dict(self.engine.records()))

    def test_a_key_that_must_exist_comes_before_what_is_asked_of_it(self) -> None:
        for headers in ({}, {"if_match": b'"1"'}, {"if_none_match": b'"1"'}):
            self.assertFalse(self.delete(exists=True, **headers))
        with self.assertRaises(PreconditionFailed):
            self.delete(if_match=b'"1"')

    def overtaken(self) -> None:
        """Have another write come between the next look at the record and the transaction."""
        store = self.engine.store
        transact = store.transact

        def after_another(*arguments: Any) -> Any:
            store.transact = transact  # type: ignore[method-assign]
            result_of(transact([], [put(b"a", b"other")]))
            return transact(*arguments)

        store.transact = after_another  # type: ignore[method-assign]

    def test_a_record_that_changes_after_it_was_looked_at_is_looked_at_again(self) -> None:
        self.engine.put(b"a", b"1")
        self.overtaken()
        with self.assertRaises(PreconditionFailed):
            self.delete(if_match=b'"1"')
        self.assertEqual(dict(dict(self.engine.records()))[b"a"].value, b"other")
        self.overtaken()
        self.assertTrue(self.delete(if_none_match=b'"77"'))
        self.assertNotIn(b"a", dict(self.engine.records()))
