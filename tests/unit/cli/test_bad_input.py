"""Invalid archives and export files are refused with one line, and leave no files."""

from __future__ import annotations

import shutil
import tarfile

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvtwist.cli import import_ as importing
from kvtwist.engine import journal
from kvtwist.engine.backup import END
from tests.support.engine import TestCase
from tests.support.tools import contents_of, eventful, kvtwist

Members = list[tuple[tarfile.TarInfo, bytes]]
MANIFEST = f"manifest-{19:020d}"


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: object
) -> tuple[tarfile.TarInfo, bytes]:
    """A member of an archive."""
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content), kind
    for field, value in more.items():
        setattr(info, field, value)
    return info, content


def ending(files: object, revision: object = 31) -> tuple[tarfile.TarInfo, bytes]:
    """The last member of an archive."""
    return member(END, msgspec.json.encode({"revision": revision, "files": files}))


def packed(members: Members, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """An archive."""
    whole = b"".join(info.tobuf(form) + content + bytes(-len(content) % 512) for info, content in members)
    return whole + bytes(1024)


def huge(info: tarfile.TarInfo, size: int) -> bytes:
    """An archive with one member whose header gives a wrong size."""
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


class ArchiveTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(journal, "EXTENT", 300)
        store = eventful(self.path / "store").end()
        self.before = contents_of(store)
        kvtwist("backup", store, self.path / "backup")
        files = sorted(path for path in (self.path / "backup").rglob("*") if path.is_file())
        self.members = [member(str(path.relative_to(self.path / "backup")), path.read_bytes()) for path in files]
        self.place = self.path / "place"
        self.place.mkdir()

    def restore(self, archive: bytes) -> tuple[int, str]:
        """Restore an archive; returns exit code and error line. A failure must leave no file."""
        (self.path / "archive").write_bytes(archive)
        result = kvtwist("restore", self.path / "archive", self.place / "copy")
        self.assertEqual(result.stderr.count("\n"), 1 if result.exit_code else 0, result.stderr)
        if result.exit_code:
            self.assertEqual(list(self.place.iterdir()), [], result.stderr)
        return result.exit_code, result.stderr

    def test_a_complete_archive_is_restored(self) -> None:
        self.assertEqual(self.restore(packed([*self.members, ending(len(self.members))])), (0, ""))
        self.assertEqual(contents_of(self.place / "copy"), self.before)

    def test_other_archives_are_refused(self) -> None:
        good, count = self.members, len(self.members)
        whole = packed([*good, ending(count)])
        link = {"linkname": MANIFEST}
        for name, archive, said in (
            ("nothing", b"", "incomplete backup"),
            ("zeros", bytes(4096), "incomplete backup"),
            ("noise", bytes(range(256)) * 40, "incomplete backup"),
            ("compressed", b"\x1f\x8b\x08" + bytes(600), "incomplete backup"),
            ("a header alone", whole[:512], "ends within"),
            ("half a header", whole[:300], "incomplete backup"),
            ("no end", packed(good), f"where a file or {END} should begin"),
            ("an end alone", packed([ending(0)]), "no store"),
            ("one file is missing", packed([*good[1:], ending(count)]), f"{END} counts {count}"),
            ("one file too many", packed([*good, ending(count - 1)]), f"{END} counts {count - 1}"),
            ("a file twice", packed([good[0], *good, ending(count + 1)]), "twice"),
            ("something after the end", whole + b"?", "there is data after"),
            ("an end that is not JSON", packed([*good, member(END, b"{")]), END),
            ("an end that says nothing", packed([*good, member(END, b"{}")]), END),
            ("an end of another type", packed([*good, ending("many")]), END),
            ("an end that is not UTF-8", packed([*good, member(END, b'"\xff')]), END),
            ("an end that is nested", packed([*good, member(END, b"[" * 60_000)]), END),
            ("an end that is long", packed([*good, member(END, b" " * 70_000)]), "70000 bytes"),
            ("a revision that is not there", packed([*good, ending(count, 10**9)]), "ends at revision 31"),
            ("an absolute name", packed([member("/etc/passwd")]), "'/etc/passwd'"),
            ("a name above", packed([member(f"../{MANIFEST}")]), f"'../{MANIFEST}'"),
            ("a name within another", packed([member(f"x/{MANIFEST}")]), "is not the name of a store's file"),
            ("a page that is none", packed([member("pages/../../x")]), "is not the name of a store's file"),
            ("a page deeper down", packed([member("pages/a/MQ==_")]), "is not the name of a store's file"),
            ("a page of a strange number", packed([member("pages/LTE=_")]), "is not the name of a store's file"),
            ("a manifest without a number", packed([member("manifest-1")]), "is not the name of a store's file"),
            (
                "digits of another script",
                packed([member("manifest-" + "\u0663" * 20)]),
                "is not the name of a store's file",
            ),
            ("the lock", packed([member("lock")]), "is not the name of a store's file"),
            ("our own mark", packed([member(".kvtwist-partial")]), "is not the name of a store's file"),
            ("no name", packed([member("")]), "is not the name of a store's file"),
            ("a name with a line's end", packed([member("a\nb")]), "'a\\nb'"),
            ("a name that is not UTF-8", packed([member("a\udcff")]), "'a\\udcff'"),
            ("a directory", packed([member("pages", kind=tarfile.DIRTYPE)]), "not a regular file"),
            ("an old directory", packed([member("pages/", kind=tarfile.AREGTYPE)]), "not a regular file"),
            ("a link", packed([member(MANIFEST, kind=tarfile.SYMTYPE, linkname="/etc/passwd")]), "not a regular file"),
            (
                "a hard link",
                packed([good[0], member("pages/MQ==_", kind=tarfile.LNKTYPE, **link)]),
                "not a regular file",
            ),
            ("a device", packed([member(MANIFEST, kind=tarfile.CHRTYPE)]), "not a regular file"),
            ("a pipe", packed([member(MANIFEST, kind=tarfile.FIFOTYPE)]), "not a regular file"),
            ("a file with holes", packed([member(MANIFEST, kind=tarfile.GNUTYPE_SPARSE)]), "not a regular file"),
            ("a long name", packed([member("pages/" + "M" * 300)], tarfile.GNU_FORMAT), "not a regular file"),
            (
                "an extended header",
                packed([member(MANIFEST, pax_headers={"path": "../x"})], tarfile.PAX_FORMAT),
                "not a regular file",
            ),
            (
                "holes by a header",
                packed([member(MANIFEST, pax_headers={"GNU.sparse.size": "9"})], 2),
                "not a regular file",
            ),
            ("a global header", packed([member("pax", b"9 path=x\n", tarfile.XGLTYPE)]), "not a regular file"),
            ("a huge file", huge(member(MANIFEST)[0], 2**60), "ends within"),
            ("a huge end", huge(member(END)[0], 2**60), "bytes long"),
            ("less than nothing", huge(member(MANIFEST)[0], -1), "not a regular file"),
        ):
            with self.subTest(name):
                status, line = self.restore(archive)
                self.assertEqual(status, 4 if said == "no store" else 1, line)
                self.assertIn(said, line)

    def test_a_truncated_archive_is_refused(self) -> None:
        whole = packed([*self.members, ending(len(self.members))])
        for size in range(0, len(whole) - 1024 - 512, 187):
            self.assertEqual(self.restore(whole[:size])[0], 1, size)

    @given(st.integers(0, 2**15), st.binary(min_size=1, max_size=9))
    @settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
    def test_damage_is_refused_or_harmless(self, at: int, noise: bytes) -> None:
        whole = bytearray(packed([*self.members, ending(len(self.members))]))
        at %= len(whole)
        whole[at : at + len(noise)] = noise
        if self.restore(bytes(whole))[0] == 0:
            found = contents_of(self.place / "copy")
            shutil.rmtree(self.place / "copy")
            self.assertEqual(found, self.before)


class LineTests(TestCase):
    """Lines that an import refuses; test_export_import.py has more."""

    def refused(self, text: bytes) -> str:
        """Import lines that must be refused; returns the error line."""
        result = kvtwist("import", "--create", self.path / "store", text=text)
        self.assertEqual((result.exit_code, result.stderr.count("\n")), (1, 1), (text[:200], result.stderr))
        return result.stderr

    def test_bad_headers(self) -> None:
        for header in (
            b"",
            b"\n",
            b"\0" * 5000,
            b"\xef\xbb\xbf" + b'{"kvtwist_export":1,"revision":1}\n',
            b'{"kvtwist_export":1}\n',
            b'{"kvtwist_export":true,"revision":1}\n',
            b'{"kvtwist_export":1.0,"revision":NaN}\n',
            b'{"kvtwist_export":%d,"revision":1}\n' % 10**30,
            b'{"kvtwist_export":1,"revision":1,"more":1}\n',
            b'{"kvtwist_export":1,"revision":1,"keyspaces":"data"}\n',
            b'{"kvtwist_export":1,"revision":1,"keyspaces":[[]]}\n',
            b'{"kvtwist_export":' + b"[" * 100_000 + b"\n",
            b"[" * 100_000 + b"]" * 100_000 + b"\n",
            b'{"a":' * 100_000 + b"\n",
        ):
            self.assertIn("line 1: ", self.refused(header))
            self.assertFalse((self.path / "store").exists())

    def test_bad_lines(self) -> None:
        good = '{"keyspace":"data","key":"k","value":"v","media_type":"t","modified_ms":7,"expires_ms":null}\n'
        for old, new in (
            ('"k"', "NaN"),
            ('"k"', "1e999"),
            ('"k"', "null"),
            ('"k"', "[" * 100_000),
            ('"k"', '{"a":' * 100_000),
            ('"k"', '"\\ud83d"'),
            ('"k"', '"' + "k" * 70_000 + '"'),
            ('"data"', "7"),
            ('"data"', '"' + "\\u00fc" * 128 + '"'),
            ('"v"', "true"),
            ('"t"', "[]"),
            (":7,", ":-7,"),
            (":7,", ":7.5,"),
            (":7,", f":{2**48},"),
            (":7,", f":{10**40},"),
            (":7,", ":-Infinity,"),
            ('s":null', f's":{-1}'),
            ('s":null', f's":{10**40}'),
            ('s":null', 's":"soon"'),
            ('"key"', '"unknown":1,"key"'),
            ("}\n", "\n"),
            ("}\n", "} {}\n"),
            ("}\n", "}\r\r\n\n"),
        ):
            text = '{"kvtwist_export":1,"revision":1}\n' + good.replace(old, new, 1) + '{"end":1}\n'
            self.assertRegex(self.refused(text.encode()), "line [23]: ")
            shutil.rmtree(self.path / "store")

    def test_a_line_that_is_too_long_is_not_read_to_its_end(self) -> None:
        self.patch(importing, "MAX_LINE", 1000)
        self.patch(importing, "MAX_HEADER", 1000)
        header = b'{"kvtwist_export":1,"revision":1%b}\n'
        line = b'{"keyspace":"data","key":"k","value":"%b","media_type":"t","modified_ms":7}\n'
        for number, text in (
            (1, header % (b" " * 1000) + b'{"end":0}\n'),
            (2, header % b"" + line % (b"v" * 1000) + b'{"end":1}\n'),
            (3, header % b"" + line % b"v" + b'{"end":1' + b" " * 1000 + b"}\n"),
        ):
            self.assertIn(f"line {number}: ", self.refused(text))
            shutil.rmtree(self.path / "store", ignore_errors=True)
