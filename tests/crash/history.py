"""
What has happened to a disk, and what was known at each moment of it: what a checker needs to judge a state.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, frozen

from tests.crash.settings import Settings
from tests.support.engine import Model
from tests.support.powerloss import Change, Platter


@frozen
class Note:
    """
    What was known at a moment.

    :ivar states: what the store holds at each revision that was given out.
    :ivar submitted: the last of these revisions.
    :ivar acknowledged: the last one that somebody was told of.
    :ivar stored: the last one that a power loss must not take back, either: the same, where the store syncs.
    :ivar seconds: what the clock said.
    """

    states: Sequence[Model]
    submitted: int
    acknowledged: int
    stored: int
    seconds: float


@define
class History:
    """
    :ivar before: the disk at the beginning.
    :ivar changes: everything that happened to it, each with what was known just before.
    :ivar end: what was known in the end.
    """

    settings: Settings
    before: Platter
    changes: Sequence[tuple[Change, Note]]
    end: Note


class Counterexample(AssertionError):
    """A state that the store did not survive as it should."""
