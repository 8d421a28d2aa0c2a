"""
JSON that comes back exactly as it was sent: what is JSON and what is not, by RFC 8259 to the letter and at any size.

`json.loads` is what the parser is held against, with `NaN` and `Infinity` refused.
"""

from __future__ import annotations

import json
from itertools import chain
from typing import Any, NoReturn

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kvtwist.profiles import _json
from kvtwist.profiles._json import (
    LONGEST_NAME,
    NotJSON,
    TooManyMembers,
    quote,
    read_arrays,
    read_members,
    read_value,
    string,
    value,
)
from kvtwist.profiles._steps import STEP, at_once
from kvtwist.tap import key_size

GOOD = (
    b"0",
    b"-0",
    b"1.0",
    b"1e400",
    b"-12.50E-007",
    b"1234567890123456789012345678901234567890",
    b"true",
    b"false",
    b"null",
    b'""',
    b'"a"',
    b'"\\u00e9"',
    b'"\\ud83d\\ude00"',
    b'"\\ud800"',
    b'"\\"\\\\\\/\\b\\f\\n\\r\\t"',
    b'"\x7f"',
    '"é😀\u2028\ufeff"'.encode(),
    b"[]",
    b"{}",
    b"[ ]",
    b"{\t}",
    b"[1,2 , 3]",
    b'[[],{},[{}],""]',
    b'{"a":1}',
    b'{"a":1,"a":2}',
    b'{"":{"":[null]}}',
    b'{ "a" : [ 1 , { "b" : "c" } ] , "d" : "\\u0041" }',
    b'["a","b\\n","c"]',
    b'{"a":"b\\n","c\\t":1}',
)

BAD = (
    b"\xc3",
    b"1\xe2\x82",
    b'"\xf0\x9f\x98',
    b"",
    b" ",
    b"nul",
    b"nulll",
    b"True",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"-",
    b"+1",
    b"01",
    b"-01",
    b"1.",
    b".5",
    b"1e",
    b"1e+",
    b"1.e5",
    b"0x1",
    b"1_000",
    b"1 2",
    b"'a'",
    b'"',
    b'"a',
    b'"\\"',
    b'"\\',
    b'"\\x41"',
    b'"\\u12"',
    b'"\\u12g4"',
    b'"\\a"',
    b'"\n"',
    b'"\x00"',
    b'"\x1f"',
    b'"a\tb"',
    b"a",
    b"[",
    b"]",
    b"[1",
    b"[1,",
    b"[1,]",
    b"[,1]",
    b"[1 2]",
    b"[1}",
    b"[[1]",
    b"[1]]",
    b"{",
    b"}",
    b'{"a"',
    b'{"a":',
    b'{"a":1',
    b'{"a":1,',
    b'{"a":1,}',
    b'{,"a":1}',
    b'{"a" 1}',
    b'{"a"::1}',
    b'{"a"=1}',
    b"{a:1}",
    b"{1:1}",
    b"{null:1}",
    b'{"a":1]',
    b'{"a":1}}',
    b'{"a":1} {"b":2}',
    b'{"a":1}x',
    b"/* */ 1",
    b"1 // one",
    b"\xef\xbb\xbf1",
    b"\xa01",
    "\u00a01".encode(),
    b"\x0b1",
    b"\x0c1",
    b"1\x00",
    b"\x00",
    b'"\xff"',
    b'"\xc3"',
    b'"\xc0\xaf"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"',
    b'\xff\xfe"\x00a\x00"\x00',
)


def members(text: bytes) -> list[tuple[str, bytes]]:
    return at_once(read_members(text))


def is_json(text: bytes) -> bool:
    try:
        loads(text)
    except ValueError:
        return False
    return True


def is_refused(text: bytes) -> bool:
    try:
        value(text)
    except NotJSON:
        return True
    return False


def loads(text: bytes) -> Any:
    """Parsed by the standard library; objects become marked lists of pairs, to keep repeated names."""
    return json.loads(text.decode("utf-8"), parse_constant=_refused, object_pairs_hook=lambda pairs: ("{}", pairs))


def _refused(word: str) -> NoReturn:
    raise ValueError(word)


class ValueTests(SynchronousTestCase):
    def test_json_comes_back_to_the_byte(self) -> None:
        for text in GOOD:
            self.assertEqual(value(text), text)
            self.assertTrue(_json.is_json(text))

    def test_white_space_around_it_is_no_part_of_it(self) -> None:
        for text in GOOD:
            self.assertEqual(value(b" \t\r\n" + text + b"\n\r\t "), text)

    def test_other_text_is_refused_in_one_line(self) -> None:
        for text in BAD:
            with self.assertRaises(NotJSON, msg=text) as caught:
                value(text)
            self.assertRegex(str(caught.exception), r"\A[ -~]+\Z")
            self.assertFalse(is_json(text), text)

    def test_other_text_is_refused_inside_of_json_too(self) -> None:
        for text in BAD:
            if text.strip() and not text.startswith((b"1 //", b"/*")):
                for around in (b"[%b]", b'{"a":%b}', b'[0,"",%b]', b'{"b":0,"a":%b,"c":0}', b"[[%b],1]"):
                    whole = around.replace(b"%b", text)
                    if not is_json(whole):
                        self.assertRaises(NotJSON, value, whole)

    def test_the_message_has_the_position_of_the_error(self) -> None:
        for text, place in (
            (b'{"a":1,}', "byte 7"),
            (b"[1 2]", "byte 3"),
            (b'"a\nb"', "byte 2"),
            (b'["\xff"]', "byte 2"),
        ):
            with self.assertRaises(NotJSON) as caught:
                value(text)
            self.assertIn(place, str(caught.exception))

    def test_depth_is_no_limit(self) -> None:
        deep = 30_000
        for text in (b"[" * deep + b"]" * deep, b'{"a":' * deep + b"1" + b"}" * deep):
            self.assertTrue(value(text) == text)
            self.assertTrue(is_refused(text[:-1]))
            self.assertTrue(is_refused(text + b"]"))
            self.assertTrue(members(b'{"k":' + text + b"}") == [("k", text)])

    def test_size_is_no_limit(self) -> None:
        big = 2 * _json._SPAN
        texts = [
            b'"' + b"a" * big + b'"',
            b'"' + b"\\n" * (big // 2) + b'"',
            b'"' + b"a\\u0041" * (big // 7) + b'"',
            b"1" * big,
            b"0." + b"1" * big + b"e1",
            b"[" + b"1," * (big // 2) + b"1]",
            b"[" + b'"\\n",' * (big // 5) + b"1]",
            b"[" + b"[]," * (big // 3) + b"1]",
            b"{" + b'"a":1,' * (big // 6) + b'"a":1}',
            b"{" + b'"\\n":{},' * (big // 8) + b'"a":1}',
            b"[1" + b" " * big + b",1]",
            b"[[" + b" " * big + b"],{" + b" " * big + b"}]",
        ]
        for text in texts:
            self.assertTrue(value(text) == text, text[:9])  # assertEqual would print megabytes
            for broken in (text + b"!", b"[" + text, text[: big // 2] + b"\x01" + text[big // 2 :]):
                self.assertTrue(is_refused(broken), text[:9])
        self.assertTrue(is_refused(b"0" + b"1" * big))


class MembersTests(SynchronousTestCase):
    def test_names_are_decoded_and_values_kept_as_text(self) -> None:
        cases: list[tuple[bytes, list[tuple[str, bytes]]]] = [
            (b"{}", []),
            (b" { } ", []),
            (b'{"a":1}', [("a", b"1")]),
            (b' {\n"a" :\t1.0 , "b":[ 1 ] }\r', [("a", b"1.0"), ("b", b"[ 1 ]")]),
            (b'{"a":1,"a":2,"\\u0061":3}', [("a", b"1"), ("a", b"2"), ("a", b"3")]),
            (b'{"\\ud83d\\ude00\\"\\/":"\\u00e9"}', [('😀"/', b'"\\u00e9"')]),
            (b'{"\\ud800":1}', [("\ud800", b"1")]),
            (b'{"":null}', [("", b"null")]),
        ]
        for text, expected in cases:
            self.assertEqual(members(text), expected)

    def test_only_an_object_has_members(self) -> None:
        for text in (*GOOD, *BAD):
            if not text.lstrip().startswith(b"{") or text in BAD:
                self.assertRaises(NotJSON, members, text)

    def test_json_that_is_not_an_object_has_its_own_message(self) -> None:
        for text in (b"1", b'"a"', b"[]", b"null"):
            with self.assertRaises(NotJSON) as caught:
                members(text)
            self.assertIn("object", str(caught.exception))

    def test_a_name_may_be_as_long_as_the_longest_key(self) -> None:
        key = "\x01" * key_size("32KiB")
        name = quote(key)
        self.assertEqual(len(name), LONGEST_NAME)
        self.assertTrue(members(b"{%b:1}" % name) == [(key, b"1")])
        self.assertTrue(at_once(read_arrays(b"{%b:[]}" % name, 1)) == {key: []})
        longer = name[:-1] + b'a"'
        self.assertRaises(NotJSON, members, b"{%b:1}" % longer)
        self.assertRaises(NotJSON, at_once, read_arrays(b"{%b:[]}" % longer, 1))
        self.assertRaisesRegex(ValueError, "32", key_size, "32769")


class StringTests(SynchronousTestCase):
    def test_a_string_is_decoded(self) -> None:
        for text in GOOD:
            if text.startswith(b'"'):
                self.assertEqual(string(b" " + text + b"\n"), json.loads(text))

    def test_anything_else_is_refused(self) -> None:
        for text in (*BAD, b"1", b"null", b"[]", b"{}", b'["a"]'):
            self.assertRaises(NotJSON, string, text)

    def test_a_quoted_text_reads_as_itself(self) -> None:
        for text in ("", "a", 'é"\\/\b\f\n\r\t\x00\x1f\x7f\u2028😀'):
            self.assertEqual(string(quote(text)), text)
            self.assertNotIn(b"\n", quote(text))


class StepsTests(SynchronousTestCase):
    """Reading works in short steps, however long a text or any part of it is."""

    def test_no_step_looks_at_much_or_little(self) -> None:
        size = 2**18
        texts = {
            "a string": b'"' + b"a" * size + b'"',
            "escapes": b'"' + b"\\n" * (size // 2) + b'"',
            "escapes far apart": b'"' + (b"\\n" + b"a" * 1000) * (size // 1002) + b'"',
            "digits": b"1" * size + b"." + b"1" * size + b"e" + b"1" * size,
            "white space": b" " * size + b"1" + b" " * size,
            "scalars": b"[" + b"1," * (size // 2) + b"1]",
            "strings": b"[" + (b'"' + b"a" * 10_000 + b'",') * (size // 10_000) + b"1]",
            "arrays": b"[" + b"[]," * (size // 3) + b"1]",
            "depth": b"[" * (size // 2) + b"]" * (size // 2),
            "members": b"{" + b'"a":1,' * (size // 6) + b'"a":1}',
            "members that are not plain": b"{" + b'"\\n":{},' * (size // 8) + b'"a":1}',
            "letters of three bytes": '"{}"'.format("\u2028" * (size // 3)).encode(),
        }
        for what, text in texts.items():
            steps = self.steps_of(text)
            looked, called = (sum(counts) for counts in zip(*steps, strict=True))
            self.assertLess(len(steps), 8 + 2 * looked // _json._WINDOW + called // STEP, what)
            for looked, called in steps:
                self.assertLess(looked, 2 * _json._SPAN, what)
                self.assertLess(called, 3 * STEP, what)

    def steps_of(self, text: bytes) -> list[tuple[int, int]]:
        """How many bytes each step has looked at, and in how many calls."""
        looked: list[int] = []

        def watch(name: str) -> None:
            match = getattr(_json, name)

            def watched(text: bytes, at: int, end: int = 2**40) -> object:
                found = match(text, at, end)
                looked.append(found.end() - at if found else 0)
                return found

            self.patch(_json, name, watched)

        for name in ("_space_run", "_digit_run", "_plain_run", "_scalar_run", "_member_run"):
            watch(name)
        for name in ("_easy", "_easy_string", "_number", "_escapes"):
            watch(name)
        steps: list[tuple[int, int]] = []
        reading = read_value(text)
        for _ in chain(reading, (None,)):
            steps.append((sum(looked), len(looked)))
            looked.clear()
        return steps

    def test_too_many_members_are_counted_while_they_are_read(self) -> None:
        text = b"{" + b",".join(b'"%d":%d' % (n, n) for n in range(10)) + b"}"
        self.assertEqual(len(at_once(read_members(text, 10))), 10)
        self.assertRaises(TooManyMembers, at_once, read_members(text, 9))
        self.assertRaises(TooManyMembers, at_once, read_members(text[:20] + b"no JSON", 2))

    def test_arrays_are_taken_apart(self) -> None:
        for text, expected in (
            (b"{}", {}),
            (b' { "a" : [ ] } ', {"a": []}),
            (
                b'{"a":[1, [2,[3]] ,{"b":"]"}],"\\u0063":["x\\""]}',
                {"a": [b"1", b"[2,[3]]", b'{"b":"]"}'], "c": [b'"x\\""']},
            ),
        ):
            self.assertEqual(at_once(read_arrays(text, 4)), expected)

    def test_what_is_no_object_of_arrays_is_refused(self) -> None:
        for text in (
            *BAD,
            b"[]",
            b'{"a":1}',
            b'{"a":[1]',
            b'{"a":[1],}',
            b'{"a":[1] "b":[]}',
            b'{"a":[1,]}',
            b'{"a":[1 2]}',
            b'{"a":[nul]}',
            b'{"a" [1]}',
            b'{"a":[]}{}',
            b'{"a":[],"a":[]}',
            b'{"' + b"a" * LONGEST_NAME + b'":[]}',
        ):
            self.assertRaises(NotJSON, at_once, read_arrays(text, 9))

    def test_too_many_elements_are_counted_while_they_are_read(self) -> None:
        text = b'{"a":[1,2,3],"b":[4,5,6]}'
        self.assertEqual(at_once(read_arrays(text, 6)), {"a": [b"1", b"2", b"3"], "b": [b"4", b"5", b"6"]})
        self.assertRaises(TooManyMembers, at_once, read_arrays(text, 5))
        self.assertRaises(TooManyMembers, at_once, read_arrays(b'{"a":[1,2,3,no JSON', 2))

    def test_arrays_are_read_in_steps(self) -> None:
        for text in (b'{"a":[' + b",".join([b"1"] * 3000) + b"]}", b'{"a":["' + b"x" * 500_000 + b'"]}'):
            self.assertGreater(sum(1 for _ in read_arrays(text, 3000)), 5)


# --- anything at all --------------------------------------------------------------------------------------------------

_TOKENS = [
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b'"',
    b"\\",
    b'"a"',
    b'"\\n"',
    b"1",
    b"-",
    b"0",
    b".5",
    b"e9",
    b"true",
    b" ",
    b"\n",
    b"\xc3\xa9",
]
_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
)
_documents = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
_texts = st.builds(
    lambda document, ascii_only, indent: json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode(
        "utf-8", "surrogatepass"
    ),
    _documents,
    st.booleans(),
    st.none() | st.just(1),
)
_mutated = st.builds(
    lambda text, at, count, new: text[: at % (len(text) + 1)] + new + text[at % (len(text) + 1) + count :],
    _texts,
    st.integers(0, 200),
    st.integers(0, 2),
    st.sampled_from([b"", *_TOKENS, b"\x00", b"\xff"]),
)
_anything = st.one_of(_texts, _mutated, st.lists(st.sampled_from(_TOKENS), max_size=12).map(b"".join))


class AnythingTests(SynchronousTestCase):
    @settings(max_examples=1000)
    @given(_anything)
    def test_it_accepts_what_the_standard_library_accepts(self, text: bytes) -> None:
        try:
            expected = loads(text)
        except ValueError:
            self.assertFalse(_json.is_json(text))
            self.assertRaises(NotJSON, value, text)
            self.assertRaises(NotJSON, members, text)
            self.assertRaises(NotJSON, string, text)
            return
        self.assertTrue(_json.is_json(text))
        self.assertEqual(value(text), text.strip(b" \t\n\r"))
        if isinstance(expected, tuple):
            self.assertEqual([(name, loads(inner)) for name, inner in members(text)], expected[1])
        else:
            self.assertRaises(NotJSON, members, text)
        if isinstance(expected, str):
            self.assertEqual(string(text), expected)
        else:
            self.assertRaises(NotJSON, string, text)
