"""
The journal: what was written is read back, a torn tail is cut off, and damage stops the start and says where it is.

The last record is torn at every byte, and every byte before it is flipped once.
"""

from __future__ import annotations

import errno
import os
import zlib
from itertools import accumulate, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from kvtwist.engine import frame as frames
from kvtwist.engine import journal
from kvtwist.engine.disk_space import PIECES, SPARE
from kvtwist.engine.frame import Batch, Change, Transaction, encode_frame
from kvtwist.engine.journal import JournalWriter
from kvtwist.engine.recovery import Recovery, replay
from kvtwist.engine.segment import HEADER_SIZE, segment_name
from kvtwist.model import NoRoom, StoreDamaged, StoreUnavailable
from tests.support.engine import FaultyDisk, ForgetfulDisk, TestCase

HEAD_SIZE = 16
"""Of a record."""


def transaction(revision: int, value: bytes = b"value", changes: int = 2) -> Transaction:
    return Transaction(
        revision,
        1_700_000_000_000 + revision,
        [Change("data", b"k%d" % n, value, "text/plain", n) for n in range(changes)],
    )


class JournalCase(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(journal, "EXTENT", 0)
        self.disk = FaultyDisk()

    def writer(self, next_revision: int = 1, durable: bool = True, begun: bool = True) -> JournalWriter:
        """:param begun: whether it has its first segment, before it has anything to write."""
        writer = JournalWriter(self.disk, str(self.path), next_revision, durable)
        if begun:
            writer.rotate()
        return writer

    def written(self, *batches: int, durable: bool = True, value: bytes = b"value") -> Path:
        """
        Write batches of so many transactions to a new segment, and return its path.

        `self.starts` is where the record of each batch begins.
        """
        writer = self.writer(durable=durable)
        sizes = [self.segment(1).stat().st_size]
        revision = 0
        for count in batches:
            sizes.append(writer.append([transaction(revision + n, value) for n in range(1, count + 1)]))
            revision += count
        writer.close()
        self.starts = list(accumulate(sizes))[:-1]
        return self.segment(1)

    def header(self) -> bytes:
        """What a segment begins with, before the first record."""
        return self.foreign(1)[0]

    def foreign(self, first: int, value: bytes = b"value", count: int = 2) -> tuple[bytes, list[bytes]]:
        """The header of another journal's segment that begins with that revision, and its records."""
        place = self.path / "foreign"
        place.mkdir(exist_ok=True)
        writer = JournalWriter(self.disk, str(place), first, True)
        writer.rotate()
        [path] = place.iterdir()
        header = path.read_bytes()
        sizes = [writer.append([transaction(first + n, value)]) for n in range(count)]
        writer.close()
        content = path.read_bytes()
        path.unlink()
        ends = list(accumulate(sizes, initial=len(header)))
        return header, [content[start:end] for start, end in pairwise(ends)]

    def segment(self, first: int) -> Path:
        return self.path / segment_name(first)

    def read(self, after: int = 0) -> list[int]:
        """The revisions that are read back; `self.recovery` tells the rest."""
        self.recovery = Recovery()
        return [t.revision for t in replay(self.disk, str(self.path), after, self.recovery)]

    def refusal(self, after: int = 0) -> str:
        """Why it cannot be read."""
        with self.assertRaises(StoreDamaged) as caught:
            self.read(after)
        message = str(caught.exception)
        self.assertNotIn("\n", message)
        return message


class ReadingTests(JournalCase):
    def test_an_empty_directory_holds_nothing(self) -> None:
        self.assertEqual(self.read(), [])
        self.assertEqual(self.recovery, Recovery())

    def test_transactions_come_back_as_they_were_written(self) -> None:
        every = [
            Transaction(1, 5, [Change("data", b"", b"", "", None), Change("data", None), Change("staged", b"\0\xff")]),
            Transaction(2, 6, []),
            transaction(3, bytes(range(256)) * 300),
        ]
        writer = self.writer()
        writer.append(every[:2])
        writer.append(every[2:])
        writer.close()
        self.assertEqual(list(replay(self.disk, str(self.path), 0, Recovery())), every)

    def test_recovery_tells_what_was_read(self) -> None:
        size = self.written(2, 3).stat().st_size
        self.read()
        self.assertEqual(self.recovery, Recovery(transactions=5, segments=1, size=size, torn_bytes=0))

    def test_what_a_checkpoint_holds_is_skipped(self) -> None:
        self.written(2, 3)
        self.assertEqual(self.read(after=3), [4, 5])
        self.assertEqual(self.recovery.transactions, 2)
        self.assertEqual(self.read(after=5), [])

    def test_what_was_not_synced_is_written_and_synced_again(self) -> None:
        # A process that died may have seen a sync fail. Another sync alone stores nothing: the kernel has marked the
        # data as clean.
        told: list[tuple[str, int, bytes]] = []
        self.patch(self.disk, "cut_file", lambda *arguments: told.append(arguments))
        for durable, unsure in ((True, 1), (False, 0)):
            segment = self.written(1, 2, durable=durable)
            content = segment.read_bytes()
            self.assertEqual(self.read(), [1, 2, 3])
            self.assertEqual(told.pop(), (str(segment), len(content), content[self.starts[unsure] :]))

    def test_segments_follow_each_other(self) -> None:
        writer = self.writer()
        for revision in (1, 2, 3):
            writer.append([transaction(revision)])
            writer.rotate()
        writer.close()
        self.assertEqual(self.read(), [1, 2, 3])
        self.assertEqual(self.recovery.segments, 4)

    def test_a_segment_in_which_nothing_was_written_does_no_harm(self) -> None:
        writer = self.writer()
        writer.append([transaction(1)])
        writer.rotate()
        writer.rotate()
        writer.close()
        self.assertEqual(self.read(), [1])
        self.writer(next_revision=2).close()
        again = self.writer(next_revision=2)
        again.append([transaction(2)])
        again.close()
        self.assertEqual(self.read(), [1, 2])

    def test_a_segment_whose_header_was_not_finished_is_as_good_as_none(self) -> None:
        self.written(2)
        header = self.header()
        for length in range(len(header) + 1):
            self.segment(3).write_bytes(header[:length])
            self.assertEqual(self.read(), [1, 2])
        self.segment(3).unlink()
        self.segment(1).write_bytes(header[:7])
        self.assertEqual(self.read(), [])

    def test_a_segment_whose_first_block_never_reached_the_disk_is_as_good_as_none(self) -> None:
        # After a power cut a file system may show the new length of a file, filled with zeros.
        self.written(2)
        self.segment(3).write_bytes(bytes(len(self.header())))
        self.assertEqual(self.read(), [1, 2])

    def test_only_the_last_segment_may_be_unfinished(self) -> None:
        writer = self.writer()
        writer.append([transaction(1)])
        writer.rotate()
        writer.close()
        self.segment(1).write_bytes(self.header()[:7])
        self.assertIn(str(self.segment(1)), self.refusal())


class PieceTests(JournalCase):
    """A large frame is made and written in pieces, and its bytes are those of one that is not."""

    def test_pieces_make_the_frame(self) -> None:
        batches = {
            "a transaction": [transaction(5)],
            "several": [transaction(5 + n, b"v" * (n % 7)) for n in range(40)],
            "many changes": [transaction(5, changes=300)],
            "a mixture": [transaction(5), transaction(6, changes=300), transaction(7), transaction(8, changes=17)],
            "large values": [transaction(5 + n, bytes(500)) for n in range(20)],
            "no change": [transaction(5 + n, changes=0) for n in range(20)],
        }
        for what, transactions in batches.items():
            batch = Batch(4, transactions)
            [whole] = encode_frame(batch, b"12345678")
            for size in (1, 40, 100, 1000, 5000):
                with mock.patch.object(frames, "PIECE", size):
                    pieces = encode_frame(batch, b"12345678")
                self.assertEqual(b"".join(pieces), whole, (what, size))
                largest = max(len(t.changes) and len(t.changes[0].value or b"") for t in transactions)
                self.assertLess(max(map(len, pieces)), size + largest + 250, (what, size))

    def test_a_frame_of_pieces_is_read_back_and_goes_whole_if_one_cannot_be_written(self) -> None:
        self.patch(frames, "PIECE", 100)
        writer = self.writer()
        writer.append([transaction(1, changes=50)])
        for skip in range(5):
            self.disk.fail("write", errno.ENOSPC, skip=skip)
            self.assertRaises(NoRoom, writer.append, [transaction(2, changes=50)])
        self.disk.heal()
        writer.append([transaction(2, b"again", changes=50)])
        writer.close()
        found = list(replay(self.disk, str(self.path), 0, Recovery()))
        self.assertEqual(found, [transaction(1, changes=50), transaction(2, b"again", changes=50)])


class TornTests(JournalCase):
    def assert_cut(self, segment: Path, content: bytes, end: int, revisions: list[int], torn: bool = True) -> None:
        """The segment's content is cut off at `end`, with a warning if that was `torn`, and is whole from then on."""
        segment.write_bytes(content)
        self.assertEqual(self.read(), revisions)
        self.assertEqual(self.recovery.torn_bytes, len(content) - end if torn else 0)
        self.assertEqual(segment.read_bytes(), content[:end])
        self.assertEqual(self.read(), revisions)
        self.assertEqual(self.recovery.torn_bytes, 0)

    def test_the_last_record_may_end_at_any_byte(self) -> None:
        for durable in (True, False):
            segment = self.written(1, 2, 3, durable=durable)
            content = segment.read_bytes()
            start = self.starts[-1]
            for length in range(start + 1, len(content)):
                self.assert_cut(segment, content[:length], start, [1, 2, 3], torn=length >= start + HEAD_SIZE)
            segment.write_bytes(content[:start])
            self.assertEqual(self.read(), [1, 2, 3])
            self.assertEqual(self.recovery.torn_bytes, 0)

    def test_a_flipped_byte_in_the_last_record_cuts_it_off(self) -> None:
        segment = self.written(1, 2, 3)
        content = segment.read_bytes()
        for at in range(self.starts[-1], len(content)):
            start = self.starts[-1]
            self.assert_cut(segment, flipped(content, at), start, [1, 2, 3], torn=at >= start + HEAD_SIZE)

    def test_the_rest_of_a_file_may_be_zeros_or_noise(self) -> None:
        segment = self.written(1, 2)
        content = segment.read_bytes()
        magic = content[self.starts[0] :][:4]
        for rest in (bytes(1), bytes(5000), b"\xff" * 100, magic, magic * 50, self.header()):
            self.assert_cut(segment, content + rest, len(content), [1, 2, 3], torn=False)

    def test_the_only_record_may_be_torn(self) -> None:
        segment = self.written(1)
        self.assert_cut(segment, segment.read_bytes()[:-1], self.starts[0], [])

    def test_a_torn_record_may_hold_what_looks_like_a_record(self) -> None:
        # A client can make a value of anything, records of later revisions included. It must not keep a server that
        # died while it wrote that value from starting again.
        for first in (1, 3, 2**60):
            _, records = self.foreign(first)
            value = b"<" + b"".join(records) + b">" * 100
            segment = self.written(1, 2, 1, value=value)
            content = segment.read_bytes()
            start = self.starts[-1]
            for lost in (1, 50, len(value) // 2):
                self.assert_cut(segment, content[:-lost], start, [1, 2, 3])

    def test_a_tail_of_what_looks_like_records_is_not_summed_up_over_and_over(self) -> None:
        # Each head says that its record is some thousand bytes long. Summing them all up would take the square of the
        # length; a few times the length is enough.
        segment = self.written(1)
        content = segment.read_bytes()
        _, [record, _] = self.foreign(1)
        tail = (record[:4] + (4000).to_bytes(4, "little") + b"crc!") * 1000
        summed = 0
        crc32 = zlib.crc32

        def counted(data: bytes, value: int = 0) -> int:
            nonlocal summed
            summed += len(data)
            return crc32(data, value)

        self.patch(zlib, "crc32", counted)
        self.assert_cut(segment, content + tail, len(content), [1], torn=False)
        self.assertLess(summed, 20 * len(tail))


class DamageTests(JournalCase):
    def test_a_flipped_byte_before_the_last_record_is_damage_wherever_it_is(self) -> None:
        for durable in (True, False):
            segment = self.written(1, 2, 1, durable=durable)
            content = segment.read_bytes()
            for at in range(self.starts[0], self.starts[-1]):
                for rest in (b"", bytes(1000)):
                    segment.write_bytes(flipped(content, at) + rest)
                    message = self.refusal()
                    self.assertIn(str(segment), message)
                    self.assertIn(f"byte {max(start for start in self.starts if start <= at)},", message)
                    self.assertIn(f"byte {min(start for start in self.starts if start > at)} ", message)
                    self.assertEqual(segment.read_bytes(), flipped(content, at) + rest, "nothing may be cut off")

    def test_a_record_that_is_gone_is_damage_where_whole_ones_follow(self) -> None:
        # A loss of power may leave this where nothing is synced (`--durability os`): the bytes cannot tell.
        for durable in (True, False):
            segment = self.written(1, 1, 1, durable=durable)
            content = segment.read_bytes()
            for start, end in pairwise([*self.starts, len(content)][:-1]):
                hole = content[:start] + bytes(end - start) + content[end:]
                segment.write_bytes(hole)
                self.assertIn(f"byte {start},", self.refusal())
                self.assertEqual(segment.read_bytes(), hole)

    def test_records_of_a_segment_that_was_written_over_are_no_evidence(self) -> None:
        for durable in (True, False):
            segment = self.written(1, 1, durable=durable)
            content = segment.read_bytes()
            _, records = self.foreign(3, count=5)
            segment.write_bytes(flipped(content, len(content) - 1) + b"".join(records))
            self.assertEqual(self.read(), [1])

    def test_a_flipped_byte_in_the_header_is_damage(self) -> None:
        segment = self.written(1)
        content = segment.read_bytes()
        for at in range(self.starts[0]):
            segment.write_bytes(flipped(content, at))
            self.assertIn(str(segment), self.refusal())

    def test_damage_is_noticed_in_the_second_last_record_of_many(self) -> None:
        segment = self.written(*[1] * 50)
        segment.write_bytes(flipped(segment.read_bytes(), self.starts[-2] + 30))
        self.assertIn(f"byte {self.starts[-2]}", self.refusal())

    def test_every_segment_but_the_last_must_be_whole(self) -> None:
        for durable in (True, False):
            self.written(1, 1, durable=durable)
            self.writer(next_revision=3).close()
            segment = self.segment(1)
            content = segment.read_bytes()
            tail = len(content) - 1
            for text in (content[:tail], content[: self.starts[-1]], flipped(content, tail)):
                segment.write_bytes(text)
                message = self.refusal()
                self.assertTrue(str(segment) in message or str(self.segment(3)) in message, message)

    def test_values_may_hold_whatever_looks_like_records(self) -> None:
        header, records = self.foreign(9)
        for value in (records[0][:4], records[0][:4] * 30, b"".join(records), header + b"".join(records)):
            segment = self.written(1, 1, 1, value=value)
            self.assertEqual(self.read(), [1, 2, 3])
            segment.write_bytes(flipped(segment.read_bytes(), self.starts[0] + 20))
            self.assertIn(f"byte {self.starts[0]}", self.refusal())

    def test_a_missing_segment_is_noticed(self) -> None:
        writer = self.writer()
        for revision in (1, 2, 3):
            writer.append([transaction(revision)])
            writer.rotate()
        writer.close()
        contents = {first: self.segment(first).read_bytes() for first in (1, 2, 3)}
        missing = {
            1: f"{self.path}: the journal begins with revision 2, 1 is missing",
            2: f"{self.segment(3)}: follows on revision 1, 2 to 2 are missing",
            3: f"{self.segment(4)}: follows on revision 2, 3 to 3 are missing",
        }
        for first in contents:
            self.segment(first).unlink()
            message = self.refusal()
            self.assertEqual(message, missing[first])
            self.segment(first).write_bytes(contents[first])

    def test_a_journal_that_ends_before_the_pages_is_noticed(self) -> None:
        self.written(1, 1)
        self.assertEqual(self.read(after=2), [])
        self.assertEqual(self.refusal(after=3), f"{self.path}: the journal ends with revision 2, the pages with 3")

    def test_a_segment_with_an_old_name_and_a_later_revision_is_noticed(self) -> None:
        self.written(1, 1)
        header, records = self.foreign(2)
        for count, refused in ((1, False), (2, True)):
            self.segment(0).write_bytes(header + b"".join(records[:count]))  # revisions 2 and 3
            self.segment(3).write_bytes(b"")
            if refused:
                message = f"{self.segment(0)}: holds revision 3, which does not belong in a file of that name"
                self.assertEqual(self.refusal(after=2), message)
            else:
                self.assertEqual(self.read(after=2), [])
        self.segment(0).unlink()
        self.segment(0).mkdir()
        self.assertEqual(self.read(after=2), [])

    def test_a_segment_under_its_old_name_and_its_new_one_is_one(self) -> None:
        self.written(1, 1)
        self.segment(3).write_bytes(b"")
        os.link(self.segment(1), self.segment(0))
        self.assertEqual(self.read(), [1, 2])
        self.assertEqual(self.read(after=1), [2])

    def test_a_journal_that_begins_too_late_is_noticed(self) -> None:
        writer = self.writer(next_revision=5)
        writer.append([transaction(5)])
        writer.close()
        self.assertIn("3 is missing", self.refusal(after=2))
        self.assertEqual(self.read(after=4), [5])

    def test_what_a_checkpoint_has_made_superfluous_may_be_gone_in_any_part(self) -> None:
        # Segments are removed without a sync in between: a power cut may bring any of them back.
        writer = self.writer()
        for revision in (1, 2, 3, 4):
            writer.append([transaction(revision)])
            writer.rotate()
        writer.close()
        self.segment(2).unlink()
        self.assertEqual(self.read(after=3), [4])
        self.segment(3).unlink()
        self.assertEqual(self.read(after=3), [4])

    def test_a_gap_in_revisions_is_noticed(self) -> None:
        for revisions in ((1, 3), (1, 1), (2, 1), (1, 0)):
            writer = self.writer()
            for revision in revisions:
                writer.append([transaction(revision)])
            writer.close()
            self.assertIn(str(self.segment(1)), self.refusal())

    def test_a_segment_under_the_wrong_name_is_noticed(self) -> None:
        self.written(2).rename(self.segment(2))
        self.assertIn("missing", self.refusal())

    def test_files_of_others_are_left_alone(self) -> None:
        self.written(2)
        (self.path / "journal.txt").write_text("notes")
        (self.path / "journal-old.log").write_text("notes")
        self.assertEqual(self.read(), [1, 2])


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


class WritingTests(JournalCase):
    def test_a_batch_is_on_the_disk_when_append_returns(self) -> None:
        root = self.path / "root"
        root.mkdir()
        disk = ForgetfulDisk(root)
        self.addCleanup(disk.put_away)
        writer = JournalWriter(disk, str(root), 1, durable=True)
        for revision in (1, 2, 3):
            writer.append([transaction(revision)])
            left = root.with_name(f"left-{revision}")
            disk.cut_power(left)
            found = [t.revision for t in replay(self.disk, str(left), 0, Recovery())]
            self.assertEqual(found, list(range(1, revision + 1)))

    def test_append_tells_how_much_it_wrote(self) -> None:
        writer = self.writer()
        before = self.segment(1).stat().st_size
        size = writer.append([transaction(1), transaction(2)])
        self.assertEqual(self.segment(1).stat().st_size, before + size)
        writer.close()

    def test_a_batch_that_finds_no_room_leaves_nothing_and_the_next_one_may(self) -> None:
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            writer = self.writer()
            writer.append([transaction(1)])
            size = self.segment(1).stat().st_size
            self.disk.fail("write", number)
            with self.assertRaises(NoRoom) as caught:
                writer.append([transaction(2, b"lost" * 1000)])
            self.assertEqual(str(caught.exception), f"no room on the disk ({os.strerror(number)})")
            self.assertEqual(self.segment(1).stat().st_size, size)
            writer.append([transaction(2)])
            writer.close()
            self.assertEqual(self.read(), [1, 2])

    def test_a_write_that_fails_otherwise_is_the_last(self) -> None:
        writer = self.writer()
        writer.append([transaction(1)])
        self.disk.fail("write", errno.EIO)
        for _ in range(3):
            self.assertRaises(StoreUnavailable, writer.append, [transaction(2)])
        self.assertRaises(StoreUnavailable, writer.rotate)
        writer.close()
        self.assertEqual(self.read(), [1])

    def test_a_sync_that_fails_is_the_last(self) -> None:
        # Asking again would say yes although what was written is lost.
        writer = self.writer()
        self.disk.fail("sync", errno.EIO)
        for _ in range(3):
            self.assertRaises(StoreUnavailable, writer.append, [transaction(1)])
        writer.close()

    def test_a_cut_that_fails_is_the_last(self) -> None:
        writer = self.writer()
        self.disk.fail("write", errno.ENOSPC)
        self.disk.fail("cut", errno.EIO)
        for _ in range(3):
            self.assertRaises(StoreUnavailable, writer.append, [transaction(1)])
        writer.close()
        self.assertEqual(self.read(), [])
        self.assertGreater(self.recovery.torn_bytes, 0)

    def test_without_durability_nothing_is_synced_before_the_end_of_a_segment(self) -> None:
        syncs: list[str] = []
        self.patch(self.disk, "after", lambda call, path: syncs.append(path) if call == "sync" else None)
        writer = self.writer(durable=False)
        syncs.clear()
        writer.append([transaction(1)])
        self.assertEqual(syncs, [])
        writer.rotate()
        self.assertEqual(syncs, [str(self.segment(1)), str(self.path / "journal-spare")])
        writer.append([transaction(2)])
        writer.close()
        self.assertEqual(syncs[2:], [str(self.segment(2))])

    def test_what_a_backup_is_told_of_is_on_the_disk(self) -> None:
        for durable in (True, False):
            root = self.path / f"root-{durable}"
            root.mkdir()
            disk = ForgetfulDisk(root)
            self.addCleanup(disk.put_away)
            writer = JournalWriter(disk, str(root), 1, durable)
            for revision in (1, 2):
                writer.append([transaction(revision)])
            last, _ = writer.mark(0)
            writer.append([transaction(3)])
            disk.cut_power(self.path / f"left-{durable}")
            found = [t.revision for t in replay(self.disk, str(self.path / f"left-{durable}"), 0, Recovery())]
            self.assertEqual((last, found), (2, [1, 2, 3] if durable else [1, 2]))

    def test_a_segment_in_which_nothing_is_written_is_used_on(self) -> None:
        # A checkpoint that is tried again and again on a full disk takes no more room each time.
        writer = self.writer()
        writer.append([transaction(1)])
        writer.rotate()
        calls: list[str] = []
        self.patch(self.disk, "before", lambda call, path: calls.append(call))
        writer.rotate()
        writer.close()
        self.assertEqual(calls, ["close"])

    def test_a_new_segment_that_cannot_be_made_leaves_the_old_one_in_use(self) -> None:
        for call in ("create", "write", "sync", "sync_directory"):
            writer = self.writer()
            writer.append([transaction(1)])
            self.disk.fail(call, errno.ENOSPC)
            self.assertRaises(OSError, writer.rotate)
            self.assertFalse(self.segment(2).exists())
            writer.append([transaction(2)])
            writer.rotate()
            writer.append([transaction(3)])
            writer.close()
            self.assertEqual(self.read(), [1, 2, 3])
            self.segment(3).unlink()
        self.assertEqual(self.disk.paths, {})

    def test_what_was_cut_back_does_not_come_back_in_a_finished_segment(self) -> None:
        # A cut is not on the disk before a sync; behind it, nothing but the last segment may be torn.
        disk = HalfForgetfulDisk()
        self.disk = disk
        writer = self.writer()
        writer.append([transaction(1)])
        disk.fail("write", errno.ENOSPC)
        self.assertRaises(NoRoom, writer.append, [transaction(2)])
        writer.rotate()
        disk.cut_power()
        self.assertEqual(self.read(), [1])

    def test_there_is_no_segment_before_there_is_something_to_write(self) -> None:
        for durable in (True, False):
            writer = self.writer(durable=durable, begun=False)
            self.assertEqual(writer.mark(0), (0, []))
            writer.drop(0)
            writer.close()
            self.assertEqual(list(self.path.iterdir()), [])
            self.assertEqual(self.disk.paths, {})

    def test_the_first_segment_is_on_the_disk_before_its_first_batch(self) -> None:
        calls: list[tuple[str, str]] = []
        self.patch(self.disk, "after", lambda call, path: calls.append((call, os.path.basename(path))))
        writer = self.writer(begun=False)
        writer.append([transaction(1)])
        name = self.segment(1).name
        made = calls.index(("sync_directory", self.path.name))
        self.assertEqual([call for call, _ in calls[:made] if call != "rename"], ["create", "write", "sync"])
        self.assertEqual(calls[made + 1 :], [("extend", name), ("write", name), ("sync", name)])
        writer.close()

    def test_a_first_segment_that_cannot_be_made_for_lack_of_room_is_tried_again(self) -> None:
        writer = self.writer(begun=False)
        for number in (errno.ENOSPC, errno.EDQUOT):
            for call in ("create", "write", "sync", "sync_directory"):
                self.disk.fail(call, number)
                with self.assertRaises(NoRoom) as caught:
                    writer.append([transaction(1)])
                self.assertEqual(str(caught.exception), f"no room on the disk ({os.strerror(number)})")
                self.assertEqual(list(self.path.iterdir()), [])
                self.assertEqual(self.disk.paths, {})
                self.assertEqual(writer.mark(0), (0, []))
        writer.append([transaction(1)])
        writer.close()
        self.assertEqual(self.read(), [1])

    def test_a_first_segment_that_cannot_be_made_otherwise_breaks_it(self) -> None:
        for call in ("create", "write", "sync", "sync_directory"):
            writer = self.writer(begun=False)
            self.disk.fail(call, errno.EIO)
            for _ in range(3):
                self.assertRaises(StoreUnavailable, writer.append, [transaction(1)])
            self.assertRaises(StoreUnavailable, writer.rotate)
            self.assertRaises(StoreUnavailable, writer.mark, 0)
            writer.close()
            self.assertEqual(list(self.path.iterdir()), [])
            self.assertEqual(self.disk.paths, {})

    def test_where_no_file_can_be_opened_it_is_not_now_and_never_for_good(self) -> None:
        for number in (errno.EMFILE, errno.ENFILE):
            for call in ("names", "create", "write", "sync", "rename", "sync_directory", "remove"):
                with self.subTest(number=number, call=call):
                    writer = self.writer(begun=False)
                    self.disk.fail(call, number)
                    if call == "remove":
                        self.disk.fail("write", number)
                    with self.assertRaisesRegex(StoreUnavailable, os.strerror(number)):
                        writer.append([transaction(1)])
                    self.assertIsNone(writer.broken)
                    writer.append([transaction(1)])
                    writer.close()
                    self.assertEqual(self.read(), [1])
                    self.assertEqual([path.name for path in self.path.iterdir()], [segment_name(1)])
                    self.segment(1).unlink()
                    self.assertEqual(self.disk.paths, {})

    def test_a_name_that_may_come_back_is_removed_for_good_before_anything_is_written(self) -> None:
        # Else a segment might come back after a loss of power, behind one that has gone on in its place.
        for action in ("append", "rotate", "mark"):
            with self.subTest(action=action):
                writer = self.writer()
                writer.append([transaction(1)])
                self.disk.fail("sync_directory", errno.ENOSPC)
                self.disk.fail("sync_directory", errno.EMFILE, times=2)
                self.assertRaises(StoreUnavailable, writer.rotate)
                calls: list[str] = []
                with self.assertRaises(StoreUnavailable):
                    self.do(writer, action)
                self.assertIsNone(writer.broken)
                self.patch(self.disk, "after", lambda call, path, calls=calls: calls.append(call))
                self.do(writer, action)
                self.assertEqual(calls[0], "sync_directory")
                writer.close()
                self.assertEqual(self.read(), [1, 2] if action == "append" else [1])
                for path in self.path.iterdir():
                    path.unlink()

    def do(self, writer: JournalWriter, action: str) -> None:
        arguments = {"append": ([transaction(2)],), "rotate": (), "mark": (0,)}
        getattr(writer, action)(*arguments[action])

    def test_a_first_segment_takes_the_place_of_one_that_was_never_finished(self) -> None:
        for content in (b"", self.header()[:10], bytes(1000)):
            self.segment(1).write_bytes(content)
            writer = self.writer(begun=False)
            self.assertEqual(writer.mark(0), (0, []))
            writer.append([transaction(1)])
            writer.close()
            self.assertEqual(self.read(), [1])
            self.segment(1).unlink()

    def test_what_was_there_before_the_first_segment_is_marked_and_dropped(self) -> None:
        self.written(2, 1)
        size = self.segment(1).stat().st_size
        for durable in (True, False):
            writer = self.writer(4, durable=durable, begun=False)
            self.assertEqual(writer.mark(0), (3, [(str(self.segment(1)), size)]))
            writer.drop(3)
            self.assertTrue(self.segment(1).exists(), "nothing follows on it yet")
            writer.close()
        writer = self.writer(4, begun=False)
        writer.rotate()
        self.assertEqual(writer.mark(3), (3, [(str(self.segment(4)), len(self.header()))]))
        writer.drop(3)
        self.assertFalse(self.segment(1).exists())
        writer.close()
        writer = self.writer(4, begun=False)
        writer.append([transaction(4)])
        writer.close()
        self.assertEqual(self.read(3), [4])

    def test_superfluous_segments_are_dropped(self) -> None:
        writer = self.writer()
        for revision in (1, 2, 3):
            writer.append([transaction(2 * revision - 1), transaction(2 * revision)])
            writer.rotate()
        for revision, left in ((0, [1, 3, 5, 7]), (1, [1, 3, 5, 7]), (2, [3, 5, 7]), (5, [5, 7]), (6, [7]), (99, [7])):
            writer.drop(revision)
            self.assertEqual([first for first in range(9) if self.segment(first).exists()], left)
        writer.close()

    def test_closing_gives_the_descriptor_back_even_if_it_fails(self) -> None:
        writer = self.writer(durable=False)
        writer.append([transaction(1)])
        self.disk.fail("sync", errno.EIO)
        self.assertRaises(StoreUnavailable, writer.close)
        self.assertEqual(self.disk.paths, {})


class RoomTests(JournalCase):
    """What the journal asks of the disk, by the figures of a disk space that a test sets."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(journal, "EXTENT", 1000)
        self.refills = 0
        self.measured = 0
        self.space: Any = SimpleNamespace(
            size=800,
            free=10**6,
            is_whole=True,
            is_scarce=False,
            refill=self.refill,
            measure=self.measure,
            refuse=lambda size: self.refused.append(size),
            release_piece=lambda leave: self.left.append(leave),
        )
        self.refused: list[int] = []
        self.left: list[int] = []
        self.calls: list[str] = []
        self.patch(self.disk, "before", lambda call, path: self.calls.append(call))

    def refill(self) -> bool:
        self.refills += 1
        return self.refills > 1

    def measure(self) -> None:
        self.measured += 1

    def begun_writer(self, batches: int = 0) -> tuple[JournalWriter, int]:
        """A writer with so many batches, and the size of a batch."""
        writer = JournalWriter(self.disk, str(self.path), 1, True, self.space)
        self.addCleanup(self.disk.abandon)
        writer.rotate()
        self.next = 1
        size = self.write(writer)
        for _ in range(batches):
            self.write(writer)
        return writer, size

    def write(self, writer: JournalWriter) -> int:
        size = writer.append([transaction(self.next)])
        self.next += 1
        return size

    def test_a_write_leaves_room_for_a_checkpoint_of_all_that_is_in_no_page(self) -> None:
        writer, size = self.begun_writer()
        segment = HEADER_SIZE + size
        for unpaged, paged in ((1, 0), (2, 0), (3, 0), (2, 1), (1, 3)):
            if paged:
                writer.drop(paged)
            elif unpaged > 1:
                writer.rotate()
                self.write(writer)
            needed = unpaged * segment + 2 * size - self.space.size // 4
            self.space.free = needed
            writer._check_room([transaction(9)])
            self.space.free = needed - 1
            self.assertRaises(NoRoom, writer._check_room, [transaction(9)])
            self.space.free = 10**6
        self.space.free = 0
        self.assertRaises(NoRoom, self.write, writer)
        self.assertEqual((self.left, self.refused), ([len(PIECES)], [size]))

    def test_a_deletion_needs_no_room_beside_its_own(self) -> None:
        writer, _ = self.begun_writer()
        self.space.free, self.space.is_whole = 0, False
        writer.append([Transaction(2, 0, [Change("data", b"k")])])
        self.assertEqual((self.refills, self.refused), (0, []))

    def test_a_write_waits_for_the_reserve(self) -> None:
        writer, size = self.begun_writer()
        self.space.is_whole = False
        self.assertRaises(NoRoom, self.write, writer)
        self.assertEqual((self.refills, self.refused), (1, [size]))
        self.write(writer)
        self.assertEqual(self.refills, 2)

    def test_the_free_space_is_measured_now_and_then_and_each_time_where_it_is_short(self) -> None:
        self.space.free = 10**9
        writer, _ = self.begun_writer()
        self.assertEqual(self.measured, 1)
        count = 0
        while writer._end < HEADER_SIZE + journal.EXTENT:
            self.assertEqual(self.measured, 1)
            self.write(writer)
            count += 1
        self.assertGreater(count, 2)
        self.write(writer)
        self.assertEqual(self.measured, 2)
        for free, measured in (
            (4 * writer._end + 2 * self.space.size, 2),
            (4 * writer._end + 2 * self.space.size - 1, 3),
        ):
            self.space.free = free
            end = writer._end
            self.write(writer)
            self.assertEqual(self.measured, measured)
            self.space.free = 10**9
            writer._end = end
        writer.rotate()
        self.write(writer)
        self.assertEqual(self.measured, 4, "again in each segment")

    def test_without_a_reserve_nothing_is_measured(self) -> None:
        self.space.size = self.space.free = 0
        self.begun_writer(3)
        self.assertEqual(self.measured, 0)

    def test_a_segment_grows_ahead_by_no_more_than_a_share_of_what_is_free(self) -> None:
        sizes: list[int] = []
        extend = self.disk.extend

        def noted(descriptor: int, size: int) -> None:
            sizes.append(size)
            extend(descriptor, size)

        self.patch(self.disk, "extend", noted)
        size = self.begun_writer()[1]
        self.assertEqual(sizes, [1000])
        for free, is_scarce, grown in (
            (16 * 1000 - 1, False, [999]),
            (16 * 1001, False, [1000]),
            (16 * size, True, [size]),
            (16 * size - 1, True, []),
            (16 * size - 1, False, [size]),
        ):
            for path in self.path.iterdir():
                path.unlink()
            sizes.clear()
            self.space.free, self.space.is_scarce, self.space.size = free, is_scarce, 0
            self.begun_writer()
            self.assertEqual(sizes, grown, free)

    def test_a_superfluous_segment_is_kept_where_there_is_plenty_of_space(self) -> None:
        for free, is_kept in ((16 * 1000, True), (16 * 1000 - 1, False)):
            writer, _ = self.begun_writer()
            writer.rotate()
            self.space.free = free
            before = self.measured
            writer.drop(1)
            self.assertEqual((self.path / SPARE).exists(), is_kept)
            self.assertEqual(self.measured, before + 2)
            for path in self.path.iterdir():
                path.unlink()

    def test_no_more_of_it_is_kept_than_is_written_over_soon(self) -> None:
        self.patch(journal, "SPARE_SIZE", 2000)
        for batches, free, kept, is_cut in (
            (1, 10**9, 1000, False),
            (30, 10**9, 2000, True),
            (30, 16 * 1500, 1500, True),
            (30, 16 * 1000, 1000, True),
        ):
            self.space.free = 10**9
            writer, _ = self.begun_writer(batches)
            writer.rotate()
            self.space.free = free
            self.calls.clear()
            writer.drop(self.next)
            size = (self.path / SPARE).stat().st_size
            self.assertEqual((size - HEADER_SIZE if not is_cut else size, "cut" in self.calls), (kept, is_cut))
            self.patch(journal, "SPARE_SIZE", size)
            self.calls.clear()
            writer._trim_spare()
            self.assertNotIn("cut", self.calls)
            self.patch(journal, "SPARE_SIZE", 2000)
            for path in self.path.iterdir():
                path.unlink()

    def test_a_segment_is_synced_before_the_next_one_only_if_it_may_be_torn(self) -> None:
        writer, _ = self.begun_writer()
        disk = self.disk
        for fails, syncs in (((), 1), (("write",), 2), (("write", "then one that does not"), 1)):
            if fails:
                self.patch(disk, "before", lambda call, path: FaultyDisk.before(disk, call, path))
                disk.fail("write", errno.ENOSPC)
                self.assertRaises(NoRoom, self.write, writer)
                self.patch(disk, "before", lambda call, path: self.calls.append(call))
            if len(fails) != 1:
                self.write(writer)
            self.calls.clear()
            writer.rotate()
            self.assertEqual(self.calls.count("sync"), syncs, fails)
            self.write(writer)

    def test_what_is_removed_is_not_removed_again(self) -> None:
        writer, _ = self.begun_writer()
        disk = self.disk
        self.patch(disk, "before", lambda call, path: FaultyDisk.before(disk, call, path))
        disk.fail("sync_directory", errno.ENOSPC)
        self.assertRaises(OSError, writer.rotate)
        self.patch(disk, "before", lambda call, path: self.calls.append(call))
        self.calls.clear()
        self.write(writer)
        self.assertNotIn("remove", self.calls)
        self.assertNotIn("sync_directory", self.calls)


class HalfForgetfulDisk(FaultyDisk):
    """In a power cut it forgets every cut that was not synced: the file is as long as it ever was."""

    def __init__(self) -> None:
        super().__init__()
        self._cut: dict[str, bytes] = {}

    def before(self, call: str, path: str) -> None:
        super().before(call, path)
        if call == "cut":
            self._cut[path] = Path(path).read_bytes()

    def after(self, call: str, path: str) -> None:
        if call == "sync":
            self._cut.pop(path, None)

    def cut_power(self) -> None:
        """Bring back what was cut off."""
        self.abandon()
        for path, content in self._cut.items():
            Path(path).write_bytes(content)
