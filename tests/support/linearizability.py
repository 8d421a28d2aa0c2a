"""
Could a concurrent history have happened one operation at a time, each at an instant between its start and its end?

That is linearizability (Herlihy and Wing); the search is Wing and Gong's as Lowe improved it. It goes through the
operations in the order of their ends. When one ends that has not happened yet, some of those under way must happen now,
and it the last of them: each choice is a branch, gone down depth first, and a situation that was met before is not
looked at again. A read happens as soon as it can, which spoils nothing. So the time is linear in the length of a
history while few operations overlap; past a limit the search gives up with `TooHard`.

Keys are looked at one by one, since a history is linearizable when it is for each object by itself. An operation
without a key (`clear`, `commit`) concerns every key, and a transaction (`txn`) several: it takes part in each of these
searches, and when all of them succeed there is one more over the whole history, because it has to happen at the same
instant for all.

What fails is made smaller as long as it still fails, by a rule (`without`) that never makes a good history bad. What is
left cannot be ordered, whatever else happened.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import Any, Final, Literal, Protocol

from attrs import evolve, frozen

Name = Literal["get", "put", "delete", "clear", "set", "unset", "commit", "txn"]
Cell = Any
"""What a model knows of one key: something hashable."""
State = tuple[Hashable, ...]


@frozen
class Part:
    """
    What a transaction does with one key.

    :ivar seen: the value that it saw, or on condition of which it was asked for; None for no value.
    :ivar test: whether the key has to have that value, or any other one; None for no condition.
    :ivar writes: whether it writes `value`; None deletes the key.
    """

    key: str
    test: Literal["is", "is not"] | None = None
    seen: str | None = None
    writes: bool = False
    value: str | None = None

    def allows(self, value: str | None) -> bool:
        """Whether the key may have had a value."""
        return self.test is None or (self.seen == value) is (self.test == "is")

    def __str__(self) -> str:
        condition = "" if self.test is None else f" {self.test} {_shown(self.seen)}"
        return self.key + condition + (f" = {_shown(self.value)}" if self.writes else "")


@frozen(eq=False)
class Operation:
    """
    What a client asked for, and what it heard. Two are never equal.

    :ivar key: None when it concerns every key, and for a transaction.
    :ivar value: what was read or written; None for no value.
    :ivar end: when the answer came. None when none did: then it may have happened at any time after its start, or not
        at all.
    :ivar latest: when an operation without an answer could have happened at the latest; None for no limit.
    :ivar created: whether a `set` was told that its key would be new; None when that is not known.
    :ivar parts: of a `txn`, one for each of its keys. All conditions hold at the instant at which it writes; one that was
        refused has only what it saw. Without an answer it happens only if its conditions hold.
    """

    client: int
    name: Name
    key: str | None
    value: str | None
    start: int
    end: int | None = None
    latest: int | None = None
    created: bool | None = None
    parts: tuple[Part, ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.start > self.last:
            raise ValueError(f"ends before it starts: {self}")

    @property
    def last(self) -> float:
        """The end of the time in which it can have happened."""
        known = self.latest if self.end is None else self.end
        return math.inf if known is None else known

    @property
    def keys(self) -> frozenset[str]:
        """The keys that it concerns; empty when those are all."""
        if self.parts:
            return frozenset(part.key for part in self.parts)
        return frozenset() if self.key is None else frozenset([self.key])

    def on(self, key: str) -> Operation:
        """What it does with one of its keys."""
        if len(self.parts) < 2:
            return self
        return evolve(self, parts=tuple(part for part in self.parts if part.key == key))

    @property
    def only_reads(self) -> bool:
        return self.name == "get" or (self.name == "txn" and not any(part.writes for part in self.parts))

    def changes(self, key: str) -> bool:
        """Whether it writes or deletes a key when it happens."""
        if self.parts:
            return any(part.writes and part.key == key for part in self.parts)
        return self.name != "get" and self.key in (None, key)

    def __str__(self) -> str:
        value = _shown(self.value)
        told = {None: "", True: " (new)", False: " (known)"}[self.created]
        match self.name:
            case "get":
                return f"get {self.key}: {value}"
            case "put" | "set":
                return f"{self.name} {self.key} = {value}{told}"
            case "txn":
                return f"txn {', '.join(map(str, self.parts))}"
        return self.name if self.key is None else f"{self.name} {self.key}"


def _shown(value: str | None) -> str:
    return "nothing" if value is None else value


class Model(Protocol):
    """How one key behaves when there is one client."""

    initial: Cell

    def allows(self, cell: Cell, operation: Operation) -> bool:
        """Whether an operation could have this outcome."""

    def after(self, cell: Cell, operation: Operation) -> Cell:
        """What the operation leaves."""

    def may_show(self, write: Operation, get: Operation, history: Sequence[Operation]) -> bool:
        """
        Whether a read of one of its keys may have the answer it has because of a write that had begun by its end.

        False only where that is certain; and a read always may show the write of its very value, however old, because
        an explanation with both is the better one.
        """


class Registers:
    """Values under keys: `get`, `put`, `delete`; `clear` deletes all; `txn` compares and sets several."""

    initial = None

    def allows(self, cell: Cell, operation: Operation) -> bool:
        """See `Model`."""
        return operation.name != "get" or bool(cell == operation.value)

    def after(self, cell: Cell, operation: Operation) -> Cell:
        """See `Model`."""
        return operation.value

    def may_show(self, write: Operation, get: Operation, history: Sequence[Operation]) -> bool:
        """See `Model`."""
        if write.value != get.value:
            return False
        assert get.key is not None
        return get.value is not None or not any(later.changes(get.key) for later in _between(write, get, history))


class Staging:
    """The profile `transactional`: what was `set` and `unset` is seen after `commit`, the last change of each key."""

    initial = (None, None)
    """What there would be after a commit, and what there is."""

    def allows(self, cell: Cell, operation: Operation) -> bool:
        """See `Model`."""
        coming, stored = cell
        if operation.name == "get":
            return bool(stored == operation.value)
        return operation.created in (None, coming is None)

    def after(self, cell: Cell, operation: Operation) -> Cell:
        """See `Model`."""
        coming, stored = cell
        return (coming, coming) if operation.name == "commit" else (operation.value, stored)

    def may_show(self, write: Operation, get: Operation, history: Sequence[Operation]) -> bool:
        """See `Model`."""
        if write.name == "commit":
            return any(
                change.key == get.key and change.value == get.value and change.start <= write.last
                for change in history
                if change.name in ("set", "unset")
            ) and not any(later.name == "commit" for later in _between(write, get, history))
        if write.value != get.value:
            return False
        return get.value is not None or not any(
            commit.name == "commit"
            for later in _between(write, get, history)
            if later.key == get.key and later.name in ("set", "unset")
            for commit in _between(later, get, history)
        )


def _between(first: Operation, last: Operation, history: Sequence[Operation]) -> Iterator[Operation]:
    """What certainly happened, after the one and before the other."""
    return (
        operation
        for operation in history
        if operation.end is not None and first.last < operation.start and operation.end < last.start
    )


REGISTERS: Final = Registers()
STAGING: Final = Staging()


class TooHard(Exception):
    """So many operations overlap that the search was given up: nothing is known of the history."""


@frozen
class Violation:
    """
    Operations that no order explains; without any one of them there is none, or none that shows.

    :ivar operations: by their start.
    :ivar stuck: the first, by its end, that fits in no order of those before it.
    """

    operations: Sequence[Operation]
    stuck: Operation

    def __str__(self) -> str:
        """A line for each operation, with a bar from its start to its end: of the times, only their order matters."""
        starts = [(operation.start, 0, index) for index, operation in enumerate(self.operations)]
        ends = [(operation.last, 1, index) for index, operation in enumerate(self.operations)]
        order = {moment: 3 * column for column, moment in enumerate(sorted([*starts, *ends]))}
        width = max(len(str(operation)) for operation in self.operations)
        lines = ["no order of these operations explains them:"]
        for operation, start, end in zip(self.operations, starts, ends, strict=True):
            bar = "|" + "-" * (order[end] - order[start] - 1) + ("|" if operation.end is not None else "?")
            mark = "  <- stuck" if operation is self.stuck else ""
            lines.append(f"  client {operation.client:<2} {operation!s:{width}}  {' ' * order[start]}{bar}{mark}")
        return "\n".join(lines)


def check(history: Collection[Operation], model: Model = REGISTERS, limit: int = 500_000) -> Violation | None:
    """
    None for a history that is linearizable, from a start at which there is no key; otherwise why it is not.

    :param limit: how many situations one search may look at.
    :raises TooHard: when those are not enough.
    """
    for part in _parts(history):
        if _stuck(part, model, limit) is not None:
            return _smallest(part, model, limit)
    return None


def _parts(history: Collection[Operation]) -> list[list[Operation]]:
    """What can be searched by itself, the easy parts first."""
    keys = _keys_of(history)
    parts = [
        [operation.on(key) for operation in history if not operation.keys or key in operation.keys] for key in keys
    ]
    if len(keys) > 1 and any(len(operation.keys) != 1 for operation in history):
        parts.append(list(history))
    return parts


def _keys_of(history: Collection[Operation]) -> list[str]:
    return sorted(frozenset[str]().union(*(operation.keys for operation in history)))


# --- the search -------------------------------------------------------------------------------------------------------


@frozen
class _Moment:
    """The end of an operation, and all that is under way then, with it. What ends first is the last in its row."""

    ending: Operation
    reads: tuple[Operation, ...]
    writes: tuple[Operation, ...]


_Situation = tuple[int, State, frozenset[Operation]]
"""The number of a moment, what there is under each key, and which of the operations under way have happened."""


def _moments(history: Sequence[Operation]) -> list[_Moment]:
    waiting = sorted(history, key=lambda operation: operation.start, reverse=True)
    running: list[Operation] = []
    moments = []
    for ending in sorted(history, key=lambda operation: operation.last):
        if ending.last == math.inf:
            break  # nobody waits for what has no end
        while waiting and waiting[-1].start <= ending.last:
            running.append(waiting.pop())
        running.sort(key=lambda operation: operation.last, reverse=True)
        reads = tuple(operation for operation in running if operation.only_reads)
        writes = tuple(operation for operation in running if not operation.only_reads)
        moments.append(_Moment(ending, reads, writes))
        running.remove(ending)
    return moments


def _stuck(history: Sequence[Operation], model: Model, limit: int) -> Operation | None:
    """The operation whose end no order reaches; None when one reaches the end of the history."""
    moments = _moments(history)
    places = {key: place for place, key in enumerate(_keys_of(history))}
    furthest = 0
    initial: State = (model.initial,) * len(places)
    todo: list[_Situation] = [(0, initial, frozenset())]
    seen: set[_Situation] = set()
    while todo:
        number, state, happened = todo.pop()
        if number == len(moments):
            return None
        moment = moments[number]
        ending = moment.ending
        happened |= {
            read for read in moment.reads if read not in happened and _after(state, read, places, model) is not None
        }
        if (number, state, happened) in seen:
            continue
        if len(seen) == limit:
            raise TooHard(f"{limit} situations were not enough for {len(history)} operations")
        seen.add((number, state, happened))
        furthest = max(furthest, number)
        if ending not in happened:
            keys = _coupled(ending, [one for one in (*moment.reads, *moment.writes) if one not in happened])
            writes = [one for one in moment.writes if one not in happened and (not keys or one.keys & keys)]
            # Of those that do the same, the one that ends first can be the first; the next may follow at once.
            same = {(one.name, one.key, one.value, one.created, one.parts): one for one in writes}
            for write in same.values():
                after = _after(state, write, places, model)
                if after is not None:
                    todo.append((number, after, happened | {write}))
        if ending in happened or ending.end is None:
            todo.append((number + 1, state, happened - {ending}))
    return moments[furthest].ending


def _coupled(ending: Operation, running: Sequence[Operation]) -> frozenset[str]:
    """The keys that the next to end has to do with, by operations on several keys; all others can wait. Empty: all."""
    keys = ending.keys
    if not all(operation.keys for operation in (ending, *running)):
        return frozenset()
    while True:
        more = keys.union(*(operation.keys for operation in running if operation.keys & keys))
        if more == keys:
            return keys
        keys = more


def _after(state: State, write: Operation, places: dict[str, int], model: Model) -> State | None:
    """The state after an operation; None if it cannot have happened in this state."""
    if write.parts:
        cells = list(state)
        for part in write.parts:
            place = places[part.key]
            if not part.allows(cells[place]):
                return None
            if part.writes:
                cells[place] = part.value
        return tuple(cells)
    if write.key is None:
        return tuple(model.after(cell, write) for cell in state)
    place = places[write.key]
    cell = state[place]
    if not model.allows(cell, write):
        return None
    return (*state[:place], model.after(cell, write), *state[place + 1 :])


# --- the explanation --------------------------------------------------------------------------------------------------


def without(history: Sequence[Operation], dropped: Collection[Operation], model: Model) -> list[Operation]:
    """
    A history without some operations, and without every other one that could have seen what one of them wrote.

    It is linearizable if the whole one is: in the same order, each read that is left still follows the write that it
    shows. What a `set` was told about the key is forgotten with any write to the key.
    """
    gone = set(dropped)
    writes = [operation for operation in dropped if not operation.only_reads]
    changed = {write.key for write in writes}
    while writes:
        write = writes.pop()
        for operation in history:
            if operation not in gone and _may_show(write, operation, history, model):
                gone.add(operation)
                if not operation.only_reads:
                    writes.append(operation)
    return [
        evolve(operation, created=None) if operation.created is not None and operation.key in changed else operation
        for operation in history
        if operation not in gone
    ]


def _may_show(write: Operation, reader: Operation, history: Sequence[Operation], model: Model) -> bool:
    if write.start > reader.last:
        return False
    if reader.name == "get":
        return _may_be_seen(write, reader, history, model)
    return any(
        write.changes(part.key)
        if part.test == "is not"
        else _may_be_seen(write, evolve(reader, name="get", key=part.key, value=part.seen, parts=()), history, model)
        for part in reader.parts
        if part.test is not None
    )


def _may_be_seen(write: Operation, get: Operation, history: Sequence[Operation], model: Model) -> bool:
    assert get.key is not None
    if not write.changes(get.key):
        return False
    for part in write.parts:
        if part.key == get.key:
            write = evolve(write, name="put", key=part.key, value=part.value, parts=())
    return model.may_show(write, get, history)


def _smallest(history: Sequence[Operation], model: Model, limit: int) -> Violation:
    """Drop ever smaller pieces of a bad history until dropping any one operation makes it good."""
    left = sorted(history, key=lambda operation: operation.start)
    size = len(left)
    while True:
        before = len(left)
        place = 0
        while place < len(left):
            smaller = without(left, left[place : place + size], model)
            if _is_bad(smaller, model, limit):
                left = smaller
            else:
                place += size
        if size == 1 and len(left) == before:
            break
        size = max(1, size // 2)
    stuck = _stuck(left, model, limit)
    assert stuck is not None
    return Violation(left, stuck)


def _is_bad(history: Sequence[Operation], model: Model, limit: int) -> bool:
    try:
        return _stuck(history, model, limit) is not None
    except TooHard:
        return False
