"""The manifest: there is the old one or the new one, whole, whenever the process or the machine dies."""

from __future__ import annotations

import errno

from kvtwist.engine import manifest as manifests
from kvtwist.engine.manifest import Manifest
from kvtwist.engine.sorted_run import PageRef, SortedRun
from kvtwist.model import StoreDamaged
from tests.support.engine import FaultyDisk, TestCase, WitnessDisk

OLD = Manifest(
    7, 1_700_000_000_000, 4, {"data": [SortedRun([PageRef(1, b"a", 30, None), PageRef(3, b"m", 9, 5)], 3, 20)]}
)
NEW = Manifest(
    19,
    1_700_000_000_500,
    7,
    {
        "data": [SortedRun([PageRef(5, b"a", 30, None)], -1, -3, 2), SortedRun([PageRef(6, b"b", 9, 1)], 4, 40)],
        "staged": [SortedRun([PageRef(2, b"", 1, 1)], 1, 1)],
    },
)


class ManifestTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.disk = FaultyDisk()
        self.directory = str(self.path)

    def load(self) -> Manifest:
        return manifests.load(self.disk, self.directory)

    def save(self, manifest: Manifest) -> None:
        manifests.save(self.disk, self.directory, manifest)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir())

    def test_a_new_directory_has_an_empty_one(self) -> None:
        self.assertEqual(self.load(), Manifest(0, 0, 1, {}))

    def test_it_comes_back_as_it_was_saved(self) -> None:
        self.save(NEW)
        self.assertEqual(self.load(), NEW)
        self.assertEqual(self.load().pages(), {2, 5, 6})

    def test_the_newest_counts_whatever_was_saved_last(self) -> None:
        self.save(NEW)
        self.save(OLD)
        self.assertEqual(self.load(), NEW)

    def test_one_of_the_same_revision_takes_the_place_of_the_other(self) -> None:
        self.save(OLD)
        again = Manifest(OLD.revision, OLD.time_ms + 1, 9, {})
        self.save(again)
        self.assertEqual(self.load(), again)
        self.assertEqual(len(self.files()), 1)

    def test_others_and_unfinished_ones_are_removed(self) -> None:
        self.save(OLD)
        self.save(NEW)
        (self.path / "manifest-00000000000000000099.new").write_bytes(b"half")
        (self.path / "journal-00000000000000000001.log").touch()
        manifests.remove_others(self.disk, self.directory, NEW)
        self.assertEqual(self.files(), ["journal-00000000000000000001.log", "manifest-00000000000000000019"])

    def test_what_is_not_a_manifest_stays(self) -> None:
        names = [
            "manifest-00000000000000000007.bak",
            "manifest-00000000000000000007.new.bak",
            "manifest-0000000000000000007",
            "manifest-000000000000000000007",
            "manifest-0000000000000000000x",
            "manifest-\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661",
            "manifest-.new",
            "manifest-notes.new",
            "old-manifest-00000000000000000007",
        ]
        for name in names:
            (self.path / name).write_text("not ours")
        for name in ("manifest-00000000000000000003", "manifest-00000000000000000099.new", "manifest-dir"):
            (self.path / name).mkdir()
            names.append(name)
        self.save(NEW)
        self.assertEqual(self.load(), NEW)
        manifests.remove_others(self.disk, self.directory, NEW)
        self.assertEqual(self.files(), sorted([*names, manifests.name_of(NEW)]))

    def test_an_unfinished_one_is_not_loaded(self) -> None:
        self.save(OLD)
        (self.path / "manifest-00000000000000000099.new").write_bytes(b"half")
        self.assertEqual(self.load(), OLD)

    def test_damage_at_every_byte_is_noticed_and_names_the_file(self) -> None:
        self.save(NEW)
        [name] = self.files()
        path = self.path / name
        content = path.read_bytes()
        damaged = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(len(content))]
        damaged += [content[:length] for length in range(len(content))] + [content + b"\0"]
        for text in damaged:
            path.write_bytes(text)
            with self.assertRaises(StoreDamaged) as caught:
                self.load()
            self.assertIn(str(path), str(caught.exception))

    def test_one_that_cannot_be_saved_leaves_the_old_one(self) -> None:
        self.save(OLD)
        for call in ("create", "write", "sync", "rename"):
            self.disk.fail(call, errno.ENOSPC)
            with self.assertRaises(OSError) as caught:
                self.save(NEW)
            self.assertEqual(caught.exception.errno, errno.ENOSPC)
            self.assertEqual(self.load(), OLD)
            self.assertEqual(self.files(), ["manifest-00000000000000000007"], "what is half done takes no room")
        self.save(NEW)
        self.assertEqual(self.load(), NEW)

    def test_there_is_the_old_one_or_the_new_one_at_every_moment(self) -> None:
        root = self.path / "store"
        root.mkdir()
        (self.path / "album").mkdir()
        saved = [OLD]
        disk = WitnessDisk(root, self.path / "album", lambda: list(saved))
        self.addCleanup(disk.put_away)
        manifests.save(FaultyDisk(), str(root), OLD)
        disk.trust()
        manifests.save(disk, str(root), NEW)
        saved.append(NEW)
        manifests.remove_others(disk, str(root), NEW)
        self.assertGreater(len(disk.moments), 10)
        for moment in disk.moments:
            assert isinstance(moment.note, list)
            for left in (moment.killed, moment.powerless):
                found = manifests.load(self.disk, str(left))
                self.assertIn(found, [NEW] if NEW in moment.note else [OLD, NEW], f"{moment.what}, {left.name}")
