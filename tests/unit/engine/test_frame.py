"""Frames: the bytes of a batch, however large it is, are those that MessagePack has for it, and are read back."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from kvtwist.engine import frame as frames
from kvtwist.engine.frame import Batch, Change, Transaction, encode_frame, frame_at, torn_size, whole_frames

SALT = b"saltsalt"
HEAD = 16


def batch(*counts: int, size: int = 10, revision: int = 5) -> Batch:
    """Transactions with so many changes, each of so many bytes."""
    return Batch(
        3,
        [
            Transaction(revision + at, 1000 + at * at, [Change("data", b"k", b"v" * (size - 1), "a/b")] * count)
            for at, count in enumerate(counts)
        ],
    )


class FrameTests(SynchronousTestCase):
    def test_a_change_of_any_kind_is_read_back(self) -> None:
        changes = [
            Change("data", b"k", b"v", "application/json"),
            Change("staged", b"k", b"", "a/b", 7),
            Change("history", b"", b"v", "", 7, 8),
            Change("history", b"", b"v", "", None, 8),
            Change("other", b"k", b"v", "", 0),
            Change("data", b"k"),
            Change("other", None),
        ]
        apart = [Transaction(7 + at, 9 - at, [one]) for at, one in enumerate(changes)]
        for written in (Batch(0, [Transaction(1, 9, changes)]), Batch(4, apart)):
            data = memoryview(b"".join(encode_frame(written, SALT)))
            found = frame_at(data, 0, SALT)
            assert found is not None
            self.assertEqual((found.start, found.end, found.batch), (0, len(data), written))

    def test_a_large_batch_has_the_bytes_of_the_whole_in_pieces(self) -> None:
        for counts in ((40,), (1, 40, 1), (7, 7, 7, 7, 7), (1,) * 40, (0, 40, 0), (16,), (15, 17)):
            whole = b"".join(encode_frame(batch(*counts), SALT))
            for size in (1, 42, 43, 84, 300, 10**6):
                self.patch(frames, "PIECE", size)
                self.assertEqual(b"".join(encode_frame(batch(*counts), SALT)), whole)

    def test_a_piece_ends_with_the_change_that_fills_it(self) -> None:
        self.patch(frames, "PIECE", 200)
        for cost, changes in ((200, 1), (199, 2), (100, 2), (101, 2), (66, 4), (67, 3), (50, 4), (40, 5), (39, 6)):
            pieces = encode_frame(batch(12 * changes, size=cost - 32), SALT)
            counted = [piece.count(b"v" * (cost - 33)) for piece in pieces]
            self.assertEqual([count for count in counted if count], [changes] * 12, cost)

    def test_the_head_of_an_array_is_that_of_messagepack(self) -> None:
        for count in (0, 1, 15, 16, 17, 2**16 - 1, 2**16, 2**16 + 1):
            packed = msgspec.msgpack.encode([None] * count)
            self.assertEqual(frames._array_head(count) + b"\xc0" * count, packed)

    def test_frames_are_found_wherever_they_begin(self) -> None:
        one, other = (b"".join(encode_frame(batch(2, revision=at), SALT)) for at in (5, 6))
        for before in (b"", b"x", b"KVTB", one[:-1], one[:HEAD]):
            content = before + one + other + b"KVTBrest"
            starts = [len(before), len(before) + len(one)]
            self.assertEqual([frame.start for frame in whole_frames(content, SALT)], starts)
            self.assertEqual([frame.start for frame in whole_frames(content, SALT, len(before) + 1)], starts[1:])
            self.assertEqual(list(whole_frames(content, b"other")), [])

    def test_an_unfinished_frame_has_a_size_once_its_head_is_whole(self) -> None:
        whole = b"".join(encode_frame(batch(2), SALT))
        for size in range(len(whole) + 1):
            data = memoryview(b"before" + whole[:size])
            self.assertEqual(torn_size(data, 6, SALT), 0 if size < HEAD else size)
            self.assertEqual(frame_at(data, 6, SALT) is None, size < len(whole))
        self.assertEqual(torn_size(memoryview(whole + b"more"), 0, SALT), len(whole))

    def test_a_payload_that_is_no_batch_is_no_frame(self) -> None:
        for payload in (b"", b"\xc0", msgspec.msgpack.encode([1, 2, 3]), msgspec.msgpack.encode([1, 2, 3, [[0, [9]]]])):
            self.patch(frames, "_encode", lambda batch, payload=payload: [payload])
            data = memoryview(b"".join(encode_frame(batch(1), SALT)))
            self.assertEqual(torn_size(data, 0, SALT), len(data))
            self.assertIsNone(frame_at(data, 0, SALT))
