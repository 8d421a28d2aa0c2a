"""Output of commands: file names escaped, plurals correct, each error one line, never a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from kvtwist.engine.offline import opened
from kvtwist.model import DATA, Delete, Put
from tests.support.engine import TestCase
from tests.support.tools import kvtwist

NAME = os.fsdecode(b"n\xff \n\x1b[1m\xc3\xbc")
SHOWN = "n\\xff \\n\\x1b[1m\u00fc"
_NOUNS = "byte|change|file|leftover|line|page|problem|record|segment|transaction"
wrong_plurals = re.compile(rf"(?<![\d.:])1 ([a-z]+ )?({_NOUNS})s\b|\b(?!1 )\d+ ([a-z]+ )?({_NOUNS})\b(?! \d)").findall


class StrangeNameTests(TestCase):
    """Every command with paths that are not UTF-8 and contain control characters."""

    def setUp(self) -> None:
        super().setUp()
        self.place = self.path / NAME
        self.place.mkdir()
        self.store = self.place / "store"
        with opened(str(self.store), create=True) as store:
            store.write([Put(DATA, b"key", b"value", "text/plain")])
        (self.store / NAME).write_bytes(b"")
        (self.store / "pages" / NAME).write_bytes(b"")

    def run_each(self, *arguments: str | Path, status: int = 0, text: bytes | None = None) -> None:
        """Run a command without and with `--json`."""
        for as_json in ([], ["--json"]):
            with self.subTest(arguments[0], json=bool(as_json)):
                result = kvtwist(*arguments, *as_json, text=text)
                self.assertEqual(result.exit_code, status, result.output)
                self.assertNotIn("\x1b", result.output)
                for line in result.stdout.splitlines():
                    if as_json:
                        json.loads(line)
                if status:
                    self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
                    self.assertIn(SHOWN, result.stderr)
            for name in ("copy", "restored", "file", "imported"):
                shutil.rmtree(self.place / name, ignore_errors=True)
            if (self.place / "file").exists():
                (self.place / "file").unlink()

    def test_commands_that_succeed(self) -> None:
        (self.place / "lines").write_bytes(kvtwist("export", self.store).stdout_bytes)
        for arguments in (
            ("check", self.store),
            ("dump", self.store),
            ("dump", "--segments", "--records", self.store),
            ("stats", "--deep", self.store),
            ("export", self.store, self.place / "file"),
            ("export", "--force", self.store, "/dev/null"),
            ("import", "--create", self.place / "imported", self.place / "lines"),
            ("compact", self.store),
            ("backup", self.store, self.place / "copy"),
            ("restore", self.store, self.place / "restored"),
            ("repair", self.store),
        ):
            self.run_each(*arguments)

    def test_commands_on_missing_paths(self) -> None:
        missing = self.place / "missing"
        for arguments in (
            ("check", missing),
            ("dump", missing),
            ("stats", missing),
            ("export", missing),
            ("export", self.store, missing / "file"),
            ("import", missing, "-"),
            ("import", self.store, missing),
            ("compact", missing),
            ("backup", missing, self.path / "copy"),
            ("backup", self.store, self.store),
            ("backup", f"http://127.0.0.1:1/{NAME}", self.path / "copy"),
            ("restore", missing, self.path / "copy"),
            ("repair", missing),
        ):
            self.run_each(*arguments, status=4, text=b'{"kvtwist_export":1,"revision":1}\n{"end":0}\n')

    def test_commands_on_a_damaged_store(self) -> None:
        [page] = (page for page in (self.store / "pages").iterdir() if page.name != NAME)
        page.write_bytes(page.read_bytes()[:-1])
        for arguments in (
            ("export", self.store),
            ("backup", self.store, self.place / "copy"),
            ("restore", self.store, self.place / "restored"),
        ):
            result = kvtwist(*arguments)
            self.assertEqual((result.exit_code, result.stderr.count("\n")), (1, 1), result.output)
            self.assertIn(SHOWN, result.stderr)
        for arguments in (("check", self.store), ("dump", self.store), ("repair", self.store)):
            for as_json in ([], ["--json"]):
                result = kvtwist(*arguments, *as_json)
                self.assertEqual((result.exit_code, result.stderr), (1, ""), result.output)
                self.assertNotIn("\x1b", result.output)
        self.assertEqual(kvtwist("repair", "--yes", self.store).exit_code, 0)
        self.assertIn("damaged-", kvtwist("check", self.store).stdout)


class PluralTests(TestCase):
    """Stores with zero, one and two of everything."""

    def test_numbers_agree_with_their_nouns(self) -> None:
        for count in (0, 1, 2):
            place = self.path / str(count)
            with opened(str(place / "store"), create=True) as store:
                store.write([Put(DATA, b"%d" % n, b"v" * count, "text/plain") for n in range(count)])
            with opened(str(place / "store")) as store:
                for number in range(count):
                    store.write([Put(DATA, b"more", b"v" * number, "text/plain")])
                store.write([Delete(DATA, b"more")] * count)
            results = []
            for command in ("check", "dump", "dump --segments", "dump --records", "stats", "stats --deep", "compact"):
                name, *options = command.split()
                results.append(kvtwist(name, place / "store", *options))
            results.append(kvtwist("export", place / "store", place / "file"))
            results.append(kvtwist("import", "--create", place / "imported", place / "file"))
            results.append(kvtwist("backup", place / "store", place / "copy"))
            for page in (place / "store" / "pages").iterdir():
                page.write_bytes(page.read_bytes()[:-1] + b"?")
            for options in ([], ["--salvage"], ["--yes"]):
                results.append(kvtwist("repair", place / "store", *options))
            for result in results:
                self.assertIn(result.exit_code, (0, 1), result.output)
                self.assertEqual(wrong_plurals(result.output), [], result.output)
