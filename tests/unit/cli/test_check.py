"""`kvtwist check`: the problems it finds, the places it reports, and that it changes nothing."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from kvtwist.engine import run_writer
from kvtwist.engine.disk import Disk
from kvtwist.engine.frame import Frame, whole_frames
from kvtwist.engine.lock import ReadLock
from kvtwist.engine.segment import header_of
from kvtwist.model import DATA, HISTORY, STAGED, Append, Clear, Delete, Put
from tests.support.engine import Engine, FaultyDisk, TestCase, new_directory
from tests.support.tools import eventful, kvtwist, objects
from tests.unit.cli.test_repair import RepairCase


def frames_of(path: Path) -> list[Frame]:
    """The frames of a segment."""
    content = path.read_bytes()
    return list(whole_frames(content, header_of(content)[0]))


class CheckTests(RepairCase):
    def setUp(self) -> None:
        super().setUp()
        self.chronicle = eventful(self.store)
        self.chronicle.end()

    def problems(self) -> list[dict[str, object]]:
        result = kvtwist("check", "--json", self.store)
        self.assertEqual(result.exit_code, 1, result.output)
        found = objects(result)
        self.assertEqual(found[-1]["problems"], sum(line["type"] == "problem" for line in found))
        return [line for line in found if line["type"] == "problem"]

    def test_an_undamaged_store_is_fine(self) -> None:
        result = kvtwist("check", self.store)
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertTrue(result.stdout.startswith("fine: "))
        [summary] = objects(kvtwist("check", "--json", self.store))
        self.assertEqual(summary["revision"], self.chronicle.model.revision)
        self.assertEqual((summary["problems"], summary["segments"], summary["torn_bytes"]), (0, 2, 0))

    def test_a_bad_page_is_reported_with_its_keys_and_records(self) -> None:
        path = self.damage("pages/", b"first 7", b"FIRST 7")
        [problem] = self.problems()
        self.assertEqual(problem["file"], f"pages/{path.name}")
        self.assertEqual((problem["at"], problem["end"]), (12, path.stat().st_size))
        self.assertEqual((problem["keyspace"], problem["first"], problem["stop"]), (DATA, "k06", "k07\0"))
        self.assertEqual((problem["records"], problem["readable"]), (2, 2))
        text = kvtwist("check", self.store).stdout
        self.assertIn('keyspace \'data\', keys from "k06" to "k07": 2 records, 2 can be read', text)
        self.assertIn("kvtwist repair", text)

    def test_a_bad_frame_is_reported_with_the_missing_transactions(self) -> None:
        self.damage("journal-0", b"behind 1", b"BEHIND 1")
        [problem] = self.problems()
        self.assertEqual((problem["first_revision"], problem["last_revision"]), (27, 27))
        content = (self.store / str(problem["file"])).read_bytes()
        at = content.index(b"BEHIND 1")
        self.assertTrue(problem["at"] < at < problem["end"])
        self.assertEqual(content[problem["at"] :][:4], b"KVTB")
        self.assertIn("4 transactions from here on can be read", kvtwist("check", self.store).stdout)

    def test_a_missing_segment_is_reported_with_its_revisions(self) -> None:
        sorted(self.store.glob("journal-0*"))[0].unlink()
        [problem] = self.problems()
        self.assertEqual((problem["first_revision"], problem["last_revision"]), (20, 25))

    def test_a_page_that_is_missing_or_cannot_be_read_is_a_problem(self) -> None:
        path = sorted(self.store.glob("pages/*"))[0]
        path.unlink()
        self.assertIn("no such file", str(self.problems()[0]["what"]))
        path.mkdir()
        self.assertIn("Is a directory", str(self.problems()[0]["what"]))

    def test_a_manifest_of_another_name_is_a_problem(self) -> None:
        [manifest] = self.store.glob("manifest-*")
        manifest.rename(self.store / f"manifest-{21:020d}")
        self.assertIn("revision 19", str(self.problems()[0]["what"]))

    def test_leftovers_are_reported_and_harmless(self) -> None:
        page = sorted(self.store.glob("pages/*"))[0]
        shutil.copy(page, self.store / "pages" / "OTk5_")
        (self.store / "pages" / "OTg=_.new").write_bytes(b"half")
        (self.store / f"manifest-{99:020d}.new").write_bytes(b"half")
        (self.store / f"journal-{1:020d}.log").write_bytes(b"old")
        (self.store / "notes").write_bytes(b"mine")
        result = kvtwist("check", "--json", self.store)
        self.assertEqual(result.exit_code, 0)
        found = {(line["type"], line["file"]) for line in objects(result)[:-1]}
        names = ["pages/OTk5_", "pages/OTg=_.new", f"manifest-{99:020d}.new", f"journal-{1:020d}.log"]
        self.assertEqual(found, {*(("leftover", name) for name in names), ("note", "notes")})

    def test_a_torn_tail_is_a_note_and_is_not_cut_off(self) -> None:
        path = sorted(self.store.glob("journal-0*"))[-1]
        whole = path.read_bytes()[: max(frame.end for frame in frames_of(path))]
        path.write_bytes(whole[:-3])
        result = kvtwist("check", "--json", self.store)
        self.assertEqual(result.exit_code, 0)
        self.assertGreater(objects(result)[-1]["torn_bytes"], 0)
        self.assertEqual(path.read_bytes(), whole[:-3])

    def test_a_directory_in_use_is_refused_by_all_commands(self) -> None:
        engine = Engine(self.store)
        engine.open()
        self.addCleanup(engine.die)
        for command in ("check", "repair", "dump", "stats", "export", "compact", "reset-time"):
            result = kvtwist(command, self.store)
            self.assertEqual(result.exit_code, 3, command)
            self.assertIn(f"in use by another server (process {os.getpid()})", result.stderr)
        self.assertEqual(kvtwist("repair", "--yes", self.store).exit_code, 3)
        header = b'{"kvtwist_export":1,"revision":1}\n'
        self.assertEqual(kvtwist("import", self.store, text=header).exit_code, 3)

    def test_two_commands_may_inspect_at_the_same_time(self) -> None:
        lock = ReadLock(str(self.store))
        self.addCleanup(lock.release)
        self.assertEqual(kvtwist("check", self.store).exit_code, 0)
        self.assertEqual(kvtwist("compact", self.store).exit_code, 3)

    def test_a_file_without_read_permission_is_not_damage(self) -> None:
        def read(disk: Disk, path: str) -> bytes:
            if part in path:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return before(disk, path)

        before = Disk.read
        for part in ("pages/", "manifest-", "journal-0"):
            with patch.object(Disk, "read", read):
                for command in ("check", "repair"):
                    result = kvtwist(command, self.store)
                    self.assertEqual((result.exit_code, result.stdout), (4, ""), part)
                    self.assertIn("Permission denied", result.stderr)


class NoStoreTests(TestCase):
    COMMANDS = ("check", "repair", "dump", "stats", "export", "compact", "reset-time")

    def test_no_command_makes_a_store(self) -> None:
        (self.path / "file").write_bytes(b"")
        (self.path / "other" / "pages").mkdir(parents=True)
        before = sorted(self.path.rglob("*"))
        for place in ("missing", "missing/below", "file", "file/below", "other", "."):
            for command in self.COMMANDS:
                result = kvtwist(command, self.path / place)
                self.assertEqual(result.exit_code, 4, (command, place, result.output))
                [line] = result.stderr.splitlines()
                self.assertTrue(line.startswith("kvtwist: "))
                self.assertIn(place.rstrip("."), line)
            repair = kvtwist("repair", "--yes", self.path / place)
            self.assertEqual(repair.exit_code, 4)
            imported = kvtwist("import", self.path / place, text=b'{"kvtwist_export":1,"revision":1}\n{"end":0}\n')
            self.assertEqual(imported.exit_code, 4)
        self.assertEqual(sorted(self.path.rglob("*")), before)

    def test_wrong_usage(self) -> None:
        for arguments in (["chek"], ["check"], ["check", "--jason", "x"], ["dump", "--page", "one", "x"], []):
            self.assertEqual(kvtwist(*arguments).exit_code, 2, arguments)
        for arguments in (["export", "--resume", "x"], ["import", "--resume", "--restart", "x"]):
            self.assertEqual(kvtwist(*arguments).exit_code, 2, arguments)

    def test_each_command_has_a_help_text(self) -> None:
        listed = kvtwist("--help").stdout
        for command in (*self.COMMANDS, "import"):
            self.assertIn(command, listed)
            self.assertEqual(kvtwist(command, "--help").exit_code, 0)
        self.assertEqual(kvtwist("--version").stdout.split()[0], "kvtwist")


KEYS = st.sampled_from([b"a", b"b", b"c", b"\xff", b"long" * 20])
TTLS = st.none() | st.sampled_from([1, 10**9])
OPERATIONS = st.one_of(
    st.builds(Put, st.sampled_from([DATA, STAGED]), KEYS, st.binary(max_size=60), st.just("text/x"), TTLS),
    st.builds(Delete, st.just(DATA), KEYS),
    st.builds(Clear, st.sampled_from([DATA, STAGED])),
    st.builds(Append, st.just(HISTORY), KEYS, st.binary(max_size=9), st.just("text/plain"), TTLS),
)
STEPS = st.lists(
    OPERATIONS | st.sampled_from(["checkpoint", "failing checkpoint", "die", "close", "wait"]), max_size=30
)


class InvariantTests(TestCase):
    """No sequence of operations, crashes and failed checkpoints makes files in which `check` finds a problem."""

    @given(STEPS)
    @settings(max_examples=60)
    def test_undamaged_stores_have_no_problems(self, steps: list[object]) -> None:
        place = new_directory()
        self.addCleanup(shutil.rmtree, place)
        engine = Engine(place / "store")
        with patch.object(run_writer, "PAGE_SIZE", 100):
            engine.open()
            for step in steps:
                self.do(engine, step)
            engine.die()
        self.assert_fine(place / "store")

    def do(self, engine: Engine, step: object) -> None:
        if step == "die":
            engine.reopen()
        elif step == "close":
            engine.close()
            engine.reopen()
        elif step == "wait":
            engine.clock.advance(61)
            engine.clock.advance(0)
        elif isinstance(step, str):
            assert isinstance(engine.disk, FaultyDisk)
            if step == "failing checkpoint":
                engine.disk.fail("rename", errno.EIO, path="manifest")
            engine.checkpoint()
            engine.disk.heal()
        else:
            engine.do(step)  # type: ignore[arg-type]

    def assert_fine(self, store: Path) -> None:
        result = kvtwist("check", store)
        self.assertEqual(result.exit_code, 0, result.output)
