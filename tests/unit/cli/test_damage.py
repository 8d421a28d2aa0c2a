"""
Random damage to a store is found by `check` or harmless; and `repair` makes a store that opens, passes `check`, and
holds no wrong value.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from kvtwist.engine import compactor, journal, run_writer
from tests.support.engine import TestCase
from tests.support.tools import bytes_of, contents_of, eventful, kvtwist, objects

HOW = ("flip", "zero", "drop", "duplicate", "cut", "empty", "remove")
Damage = tuple[str, float, int, int]
DAMAGE = st.tuples(
    st.sampled_from(HOW), st.floats(0, 1, exclude_max=True), st.integers(1, 60) | st.just(10**9), st.integers(0, 7)
)


def damaged(content: bytes, how: str, at: float, length: int, bit: int) -> bytes:
    """Apply a kind of damage to a file's content."""
    start = int(at * len(content.rstrip(b"\0")))  # a journal segment ends with many zeros, of which none matters
    end = min(start + length, len(content))
    middle = content[start:end]
    if how == "flip":
        middle = bytes([middle[0] ^ 1 << bit]) + middle[1:] if middle else b""
    elif how == "zero":
        middle = bytes(len(middle))
    elif how == "drop":
        middle = b""
    elif how == "duplicate":
        middle *= 2
    elif how == "cut":
        return content[:start]
    else:
        return b""
    return content[:start] + middle + content[end:]


class DamageTests(TestCase):
    """Each example damages one file of a copy of a store whose history is known."""

    def setUp(self) -> None:
        super().setUp()
        pages, extent = patch.object(run_writer, "PAGE_SIZE", 100), patch.object(journal, "EXTENT", 300)
        with pages, extent, patch.object(compactor, "compaction_due", lambda runs: []):
            self.chronicle = eventful(self.path / "store")
            store = self.chronicle.end()
        self.files = sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.is_file())

    @given(st.integers(0, 10**6), DAMAGE)
    def test_damage_to_any_file(self, which: int, damage: Damage) -> None:
        name = self.files[which % len(self.files)]
        self.look(self.copy([(name, damage)]), name)

    @given(st.integers(0, 10**6), DAMAGE, st.booleans())
    def test_records_that_may_be_wrong_are_reported(self, which: int, damage: Damage, keep_older: bool) -> None:
        pages = [name for name in self.files if name.startswith("pages")]
        copy = self.copy([(pages[which % len(pages)], damage)])
        if kvtwist("check", copy).exit_code == 0:
            return
        wishes = ["--salvage", *(["--keep-older"] if keep_older else [])]
        report = objects(kvtwist("repair", "--json", "--yes", *wishes, copy))
        saved = {(line["keyspace"], bytes_of(line, "key")) for line in report if line.get("saved")}
        last = self.chronicle.last
        for keyspace, records in contents_of(copy).items():
            for key, record in records.items():
                if record != last[keyspace].get(key):
                    self.assertIn((keyspace, key), saved)
        self.assertEqual(kvtwist("check", copy).exit_code, 0)

    @given(st.integers(0, 10**6), DAMAGE)
    def test_records_saved_from_a_damaged_journal_were_written_so(self, which: int, damage: Damage) -> None:
        journals = [name for name in self.files if name.startswith("journal-0")]
        copy = self.copy([(journals[which % len(journals)], damage)])
        kvtwist("repair", "--yes", copy)
        for keyspace, records in contents_of(copy).items():
            written = [state.get(keyspace, {}).items() for state in self.chronicle.states.values()]
            for record in records.items():
                self.assertTrue(any(record in state for state in written), record)

    @given(st.dictionaries(st.integers(0, 10**6), DAMAGE, max_size=6), st.booleans(), st.booleans())
    def test_damage_in_many_places(self, damages: dict[int, Damage], salvage: bool, keep_older: bool) -> None:
        copy = self.copy([(self.files[which % len(self.files)], damage) for which, damage in damages.items()])
        if kvtwist("check", copy).exit_code == 1:
            wishes = [*(["--salvage"] if salvage else []), *(["--keep-older"] if keep_older else [])]
            self.assertEqual(kvtwist("repair", "--yes", *wishes, copy).exit_code, 0)
            self.assertEqual(kvtwist("check", copy).exit_code, 0)
        contents_of(copy)

    def copy(self, damages: list[tuple[str, Damage]]) -> Path:
        copy = self.path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.path / "store", copy)
        for name, damage in damages:
            path = copy / name
            if damage[0] != "remove":
                path.write_bytes(damaged(path.read_bytes() if path.exists() else b"", *damage))
            elif path.exists() and len(list(copy.rglob("*"))) > 4:  # enough must be left to recognize a store
                path.unlink()
        return copy

    def look(self, copy: Path, name: str) -> None:
        before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
        result = kvtwist("check", copy)
        self.assertEqual(before, {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()})
        self.assertIn(result.exit_code, (0, 1), result.output)
        if result.exit_code == 0:
            self.assertIn(contents_of(copy), self.possible(name))
            return
        plan = kvtwist("repair", copy)
        self.assertEqual(plan.exit_code, 1, plan.output)
        self.assertEqual(before, {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()})
        repaired = kvtwist("repair", "--yes", "--stop-at-gap", copy)
        self.assertEqual(repaired.exit_code, 0, repaired.output)
        again = kvtwist("check", copy)
        self.assertEqual(again.exit_code, 0, again.output)
        found = contents_of(copy)
        if name.startswith("journal"):
            self.assertIn(found, list(self.chronicle.states.values()), repaired.output)
        elif name.startswith("manifest"):
            self.assertEqual(found, self.chronicle.last)
        else:
            for keyspace, records in found.items():
                self.assertLessEqual(records.items(), self.chronicle.last[keyspace].items())
        kept = [path.read_bytes() for path in copy.glob("damaged-*/**/*") if path.is_file()]
        for path, content in before.items():
            if re.search("journal-0|manifest", path.name) or (path.parent.name == "pages" and not path.exists()):
                self.assertIn(content, kept)

    def possible(self, name: str) -> list[object]:
        """Contents a store may have if `check` sees no damage: a journal may just be shorter."""
        if name.startswith("journal-0"):
            return list(self.chronicle.states.values())
        return [self.chronicle.last]
