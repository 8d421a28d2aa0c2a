"""Wildcards: the same answers as the obvious way of matching, in time linear in the name whatever the pattern."""

from __future__ import annotations

import itertools
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kvtwist.profiles._glob import Glob


def reference(pattern: str, name: str) -> bool:
    """The obvious way."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("$"))), name, re.DOTALL) is not None


class GlobTests(SynchronousTestCase):
    def test_patterns_and_names(self) -> None:
        cases = (
            ("", "", True),
            ("", "a", False),
            ("$", "", True),
            ("$", "anything\nat all", True),
            ("$$", "", True),
            ("word", "word", True),
            ("word", "words", False),
            ("wo$d", "wod", True),
            ("wo$d", "world", True),
            ("wo$d", "worldwide", False),
            ("$ld", "world", True),
            ("wo$", "world", True),
            ("$or$", "world", True),
            ("a$a", "a", False),
            ("a$a", "aa", True),
            ("ab$ba", "aba", False),
            ("ab$ba", "abba", True),
            ("a$b$a", "aba", True),
            ("a$bc$bd", "abcbd", True),
            ("a$bc$bd", "abcd", False),
            ("*", "anything", False),
            ("*", "*", True),
            ("?[a]\\.(", "?[a]\\.(", True),
            ("é$", "éa", True),
            ("É", "é", False),
        )
        for pattern, name, expected in cases:
            self.assertIs(Glob(pattern).matches(name), expected, (pattern, name))
            self.assertIs(reference(pattern, name), expected, (pattern, name))

    def test_every_short_pattern_and_name(self) -> None:
        names = ["".join(letters) for length in range(6) for letters in itertools.product("ab", repeat=length)]
        patterns = ["".join(letters) for length in range(5) for letters in itertools.product("ab$", repeat=length)]
        for pattern in patterns:
            glob = Glob(pattern)
            self.assertEqual([glob.matches(name) for name in names], [reference(pattern, name) for name in names])

    @settings(max_examples=300)
    @given(st.text("a\xe9\u2028\U0010ffff$\n", max_size=8), st.text("a\xe9\u2028\U0010ffff\n", max_size=10))
    def test_any_characters(self, pattern: str, name: str) -> None:
        self.assertIs(Glob(pattern).matches(name), reference(pattern, name))

    def test_the_work_is_linear_whatever_the_pattern(self) -> None:
        # Each step is one search of a piece that begins where the one before ended: it never goes back.
        for pattern in ("$a$a$a$a$b", "$" + "a$" * 100 + "b", "$aa$aa$aa$ab$", "a$" * 50, "$a" * 50):
            glob = Glob(pattern)
            for name in ("a" * 255, "a" * 254 + "b", "ab" * 127):
                steps: list[tuple[int, int]] = []
                glob.matches(Counted(name, steps))
                self.assertLessEqual(len(steps), pattern.count("$") + 1)
                for (_, end), (start, _) in itertools.pairwise(steps):
                    self.assertGreaterEqual(start, end)

    def test_the_range_holds_every_key_that_can_match(self) -> None:
        names = ["", "a", "a\x00", "aa", "ab", "b", "é", "éé", "ê", "\U0010ffff", "\U0010ffffa", "\x7f", "\x7fa"]
        for prefix in names:
            for pattern in (prefix, prefix + "$", prefix + "$x"):
                start, stop = Glob(pattern).range()
                for name in names:
                    key = name.encode()
                    inside = start <= key and (stop is None or key < stop)
                    self.assertTrue(inside or not Glob(pattern).matches(name), (pattern, name))
                    if pattern.endswith("$") or "$" not in pattern:
                        self.assertEqual(inside, Glob(pattern).matches(name), (pattern, name))


class Counted(str):
    """A name that tells of each search in it where it began and how far it came."""

    steps: list[tuple[int, int]]

    def __new__(cls, name: str, steps: list[tuple[int, int]]) -> Counted:
        counted = super().__new__(cls, name)
        counted.steps = steps
        return counted

    def find(self, piece: str, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        found = super().find(piece, start, end)
        self.steps.append((start, len(self) if found < 0 else found + len(piece)))
        return found
