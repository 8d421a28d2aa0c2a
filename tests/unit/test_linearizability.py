"""The checker of concurrent histories accepts what can have happened, and nothing else."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Final

from attrs import evolve
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.linearizability import REGISTERS, STAGING, Model, Name, Operation, Part, TooHard, check, without

MODEST: Final = settings(max_examples=150)

History = list[Operation]


def did(what: str, start: int, end: int | None = None, latest: int | None = None) -> Operation:
    """
    An operation from a few words: `put a 1`, `get a -` (there was nothing), `clear`, `set a 1 new`, `txn a=1:2 b!-:- c=3`
    (if a is 1 and b is anything, a is 2, b is deleted, and c was seen as 3).
    """
    if what.startswith("txn "):
        parts = tuple(map(part_of, what.split()[1:]))
        return Operation(0, "txn", None, None, start, end, latest, parts=parts)
    name, key, value, told, *_ = [*what.split(), None, None, None]
    created = None if told is None else told == "new"
    return Operation(0, name, key, None if value == "-" else value, start, end, latest, created)  # type: ignore[arg-type]


def part_of(word: str) -> Part:
    found = re.fullmatch(r"(\w)(?:([=!])([^:]+))?(?::(.+))?", word)
    assert found is not None
    key, test, seen, value = found.groups()
    seen, shown = (None if text == "-" else text for text in (seen, value))
    return Part(key, {"=": "is", "!": "is not"}.get(test), seen, value is not None, shown)  # type: ignore[arg-type]


def described(operations: Sequence[Operation]) -> list[str]:
    return [str(operation) for operation in operations]


class HistoryCase(SynchronousTestCase):
    model: Model = REGISTERS

    def accept(self, *history: Operation) -> None:
        """In whatever sequence it was written down."""
        for order in (history, history[::-1]):
            violation = check(order, self.model)
            self.assertIsNone(violation, f"\n{violation}")

    def reject(self, *history: Operation, because: str | None = None) -> None:
        """:param because: the operations of the explanation; None for all of the history."""
        for order in (history, history[::-1]):
            violation = check(order, self.model)
            assert violation is not None, "accepted"
            explanation = "; ".join(described(violation.operations))
            self.assertEqual(explanation, because or "; ".join(described(history)))


class OneKeyTests(HistoryCase):
    """Put, get and delete of one key."""

    def test_nothing_happened(self) -> None:
        self.accept()

    def test_one_after_the_other(self) -> None:
        self.accept(
            did("get a -", 0, 1),
            did("delete a", 2, 3),
            did("put a 1", 4, 5),
            did("get a 1", 6, 7),
            did("put a 2", 8, 9),
            did("get a 2", 10, 11),
            did("get a 2", 12, 13),
            did("delete a", 14, 15),
            did("get a -", 16, 17),
        )

    def test_stale_read(self) -> None:
        self.reject(did("put a 1", 0, 1), did("put a 2", 2, 3), did("get a 1", 4, 5))

    def test_lost_update(self) -> None:
        self.reject(did("put a 1", 0, 1), did("get a -", 2, 3))

    def test_read_of_a_value_never_written(self) -> None:
        self.reject(did("put a 1", 0, 1), did("get a 7", 0, 3), because="get a: 7")

    def test_read_of_a_value_not_written_yet(self) -> None:
        self.reject(did("get a 1", 0, 1), did("put a 1", 2, 3), because="get a: 1")

    def test_read_of_another_keys_value(self) -> None:
        self.reject(did("put a 1", 0, 1), did("get b 1", 2, 3), because="get b: 1")

    def test_read_after_delete(self) -> None:
        self.reject(did("put a 1", 0, 1), did("delete a", 2, 3), did("get a 1", 4, 5))

    def test_a_read_may_see_a_write_under_way(self) -> None:
        write = did("put a 1", 0, 9)
        self.accept(write, did("get a -", 1, 2))
        self.accept(write, did("get a 1", 1, 2))
        self.accept(write, did("get a -", 1, 2), did("get a 1", 3, 4))

    def test_reads_never_go_back_in_time(self) -> None:
        self.reject(did("put a 1", 0, 9), did("get a 1", 1, 2), did("get a -", 3, 4))

    def test_overlapping_reads_may_differ(self) -> None:
        self.accept(did("put a 1", 0, 9), did("get a 1", 1, 3), did("get a -", 2, 4))

    def test_overlapping_writes_happen_in_some_order(self) -> None:
        writes = did("put a 1", 0, 5), did("put a 2", 1, 4)
        for seen in ("1", "2"):
            self.accept(*writes, did(f"get a {seen}", 6, 7), did(f"get a {seen}", 8, 9))

    def test_all_see_overlapping_writes_in_one_order(self) -> None:
        self.reject(
            did("put a 1", 0, 5),
            did("put a 2", 1, 4),
            did("get a 1", 6, 8),
            did("get a 2", 9, 11),
        )
        self.reject(
            did("put a 1", 0, 20),
            did("put a 2", 1, 19),
            did("get a 1", 2, 3),
            did("get a 2", 4, 5),
            did("get a 1", 6, 7),
        )

    def test_a_write_happens_once(self) -> None:
        self.reject(
            did("put a 1", 0, 9),
            did("get a 1", 1, 2),
            did("delete a", 3, 4),
            did("get a 1", 5, 6),
        )

    def test_the_same_value_may_be_written_twice(self) -> None:
        self.accept(
            did("put a 1", 0, 9),
            did("put a 1", 0, 9),
            did("get a 1", 1, 2),
            did("delete a", 3, 4),
            did("get a 1", 5, 6),
        )

    def test_the_same_instant_is_an_overlap(self) -> None:
        self.accept(did("put a 1", 0, 1), did("get a -", 1, 2))
        self.accept(did("put a 1", 1, 1), did("get a -", 1, 1), did("get a 1", 1, 1))
        self.reject(did("put a 1", 1, 1), did("get a -", 2, 2))

    def test_an_operation_cannot_end_before_it_starts(self) -> None:
        self.assertRaises(ValueError, did, "get a -", 1, 0)
        self.assertRaises(ValueError, did, "put a 1", 1, None, 0)


class UnknownOutcomeTests(HistoryCase):
    """Operations without an answer."""

    def test_it_never_takes_effect(self) -> None:
        self.accept(did("put a 1", 0, 1), did("put a 2", 2), did("get a 1", 4, 5), did("get a 1", 100, 101))

    def test_it_takes_effect_late(self) -> None:
        self.accept(did("put a 1", 0, 1), did("put a 2", 2), did("get a 1", 50, 51), did("get a 2", 100, 101))

    def test_it_takes_effect_only_once(self) -> None:
        self.reject(
            did("put a 2", 2),
            did("get a 2", 4, 5),
            did("put a 3", 6, 7),
            did("get a 2", 8, 9),
        )

    def test_it_is_not_undone(self) -> None:
        self.reject(did("put a 1", 0, 1), did("put a 2", 2), did("get a 2", 4, 5), did("get a 1", 6, 7))

    def test_it_does_not_happen_before_its_start(self) -> None:
        self.reject(did("get a 2", 0, 1), did("put a 2", 2), because="get a: 2")

    def test_a_delete_without_an_answer(self) -> None:
        self.accept(did("put a 1", 0, 1), did("delete a", 2), did("get a 1", 3, 4), did("get a -", 5, 6))
        self.reject(
            did("put a 1", 0, 1),
            did("delete a", 2),
            did("get a -", 3, 4),
            did("get a 1", 5, 6),
        )

    def test_a_read_without_an_answer_says_nothing(self) -> None:
        self.accept(did("put a 1", 0, 1), did("get a 9", 2), did("get a 9", 2, None, 3))

    def test_from_some_time_on_it_cannot_happen_any_more(self) -> None:
        killed = did("put a 2", 2, None, 10)
        self.accept(did("put a 1", 0, 1), killed, did("get a 1", 9, 11), did("get a 2", 12, 13))
        self.accept(did("put a 1", 0, 1), killed, did("get a 1", 11, 12), did("get a 1", 13, 14))
        self.reject(did("put a 1", 0, 1), killed, did("get a 1", 11, 12), did("get a 2", 13, 14))

    def test_a_dozen_of_them_are_no_trouble(self) -> None:
        history = [did(f"put a {number}", number) for number in range(12)]
        history += [did(f"get a {number}", 200 - number, 200 - number) for number in range(12)]
        self.accept(*history)
        self.assertIsNotNone(check([*history, did("get a 5", 300, 301)]))


class SeveralKeysTests(HistoryCase):
    """Keys by themselves, and what couples them."""

    def test_keys_do_not_know_of_each_other(self) -> None:
        self.accept(did("put a 1", 0, 1), did("put b 2", 0, 1), did("get a 1", 2, 3), did("get b 2", 2, 3))

    def test_only_the_key_in_question_is_explained(self) -> None:
        self.reject(
            did("put b 1", 0, 1),
            did("put a 1", 2, 3),
            did("get b 1", 4, 5),
            did("get a -", 6, 7),
            because="put a = 1; get a: nothing",
        )

    def test_clear_removes_every_key(self) -> None:
        before = did("put a 1", 0, 1), did("put b 2", 0, 1), did("clear", 2, 3)
        self.accept(*before, did("get a -", 4, 5), did("get b -", 4, 5))
        self.reject(*before, did("get b 2", 4, 5), because="put b = 2; clear; get b: 2")

    def test_clear_removes_what_was_there(self) -> None:
        self.accept(did("clear", 0, 1), did("put a 1", 2, 3), did("get a 1", 4, 5))
        self.accept(did("clear", 0, 9), did("put a 1", 2, 3), did("get a 1", 10, 11))
        self.accept(did("clear", 0, 9), did("put a 1", 2, 3), did("get a -", 10, 11))

    def test_clear_happens_at_one_instant(self) -> None:
        """Each key alone could be explained: `clear` fell before one read, and after the other."""
        history = [
            did("put a 1", 0, 1),
            did("put b 2", 2, 3),
            did("clear", 4, 20),
            did("get a -", 5, 6),
            did("get b 2", 7, 8),
        ]
        self.reject(*history)
        self.accept(*history, did("put b 2", 4, 20))
        self.accept(*history[:3], did("get b 2", 5, 6), did("get a -", 7, 8))

    def test_a_clear_without_an_answer(self) -> None:
        before = did("put a 1", 0, 1), did("put b 2", 1, 2), did("clear", 3)
        self.accept(*before, did("get a 1", 4, 5), did("get a -", 100, 101), did("get b -", 102, 103))
        self.reject(*before, did("get a -", 4, 5), did("get b 2", 6, 7))


class TransactionTests(HistoryCase):
    """Comparing and setting of one key, or of several at one instant."""

    def test_one_after_the_other(self) -> None:
        self.accept(
            did("txn a=-:1", 0, 1),
            did("get a 1", 2, 3),
            did("txn a!2", 4, 5),
            did("txn a=1:2 b=-:3", 6, 7),
            did("txn a=2 b=3", 8, 9),
            did("txn b:-", 10, 11),
            did("get b -", 12, 13),
            did("get a 2", 14, 15),
        )

    def test_a_condition_that_did_not_hold(self) -> None:
        self.reject(did("put a 1", 0, 1), did("txn a=2:3", 2, 3), because="txn a is 2 = 3")
        self.reject(did("put a 1", 0, 1), did("txn a!1", 2, 3))
        self.reject(did("txn a!-:1", 0, 1))

    def test_two_do_not_replace_the_same_value(self) -> None:
        writes = did("txn a=1:2", 2, 9), did("txn a=1:3", 3, 9)
        self.reject(did("put a 1", 0, 1), *writes)
        self.accept(did("put a 1", 0, 1), writes[0], did("txn a!1", 3, 9))

    def test_a_write_is_lost_between_a_read_and_the_write_that_it_allows(self) -> None:
        self.reject(did("put a 1", 0, 1), did("put a 2", 2, 3), did("txn a=1:3", 4, 5))
        self.accept(did("put a 1", 0, 1), did("put a 2", 2, 5), did("txn a=1:3", 4, 5))

    def test_it_happens_at_one_instant_for_all_keys(self) -> None:
        history = did("txn a:1 b:2", 0, 20), did("get a 1", 1, 2), did("get b -", 3, 4)
        self.reject(*history)
        self.accept(*history, did("delete b", 0, 20))
        self.accept(did("txn a:1 b:2", 0, 20), did("get b -", 1, 2), did("get a 1", 3, 4))

    def test_reads_of_several_keys_are_of_one_instant(self) -> None:
        history = did("put a 1", 0, 9), did("put b 2", 1, 9), did("txn a=1 b=-", 2, 9)
        self.accept(*history)
        self.accept(*history, did("txn a=- b=-", 3, 9))
        self.reject(*history, did("txn a=- b=2", 3, 9))

    def test_a_read_of_several_keys_may_be_between_writes_to_one(self) -> None:
        """The write to `b` cannot wait until `a` is looked at, although it is of another key."""
        self.accept(
            did("put a 1", 0, 5),
            did("txn a=1:3", 1, 5),
            did("put b 2", 0, 30),
            did("txn a=1 b=2", 0, 20),
        )

    def test_without_an_answer_it_happens_if_it_can(self) -> None:
        killed = did("txn a=1:2 b:3", 2)
        self.accept(did("put a 1", 0, 1), killed, did("get a 2", 3, 4), did("get b 3", 5, 6))
        self.accept(did("put a 1", 0, 1), killed, did("get a 1", 3, 4), did("get b -", 5, 6))
        self.reject(did("put a 1", 0, 1), killed, did("get a 2", 3, 4), did("get b -", 5, 6))
        self.reject(did("put a 4", 0, 1), killed, did("get b 3", 5, 6), because="txn a is 1 = 2, b = 3; get b: 3")

    def test_other_keys_are_left_out_of_the_explanation(self) -> None:
        self.reject(
            did("txn a:1 b:2", 0, 1),
            did("txn c:1", 0, 1),
            did("txn b=2:3", 2, 3),
            did("get b 2", 4, 5),
            because="txn b = 2; txn b is 2 = 3; get b: 2",
        )


class StagingTests(HistoryCase):
    """The model of the profile `transactional`."""

    model = STAGING

    def test_one_after_the_other(self) -> None:
        self.accept(
            did("set a 1 new", 0, 1),
            did("set a 2 known", 2, 3),
            did("get a -", 4, 5),
            did("commit", 6, 7),
            did("get a 2", 8, 9),
            did("unset a", 10, 11),
            did("get a 2", 12, 13),
            did("set a 3 new", 14, 15),
            did("unset a", 16, 17),
            did("commit", 18, 19),
            did("get a -", 20, 21),
            did("commit", 22, 23),
            did("get a -", 24, 25),
        )

    def test_nothing_is_seen_before_commit(self) -> None:
        self.reject(did("set a 1 new", 0, 1), did("get a 1", 2, 3))
        self.reject(
            did("set a 1 new", 0, 1),
            did("get a 1", 2, 3),
            did("commit", 4, 5),
            because="set a = 1 (new); get a: 1",
        )

    def test_a_commit_takes_all_that_was_set_before(self) -> None:
        self.reject(did("set a 1 new", 0, 1), did("commit", 2, 3), did("get a -", 4, 5))
        self.accept(did("set a 1 new", 0, 3), did("commit", 2, 4), did("get a -", 5, 6))

    def test_a_commit_takes_the_last_change_of_a_key(self) -> None:
        history = did("set a 1", 0, 1), did("set a 2", 2, 3), did("commit", 4, 5)
        self.accept(*history, did("get a 2", 6, 7))
        self.reject(*history, did("get a 1", 6, 7))

    def test_a_commit_happens_at_one_instant(self) -> None:
        history = did("set a 1", 0, 1), did("set b 2", 2, 3), did("commit", 4, 20)
        self.accept(*history, did("get a -", 5, 6), did("get b 2", 7, 8))
        self.reject(*history, did("get a 1", 5, 6), did("get b -", 7, 8))

    def test_a_commit_does_not_pass_over_what_was_staged_earlier(self) -> None:
        """It may be too early for both, or for the second only."""
        history = did("commit", 0, 20), did("set a 1", 1, 2), did("set b 2", 3, 4)
        self.accept(*history, did("get b -", 21, 22), did("get a 1", 23, 24))
        self.reject(*history, did("get a -", 21, 22), did("get b 2", 23, 24))

    def test_a_set_is_told_the_truth_about_its_key(self) -> None:
        self.reject(did("set a 1 known", 0, 1), because="set a = 1 (known)")
        self.reject(did("set a 1", 0, 1), did("set a 2 new", 2, 3))
        self.reject(did("set a 1", 0, 1), did("unset a", 2, 3), did("set a 2 known", 4, 5))

    def test_a_commit_without_an_answer(self) -> None:
        history = did("set a 1", 0, 1), did("set b 2", 1, 2), did("commit", 3, None, 9)
        self.accept(*history, did("get a -", 10, 11), did("get b -", 12, 13))
        self.accept(*history, did("get a 1", 10, 11), did("get b 2", 12, 13))
        self.reject(*history, did("get a 1", 10, 11), did("get b -", 12, 13))


class ExplanationTests(SynchronousTestCase):
    """The explanation of a bad history."""

    def test_it_is_a_picture(self) -> None:
        history = [
            Operation(1, "put", "a", "1", 1000, 2000),
            Operation(2, "put", "a", "2", 1500, None, 7000),
            Operation(3, "get", "a", "2", 3000, 4000),
            Operation(4, "get", "b", None, 3500, 4500),
            Operation(4, "get", "a", "1", 5000, 6000),
        ]
        self.assertEqual(
            str(check(history)),
            "no order of these operations explains them:\n"
            "  client 1  put a = 1  |-----|\n"
            "  client 2  put a = 2     |-----------------?\n"
            "  client 3  get a: 2            |--|\n"
            "  client 4  get a: 1                  |--|  <- stuck",
        )

    def test_it_is_found_in_a_long_history(self) -> None:
        history = []
        for number in range(1000):
            history.append(did(f"put a {number}", number * 10, number * 10 + 8))
            history.append(did(f"get a {number}", number * 10 + 1, number * 10 + 9))
        self.assertIsNone(check(history))
        history.append(did("get a 3", 6_789, 6_790))
        violation = check(history)
        assert violation is not None
        self.assertIn("get a: 3", described(violation.operations))
        self.assertLessEqual(len(violation.operations), 3)

    def test_a_read_is_left_out_with_a_write_that_it_may_show(self) -> None:
        cases: list[tuple[Model, list[str], int, list[int]]] = [
            (REGISTERS, ["put a 1", "delete a", "get a -", "get b -", "get a -"], 1, [0, 3]),
            (REGISTERS, ["put a 1", "clear", "get a -", "put b 2", "get b 2"], 1, [0, 3, 4]),
            (REGISTERS, ["put a 1", "delete a", "delete a", "get a -"], 1, [0, 2, 3]),
            (REGISTERS, ["put a 1", "put a 2", "get a 1"], 0, [1]),
            (REGISTERS, ["put a 1", "txn a=1:2", "get a 2", "txn a!1", "get b -"], 0, [4]),
            (REGISTERS, ["put a 1", "txn b:2", "get a 1", "txn a=1 b=2", "txn b=2:3", "get b 3"], 1, [0, 2]),
            (REGISTERS, ["put b 1", "txn a:2", "delete b", "get b -", "txn b=-"], 1, [0, 2, 3, 4]),
            (STAGING, ["set a 1", "commit", "unset a", "commit", "set a 2", "get a -"], 2, [0, 1, 3, 4]),
            (STAGING, ["unset a", "commit", "unset a", "commit", "get a -"], 0, [1, 2, 3, 4]),
            (STAGING, ["set a 1", "commit", "commit", "get a 1"], 1, [0, 2, 3]),
            (STAGING, ["set a 1", "commit", "get a 1", "get b -"], 1, [0, 3]),
        ]
        for model, words, dropped, left in cases:
            history = [did(what, 10 * number, 10 * number + 1) for number, what in enumerate(words)]
            self.assertEqual(without(history, [history[dropped]], model), [history[place] for place in left], words)

    def test_what_takes_too_long_is_given_up(self) -> None:
        history = [did(f"put a {number}", 0, 100) for number in range(20)]
        history.append(did("get a -", 101, 102))
        self.assertRaises(TooHard, check, history, limit=1000)


# --- whatever the history ---------------------------------------------------------------------------------------------

WORDS: Final[dict[Model, tuple[Name, ...]]] = {
    REGISTERS: ("get", "put", "delete", "clear", "txn"),
    STAGING: ("get", "set", "unset", "commit"),
}
MODELS: Final = st.sampled_from([REGISTERS, STAGING])
DICE: Final = st.randoms(use_true_random=True)  # for histories of some length; made of choices, most would be short


class Map:
    """What both models say, told a second time, with plain dictionaries and nothing of the checker."""

    def __init__(self) -> None:
        self.stored: dict[str | None, str | None] = {}
        self.staged: dict[str | None, str | None] = {}

    def do(self, name: str, key: str | None, value: str | None) -> str | bool | None:
        """The answer, where there is one."""
        match name:
            case "get":
                return self.stored.get(key)
            case "put" | "delete":
                self.stored[key] = value
            case "clear":
                self.stored = {}
            case "set":
                new = self.staged.get(key, self.stored.get(key)) is None
                self.staged[key] = value
                return new
            case "unset":
                self.staged[key] = None
            case "commit":
                self.stored.update(self.staged)
                self.staged = {}
        return None

    def transact(self, parts: Sequence[Part]) -> bool:
        """Whether the conditions hold; only then it writes."""
        holds = all(
            part.test is None or (self.stored.get(part.key) == part.seen) == (part.test == "is") for part in parts
        )
        if holds:
            self.stored.update({part.key: part.value for part in parts if part.writes})
        return holds


def has_an_order(history: Sequence[Operation]) -> bool:
    """The definition itself: every choice of what happened, in every order."""
    unknown = [operation for operation in history if operation.end is None]
    known = [operation for operation in history if operation.end is not None]
    for count in range(len(unknown) + 1):
        for happened in itertools.combinations(unknown, count):
            if any(map(is_explained, itertools.permutations([*known, *happened]))):
                return True
    return False


def is_explained(order: Sequence[Operation]) -> bool:
    for index, later in enumerate(order):
        if any(later.last < earlier.start for earlier in order[:index]):
            return False
    keys = Map()
    for operation in order:
        if operation.parts:
            if not keys.transact(operation.parts):
                return False
            continue
        answer = keys.do(operation.name, operation.key, operation.value)
        if operation.name == "get" and operation.end is not None and answer != operation.value:
            return False
        if operation.name == "set" and operation.created is not None and answer != operation.created:
            return False
    return True


Draw = Callable[..., Any]
PARTS: Final = st.builds(
    Part,
    key=st.sampled_from("ab"),
    test=st.sampled_from([None, "is", "is", "is not"]),  # type: ignore[list-item]
    seen=st.sampled_from([None, "1", "2"]),
    writes=st.booleans(),
    value=st.sampled_from([None, "1", "2"]),
)


@st.composite
def any_histories(draw: Draw, model: Model, size: int) -> History:
    """A few operations with any outcome, possible or not; values are written more than once."""
    history = []
    for client in range(draw(st.integers(1, size))):
        name = draw(st.sampled_from(WORDS[model]))
        key = None if name in ("clear", "commit", "txn") else draw(st.sampled_from("ab"))
        value = {"get": st.sampled_from([None, "1", "2"]), "put": st.sampled_from("12"), "set": st.sampled_from("12")}
        start = draw(st.integers(0, 8))
        time = draw(st.integers(0, 4))
        end, latest = draw(st.sampled_from([(start + time, None)] * 6 + [(None, None), (None, start + time)]))
        created = draw(st.sampled_from([None, True, False])) if name == "set" and end is not None else None
        parts = draw(st.lists(PARTS, min_size=1, max_size=2, unique_by=lambda part: part.key)) if name == "txn" else []
        shown = draw(value.get(name, st.none()))
        history.append(Operation(client, name, key, shown, start, end, latest, created, tuple(parts)))
    return history


def real_history(dice: Random, model: Model, names: Sequence[Name] = ()) -> History:
    """What happened when operations were really done, each at an instant of its own within its time."""
    keys = Map()
    history = []
    spread = dice.choice([4, 15, 50])
    for number in range(dice.randint(1, 40)):
        name = dice.choice(names or [*WORDS[model], "get", "get"])
        key = None if name in ("clear", "commit", "txn") else dice.choice("ab")
        written = str(number) if name in ("put", "set") else None
        instant = 10 * number
        start, end = instant - dice.randint(0, spread), instant + dice.randint(0, spread)
        fate = dice.choice(["answered"] * 8 + ["done", "done in time", "lost", "lost in time"])
        answered = fate == "answered"
        parts = asked_of(dice, keys, number) if name == "txn" else []
        answer = None
        if parts and not fate.startswith("lost"):
            refused = not keys.transact(parts)
            if answered and refused:
                parts = [Part(part.key, "is", keys.stored.get(part.key)) for part in parts]
        elif not fate.startswith("lost"):
            answer = keys.do(name, key, written)
        history.append(
            Operation(
                client=number,
                name=name,
                key=key,
                value=answer if name == "get" else written,  # type: ignore[arg-type]
                start=start,
                end=end if answered else None,
                latest=end if fate.endswith("in time") else None,
                created=answer if name == "set" and answered else None,  # type: ignore[arg-type]
                parts=tuple(parts),
            )
        )
    return history


def asked_of(dice: Random, keys: Map, number: int) -> list[Part]:
    """A transaction whose conditions mostly hold."""
    parts = []
    for key in dice.choice(["a", "b", "ab"]):
        stored = keys.stored.get(key)
        test, seen = dice.choice([(None, None), ("is", stored), ("is", stored), ("is", "other"), ("is not", "other")])
        parts.append(Part(key, test, seen, dice.random() < 0.7, dice.choice([None, f"{number}{key}"])))  # type: ignore[arg-type]
    return parts


def reads(history: History) -> Iterator[tuple[int, Operation]]:
    """Every read that was answered, and its place."""
    for place, operation in enumerate(history):
        if operation.name == "get" and operation.end is not None:
            yield place, operation


def writes_before(later: Operation, history: History) -> Iterator[Operation]:
    """The writes to an operation's key that had certainly happened when it began."""
    for operation in history:
        shared = later.key is None or operation.changes(later.key)
        if shared and not operation.only_reads and operation.end is not None and operation.end < later.start:
            yield operation


class AnyHistoryTests(SynchronousTestCase):
    """The checker beside the definition, and histories of which the truth is known."""

    @settings(max_examples=600)
    @given(st.data(), MODELS)
    def test_it_says_what_trying_every_order_says(self, data: st.DataObject, model: Model) -> None:
        history = data.draw(any_histories(model, 5))
        violation = check(history, model)
        self.assertEqual(violation is None, has_an_order(history), f"\n{history}\n{violation}")

    @MODEST
    @given(st.data(), MODELS)
    def test_an_explanation_is_bad_by_itself_and_as_small_as_can_be(self, data: st.DataObject, model: Model) -> None:
        violation = check(data.draw(any_histories(model, 5)), model)
        assume(violation is not None)
        assert violation is not None
        self.assertFalse(has_an_order(violation.operations))
        self.assertIn(violation.stuck, violation.operations)
        for operation in violation.operations:
            self.assertTrue(has_an_order(without(violation.operations, [operation], model)))

    @MODEST
    @given(DICE, MODELS)
    def test_what_really_happened_is_accepted(self, dice: Random, model: Model) -> None:
        history = real_history(dice, model)
        dice.shuffle(history)
        self.assertIsNone(check(history, model))

    @settings(max_examples=75)
    @given(DICE, MODELS)
    def test_what_is_left_out_for_an_explanation_makes_nothing_bad(self, dice: Random, model: Model) -> None:
        history = real_history(dice, model)
        pieces = [[operation] for operation in history]
        pieces += [dice.sample(history, dice.randint(1, len(history))) for _ in range(3)]
        for piece in pieces:
            violation = check(without(history, piece, model), model)
            self.assertIsNone(violation, f"without {described(piece)}:\n{violation}")

    @MODEST
    @given(DICE, MODELS)
    def test_a_value_from_nowhere_is_rejected(self, dice: Random, model: Model) -> None:
        history = real_history(dice, model)
        places = [place for place, _ in reads(history)]
        assume(places)
        place = dice.choice(places)
        history[place] = evolve(history[place], value="nowhere")
        violation = check(history, model)
        assert violation is not None
        self.assertEqual(described(violation.operations), [str(history[place])])

    @MODEST
    @given(DICE)
    def test_an_overwritten_value_is_rejected(self, dice: Random) -> None:
        history = real_history(dice, REGISTERS)
        stale = [
            (place, old.value)
            for place, get in reads(history)
            for new in writes_before(get, history)
            for old in writes_before(new, history)
            if old.name == "put" and old.key == get.key
        ]
        assume(stale)
        place, value = dice.choice(stale)
        history[place] = evolve(history[place], value=value)
        self.assertIsNotNone(check(history))

    @MODEST
    @given(DICE)
    def test_a_write_that_is_forgotten_is_rejected(self, dice: Random) -> None:
        history = real_history(dice, REGISTERS, ["put", "get"])
        places = [place for place, get in reads(history) if any(writes_before(get, history))]
        assume(places)
        place = dice.choice(places)
        history[place] = evolve(history[place], value=None)
        self.assertIsNotNone(check(history))
