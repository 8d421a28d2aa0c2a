"""`kvtwist export` and `import`: every record survives the round trip once, however often they are interrupted."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import time
from base64 import b64encode
from collections.abc import Callable
from errno import ENOSPC
from functools import partial
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM
from types import SimpleNamespace
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from kvtwist.cli import export as exporting
from kvtwist.cli import import_ as importing
from kvtwist.cli import output
from kvtwist.cli.export_format import PROGRESS
from kvtwist.cli.files import Files
from kvtwist.engine.offline import OfflineStore, opened
from kvtwist.model import DATA, STAGED, Append, Operation, Put
from tests.support.engine import TestCase, new_directory
from tests.support.tools import Contents, contents_of, eventful, kvtwist, objects

HEADER = b'{"kvtwist_export":1,"revision":1}\n'
_values = re.compile(rb"\xc4[\x02\x03]v\d+").findall
"""The values in a frame, as MessagePack has them: a salt or a checksum may have a "v" and a digit, too."""
LINE = b'{"keyspace":"data","key":"%d","value":"v%d","media_type":"text/plain","modified_ms":7}\n'


def lines(count: int, end: bool = True) -> bytes:
    """An export of `count` records."""
    body = b"".join(LINE % (number, number) for number in range(count))
    return HEADER + body + (b'{"end":%d}\n' % count if end else b"")


def everything(path: Path) -> Contents:
    """All keyspaces of a store, whatever their names."""
    with opened(str(path)) as store:
        return {
            name: {k: (r.value, r.media_type, r.modified_ms, r.expires_ms) for k, r in store.scan(name)}
            for name in store.keyspaces()
            if any(True for _ in store.scan(name))
        }


JSON_TEXTS = [b"1", b" 1.0\n", b"1e400", b'"\\ud800"', b"[" * 5000 + b"]" * 5000, '{"é": [null, ""]}'.encode()]
RECORDS = st.lists(
    st.builds(
        Put,
        st.sampled_from([DATA, STAGED, "ünusual \0", "x" * 255]),
        st.binary(max_size=30) | st.text(max_size=9).map(str.encode),
        st.binary(max_size=200) | st.text(max_size=90).map(str.encode),
        st.sampled_from(["text/plain", "", "ü" * 127]),
        st.none() | st.integers(10**8, 2**46),
    )
    | st.builds(Put, st.just(DATA), st.binary(max_size=9), st.sampled_from(JSON_TEXTS), st.just("application/json"))
    | st.builds(Append, st.just("history"), st.binary(max_size=9), st.binary(max_size=9), st.just("text/plain")),
    max_size=20,
)


def _number(item: tuple[bytes, object]) -> int:
    return int(item[0])


class HookedFiles(Files):
    """
    Files that call a function after each write or sync of the export's file.

    :ivar written: the data of each write.
    """

    def __init__(
        self, after_write: Callable[[], object] = lambda: None, after_sync: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self._unfinished = -1
        self._after_write = after_write
        self._after_sync = after_sync

    def claim(self, path: str) -> int:
        self._unfinished = super().claim(path)
        return self._unfinished

    def write(self, descriptor: int, data: bytes) -> None:
        super().write(descriptor, data)
        if descriptor == self._unfinished:
            self.written.append(data)
            self._after_write()

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        if descriptor == self._unfinished:
            self._after_sync()


class SignallingFiles(Files):
    """
    Files that send this process a signal within a given call of a given method.

    :ivar written: number of lines written to the journal before the signal.
    """

    def __init__(self, call: str, number: int, skip: int) -> None:
        super().__init__()
        self.written = 0
        self._call = call
        self._number = number
        self._skip = skip

    def _after(self, call: str) -> None:
        if call == self._call:
            self._skip -= 1
            if self._skip == -1:
                os.kill(os.getpid(), self._number)

    def write(self, descriptor: int, data: bytes) -> None:
        super().write(descriptor, data)
        if self._skip >= 0:
            self.written += len(_values(data))
        self._after("write")

    def sync(self, descriptor: int) -> None:
        self._after("sync")
        super().sync(descriptor)


class RoundTripTests(TestCase):
    @given(RECORDS)
    @settings(max_examples=60)
    def test_a_round_trip_keeps_every_record(self, records: list[Operation]) -> None:
        place = new_directory()
        self.addCleanup(shutil.rmtree, place)
        with opened(str(place / "one"), create=True) as store:
            for record in records:
                store.write([record])
        exported = kvtwist("export", place / "one")
        self.assertEqual(exported.exit_code, 0, exported.output)
        for line in exported.stdout_bytes.splitlines():
            json.loads(line)
        imported = kvtwist("import", "--create", place / "two", text=exported.stdout_bytes)
        self.assertEqual(imported.exit_code, 0, imported.output)
        self.assertEqual(everything(place / "two"), everything(place / "one"))
        again = kvtwist("export", place / "two")
        self.assertEqual(again.stdout_bytes.splitlines()[1:], exported.stdout_bytes.splitlines()[1:])
        self.assertEqual(kvtwist("check", place / "two").exit_code, 0)

    def test_the_longest_key_survives_the_round_trip(self) -> None:
        with opened(str(self.path / "one"), create=True) as store:
            store.write([Append("history", b"x" * (65535 - 16), b"v", "text/plain")])
        exported = kvtwist("export", self.path / "one").stdout_bytes
        self.assertEqual(kvtwist("import", "--create", self.path / "two", text=exported).exit_code, 0)
        self.assertEqual(everything(self.path / "two"), everything(self.path / "one"))

    def test_times_survive_a_crash_after_the_import(self) -> None:
        self.assertEqual(kvtwist("import", "--create", self.path / "one", text=lines(3)).exit_code, 0)
        found = contents_of(self.path / "one")
        self.assertEqual(found[DATA][b"1"], (b"v1", "text/plain", 7, None))

    def test_expired_records_are_not_imported(self) -> None:
        now_ms = int(time.time() * 1000)
        text = HEADER + b"".join(
            b'{"keyspace":"data","key":"%d","value":"","media_type":"","modified_ms":0,"expires_ms":%d}\n' % (ms, ms)
            for ms in (0, now_ms - 1, now_ms + 10**6)
        )
        result = kvtwist("import", "--json", "--create", self.path / "s", text=text + b'{"end":3}\n')
        self.assertEqual(objects(result), [{"type": "imported", "records": 1, "expired": 2}])
        self.assertEqual(list(contents_of(self.path / "s")[DATA]), [b"%d" % (now_ms + 10**6)])


class ExportTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.store = eventful(self.path / "store").end()
        self.file = self.path / "file"
        self.unfinished = self.path / "file.kvtwist-partial"
        self.whole = kvtwist("export", self.store).stdout_bytes

    def export(self, *options: str, disk: Files | None = None) -> int:
        return kvtwist("export", self.store, self.file, *options, disk=disk).exit_code

    def test_the_first_line_is_a_header_and_the_last_one_counts(self) -> None:
        header, *records, end = [json.loads(line) for line in self.whole.splitlines()]
        self.assertEqual(header, {"kvtwist_export": 1, "revision": 31, "keyspaces": None})
        self.assertEqual(end, {"end": len(records)})
        keys = [(r["keyspace"], r["key"].encode() if "key" in r else b"\xff\x00") for r in records]
        self.assertEqual(keys, sorted(keys))

    def test_resume_continues_from_any_cut(self) -> None:
        for size in [*range(0, len(self.whole), 37), len(self.whole) - 1, len(self.whole)]:
            self.unfinished.write_bytes(self.whole[:size])
            self.assertEqual(self.export("--resume"), 0)
            self.assertEqual(self.file.read_bytes(), self.whole)
            self.assertFalse(self.unfinished.exists())
            self.file.unlink()
        self.assertEqual(self.export("--resume"), 0)
        self.assertEqual(self.file.read_bytes(), self.whole)
        self.assertEqual(self.export("--resume"), 0, "it is there, and whole")

    def test_resume_discards_garbage_after_a_power_cut(self) -> None:
        header, first, second = self.whole.splitlines(True)[:3]
        for left in (
            bytes(10),
            header[:5],
            header[:-1] + b" " * 70,
            bytes(len(header)) + first,
            header + bytes(900),
            header + first[:-1] + b"\0" + second,
            header + first + first + second,
            header + first + b"\xff" * 900 + b"\n" + second,
            self.whole + b"more",
            header + first + b'{"end":2}\n',
            header + first + b'{"end":"1"}\n',
        ):
            self.unfinished.write_bytes(left)
            self.assertEqual(self.export("--resume"), 0, left)
            self.assertEqual(self.file.read_bytes(), self.whole, left)
            self.file.unlink()

    def test_without_resume_it_starts_over(self) -> None:
        for left in (b"", bytes(9), self.whole[:200], self.whole.replace(b'"revision":31', b'"revision":30') * 9):
            self.unfinished.write_bytes(left)
            self.assertEqual(self.export(), 0, left)
            self.assertEqual(self.file.read_bytes(), self.whole)
            self.file.unlink()

    def test_ctrl_c_stops_it_while_it_reads_the_existing_file(self) -> None:
        left = self.whole[:200] + bytes(99)
        self.unfinished.write_bytes(left)
        read = exporting.read_record

        def reading(line: bytes) -> object:
            os.kill(os.getpid(), SIGINT)
            return read(line)

        with patch.object(exporting, "read_record", reading):
            self.assertEqual(self.export("--resume"), 130)
        self.assertEqual(self.unfinished.read_bytes(), left)

    def test_short_writes_to_standard_output_are_continued(self) -> None:
        class Slow(io.RawIOBase):
            def __init__(self) -> None:
                self.taken = b""

            def writable(self) -> bool:
                return True

            def write(self, data: memoryview) -> int:  # type: ignore[override]
                self.taken += bytes(data[:7])
                return len(data[:7])

        slow = Slow()
        with patch("sys.stdout", SimpleNamespace(buffer=slow)):
            output.write(self.whole)
        self.assertEqual(slow.taken, self.whole)

    def test_resume_refuses_other_files(self) -> None:
        for text in (
            self.whole.replace(b'"revision":31', b'"revision":30')[:200],
            self.whole.replace(b'"keyspaces":null', b'"keyspaces":["data"]')[:200],
            b"a file of mine\n",
        ):
            self.unfinished.write_bytes(text)
            self.assertEqual(self.export("--resume"), 4, text)
            self.assertEqual(self.unfinished.read_bytes(), text)
        for text in (b"a file of mine\n", self.whole[:-1], self.whole[:200], b""):
            self.file.write_bytes(text)
            self.assertEqual(self.export("--resume"), 4, text)
            self.assertEqual(self.file.read_bytes(), text)

    def test_foreign_files_under_the_temporary_name_stay(self) -> None:
        self.unfinished.write_bytes(b"mine")
        self.assertEqual(self.export(), 4)
        self.assertEqual(self.unfinished.read_bytes(), b"mine")
        self.unfinished.unlink()
        other = self.path / "other"
        other.write_bytes(b"")
        for make in (
            lambda: self.unfinished.mkdir(),
            lambda: self.unfinished.symlink_to(other),
            lambda: os.mkfifo(self.unfinished),
        ):
            make()
            result = kvtwist("export", self.store, self.file)
            self.assertEqual((result.exit_code, result.stderr.count("\n")), (4, 1), result.stderr)
            self.assertIn("in the way", result.stderr)
            self.unfinished.rmdir() if self.unfinished.is_dir() else self.unfinished.unlink()
        self.assertEqual(other.read_bytes(), b"")
        self.assertFalse(self.file.exists())

    def test_two_exports_to_one_file_do_not_mix(self) -> None:
        other = eventful(self.path / "other").end()
        second: list[int] = []
        disk = HookedFiles(lambda: second.append(kvtwist("export", "--force", other, self.file).exit_code))
        self.assertEqual(self.export(disk=disk), 0)
        self.assertEqual(second, [3])
        self.assertEqual(self.file.read_bytes(), self.whole)

    def test_a_file_made_meanwhile_stays(self) -> None:
        self.assertEqual(self.export(disk=HookedFiles(after_sync=lambda: self.file.write_bytes(b"mine"))), 4)
        self.assertEqual(self.file.read_bytes(), b"mine")

    def test_an_existing_file_is_replaced_only_with_force(self) -> None:
        self.file.write_bytes(b"mine")
        self.assertEqual(self.export(), 4)
        self.assertEqual(self.file.read_bytes(), b"mine")
        self.assertEqual(self.export("--force"), 0)
        self.assertEqual(self.file.read_bytes(), self.whole)

    def test_a_failed_export_leaves_the_old_file(self) -> None:
        self.file.write_bytes(b"mine")
        link = self.path / "link"
        link.symlink_to(self.file)

        def fail() -> None:
            raise OSError(ENOSPC, "no room")

        self.assertEqual(kvtwist("export", "--force", self.store, link, disk=HookedFiles(fail)).exit_code, 4)
        self.assertEqual(self.file.read_bytes(), b"mine")
        self.assertEqual(kvtwist("export", "--force", self.store, link).exit_code, 0)
        self.assertEqual(self.file.read_bytes(), self.whole)
        self.assertTrue(link.is_symlink())

    def test_only_the_given_keyspaces(self) -> None:
        self.assertEqual(self.export("--keyspace", "staged"), 0)
        _, record, _ = self.file.read_bytes().splitlines()
        self.assertEqual(json.loads(record)["key"], "u")
        self.assertEqual(self.export("--keyspace", "stagd", "--force"), 4)

    def test_an_interrupted_export_can_be_resumed(self) -> None:
        self.patch(exporting, "PIECE", 300)
        for number in (SIGINT, SIGTERM, SIGHUP):
            disk = HookedFiles(partial(os.kill, os.getpid(), number))
            self.assertEqual(self.export(disk=disk), 128 + number)
            self.assertEqual([self.unfinished.read_bytes()], disk.written)
            self.assertFalse(self.file.exists())
            self.assertEqual(self.export("--resume"), 0)
            self.assertEqual(self.file.read_bytes(), self.whole)
            self.file.unlink()


class ImportTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.store = self.path / "store"
        self.file = self.path / "file"
        self.patch(importing, "BATCH_LINES", 10)

    def run_import(self, *options: str) -> int:
        return kvtwist("import", self.store, self.file, *options).exit_code

    def count(self) -> int:
        return len(contents_of(self.store).get(DATA, {}))

    def test_only_create_makes_a_store(self) -> None:
        self.file.write_bytes(lines(25))
        self.assertEqual(self.run_import(), 4)
        self.assertFalse(self.store.exists())
        self.assertEqual(self.run_import("--create"), 0)
        self.assertEqual(self.run_import("--create"), 0)
        self.assertEqual(self.count(), 25)

    def test_no_store_is_made_in_a_directory_with_other_files(self) -> None:
        self.file.write_bytes(lines(1))
        self.store.mkdir()
        (self.store / "mine").write_bytes(b"")
        self.assertEqual(self.run_import("--create"), 4)
        self.assertEqual([path.name for path in self.store.iterdir()], ["mine"])
        self.store = self.file
        self.assertEqual(self.run_import("--create"), 4)

    def test_records_are_added_to_the_existing_ones(self) -> None:
        with opened(str(self.store), create=True) as store:
            store.write([Put(DATA, b"mine", b"m", "text/plain"), Put(DATA, b"1", b"other", "text/plain")])
        self.file.write_bytes(lines(3))
        self.assertEqual(self.run_import(), 0)
        found = contents_of(self.store)[DATA]
        self.assertEqual(
            {key: record[0] for key, record in found.items()}, {b"mine": b"m", b"0": b"v0", b"1": b"v1", b"2": b"v2"}
        )

    def test_a_bad_line_is_reported_and_earlier_batches_stay(self) -> None:
        good = LINE % (99, 99)
        for bad, part in (
            (b"nonsense\n", "malformed"),
            (b"\n", "truncated"),
            (b"[]\n", "object"),
            (b"\xff\n", "line 27"),
            (good.replace(b'"key"', b'"kay"'), "kay"),
            (good.replace(b'"key":"99",', b""), "neither key nor key_base64"),
            (good.replace(b'"value"', b'"value_base64"').replace(b"v99", b"a"), "base64"),
            (good.replace(b'"key":"99"', b'"key":"99","key_base64":""'), "both key and key_base64"),
            (good.replace(b'"data"', b'""'), "keyspace"),
            (good.replace(b'"data"', b'"%b"' % (b"d" * 256)), "keyspace"),
            (good.replace(b'"data"', b'"kvtwist.import"'), "keyspace"),
            (good.replace(b"text/plain", b"t" * 256), "media type"),
            (good.replace(b'"99"', b'"%b"' % (b"9" * 65536)), "65536 bytes"),
            (good.replace(b'"99"', b'"\\ud800"'), "line 27"),
            (good.replace(b":7}", b":-1}"), "modified_ms"),
            (good.replace(b":7}", b":%d}" % 2**48), "modified_ms"),
            (good.replace(b":7}", b':7,"expires_ms":-1}'), "expires_ms"),
            (good.replace(b":7}", b":1.5}"), "int"),
            (good[:-1], "incomplete"),
            (good[:40], "incomplete"),
            (b'{"end":24}\n', "it counts 24 records, but 25 precede it"),
            (b'{"end":25}\nmore\n', "there is data after"),
            (b'{"end":"25"}\n', "int"),
            (b"", "is missing"),
        ):
            shutil.rmtree(self.store, ignore_errors=True)
            text = lines(25, end=False) + bad
            self.file.write_bytes(text)
            result = kvtwist("import", "--create", self.store, self.file)
            self.assertEqual(result.exit_code, 1, (bad, result.output))
            self.assertIn(f"{self.file}: line 27: ", result.stderr)
            self.assertIn(part, result.stderr)
            self.assertEqual(self.count(), 20 if bad else 25, bad)
            self.file.write_bytes(lines(30))
            self.assertEqual(self.run_import("--resume"), 0, bad)
            self.assertEqual(self.count(), 30)

    def test_invalid_json_is_imported_as_octets(self) -> None:
        values = (b"", b"nonsense", b"{", b"1 2", b"NaN", b"\xff", b'"\xff"', b"\xef\xbb\xbf1", b"[" * 5000, b'"\n"')
        body = b"".join(
            b'{"keyspace":"data","key":"%d","value_base64":"%b","media_type":"application/json","modified_ms":7}\n'
            % (number, b64encode(value))
            for number, value in enumerate((*values, *JSON_TEXTS))
        )
        self.file.write_bytes(HEADER + body + b'{"end":%d}\n' % (len(values) + len(JSON_TEXTS)))
        self.assertEqual(self.run_import("--create"), 0)
        found = [(record[0], record[1]) for _, record in sorted(contents_of(self.store)[DATA].items(), key=_number)]
        self.assertEqual(
            found,
            [(value, "application/octet-stream") for value in values]
            + [(value, "application/json") for value in JSON_TEXTS],
        )

    def test_a_bad_header_makes_no_store(self) -> None:
        for text in (b"", b"{}\n", b"nonsense\n", HEADER.replace(b":1,", b":2,", 1), LINE % (1, 1)):
            result = kvtwist("import", "--create", self.store, text=text)
            self.assertEqual(result.exit_code, 1)
            self.assertIn("standard input: line 1: ", result.stderr)
            self.assertFalse(self.store.exists())
        self.assertEqual(kvtwist("import", "--create", self.store, self.path / "missing").exit_code, 4)

    def test_each_line_is_applied_once_despite_interrupts(self) -> None:
        self.file.write_bytes(lines(35))
        applied: list[bytes] = []
        write = OfflineStore.write

        def counting(store: OfflineStore, operations: list[Operation]) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            write(store, operations)
            applied.extend(
                operation.key for operation in operations if isinstance(operation, Put) and operation.keyspace == DATA
            )

        with patch.object(OfflineStore, "write", counting):
            for stop in range(6):
                shutil.rmtree(self.store, ignore_errors=True)
                applied.clear()
                left = stop
                status = self.run_import("--create")
                left = 1000
                if status == 0:
                    self.assertEqual(stop, 5)
                else:
                    self.assertEqual(status, 130)
                    options = ["--resume"] if stop else []  # the import did not begin
                    self.assertEqual(self.run_import(*options), 0)
                self.assertEqual(applied, [b"%d" % number for number in range(35)])

    def test_a_signal_within_a_write_does_not_cut_it_short(self) -> None:
        """A signal within any call of the disk: the current batch is finished, and the progress is recorded."""
        self.file.write_bytes(lines(35))
        for number in (SIGINT, SIGTERM, SIGHUP):
            for call in ("write", "sync"):
                found = set()
                for skip in range(100):
                    shutil.rmtree(self.store, ignore_errors=True)
                    disk = SignallingFiles(call, number, skip)
                    result = kvtwist("import", "--create", self.store, self.file, disk=disk)
                    if result.exit_code == 0:
                        break
                    self.assertEqual((result.exit_code, result.stderr), (128 + number, "kvtwist: interrupted\n"))
                    count = self.count()
                    found.add(count)
                    self.assertGreaterEqual(count, disk.written)
                    self.assertEqual(self.run_import(*(["--resume"] if self.is_begun() else [])), 0)
                    self.assertEqual(self.count(), 35)
                self.assertEqual(found, {0, 10, 20, 30})

    def is_begun(self) -> bool:
        with opened(str(self.store)) as store:
            return any(True for _ in store.scan(PROGRESS))

    def test_an_interrupted_import_is_not_forgotten(self) -> None:
        self.file.write_bytes(lines(25, end=False))
        self.assertEqual(self.run_import("--create"), 1)
        self.file.write_bytes(lines(25))
        result = kvtwist("import", self.store, self.file)
        self.assertEqual(result.exit_code, 4)
        self.assertIn("--resume", result.stderr)
        self.assertIn("--restart", result.stderr)
        exported = kvtwist("export", self.store).stdout
        self.assertNotIn(PROGRESS, exported)
        self.assertEqual(self.run_import("--restart"), 0)
        with opened(str(self.store)) as store:
            self.assertEqual(list(store.scan(PROGRESS)), [])
        self.assertEqual(self.run_import("--resume"), 4)

    def test_resume_refuses_another_file(self) -> None:
        self.file.write_bytes(lines(25, end=False))
        self.assertEqual(self.run_import("--create"), 1)
        for text in (
            lines(25).replace(b"v3", b"V3"),
            lines(5),
            HEADER.replace(b'n":1', b'n":2') + lines(25)[len(HEADER) :],
        ):
            self.file.write_bytes(text)
            result = kvtwist("import", "--resume", self.store, self.file)
            self.assertEqual(result.exit_code, 1)
            self.assertIn("not those of the interrupted import", result.stderr)
        self.file.write_bytes(lines(40))
        self.assertEqual(self.run_import("--resume"), 0)
        self.assertEqual(self.count(), 40)

    def test_batches_are_bounded_by_their_bytes(self) -> None:
        self.patch(importing, "BATCH_BYTES", 1000)
        self.file.write_bytes(lines(25).replace(b':"v', b':"' + b"w" * 900, 5))
        sizes = []
        write = OfflineStore.write

        def noting(store: OfflineStore, operations: list[Operation]) -> None:
            sizes.append(len(operations))
            write(store, operations)

        with patch.object(OfflineStore, "write", noting):
            self.assertEqual(self.run_import("--create"), 0)
        self.assertEqual(sizes, [1, 3, 3, 3, 11, 10])  # including the progress record
