"""
The commands survive a power loss at any moment; and without any one of their syncs, or in another order, they do not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from unittest.mock import patch

import pytest

from kvtwist.cli import atomic_copy
from kvtwist.cli import export as exporting
from kvtwist.cli import import_ as importing
from kvtwist.cli.atomic_copy import PAGES
from kvtwist.cli.files import PARTIAL, Files
from kvtwist.engine import compactor, journal, run_writer
from kvtwist.engine.disk import Disk
from kvtwist.engine.offline import OfflineStore
from kvtwist.model import Operation
from tests.crash.commands import COMMANDS, Campaign, Lost, Site
from tests.support.recording import RecordingDisk

SEEDS = 3
"""So many runs are judged before something counts as not noticed."""
COPY = f"copy{PARTIAL}"
WITHIN = f"copy/{PARTIAL}"

LOST_SYNCS: list[tuple[str, Site]] = [
    *(
        (command, site)
        for command in ("a backup of a directory", "an archive that is restored")
        for site in (
            ("sync", "atomic_copy.add", ""),
            ("sync_directory", "atomic_copy._prepare", COPY),
            ("sync_directory", "atomic_copy._rename_into_place", f"{COPY}/pages"),
            ("sync_directory", "atomic_copy._rename_into_place", COPY),
            ("sync_directory", "atomic_copy._rename_into_place", "."),
            ("sync_directory", "atomic_copy._rename_into_place", "copy"),
        )
    ),
    ("a directory that is filled", ("sync", "atomic_copy.add", "")),
    ("a directory that is filled", ("sync_directory", "atomic_copy._prepare", WITHIN)),
    ("a directory that is filled", ("sync_directory", "atomic_copy._move_into_place", f"{WITHIN}/pages")),
    ("a directory that is filled", ("sync_directory", "atomic_copy._move_into_place", "copy")),
    ("an export", ("sync", "export.to_file", "")),
    ("an export", ("sync_directory", "export.to_file", ".")),
    ("an export in the place of another", ("sync", "export.to_file", "")),
    ("an export in the place of another", ("sync_directory", "export.to_file", ".")),
    ("repair", ("sync_directory", "repair._keep_originals", "store/damaged-/pages")),
    ("repair", ("sync_directory", "repair.carry_out", "store")),
    ("repair", ("sync_directory", "repair._put_away", "store/damaged-")),
]
SPARE_SYNCS: dict[Site, str] = {
    (
        "sync_directory",
        "atomic_copy._prepare",
        ".",
    ): "the name of an unfinished directory may be lost with all that is in it",
    ("sync_directory", "atomic_copy._prepare", "copy"): "likewise",
    ("sync_directory", "repair._keep_originals", "."): "the store was there before",
    ("sync_directory", "repair._keep_originals", "store"): "it is synced again before the manifest is written",
    (
        "sync_directory",
        "repair._keep_originals",
        "store/damaged-",
    ): "it is synced again for each segment of the journal",
    ("sync_directory", "repair._put_away", "store"): "a segment is gone there once it is stored in its new directory",
}
"""Syncs that no power loss shows to be needed, and why."""


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Small pages, segments, batches and pieces, so that there are many of each."""
    with ExitStack() as stack:
        for module, name, value in (
            (run_writer, "PAGE_SIZE", 100),
            (journal, "EXTENT", 300),
            (compactor, "compaction_due", lambda runs: []),
            (importing, "BATCH_LINES", 10),
            (exporting, "PIECE", 600),
        ):
            stack.enter_context(patch.object(module, name, value))
        yield


@pytest.fixture(scope="module")
def campaigns(small: None) -> Iterator[dict[str, Campaign]]:
    """What is known of each command: states that are fine need not be judged again."""
    found = {command.name: Campaign(command) for command in COMMANDS}
    yield found
    for campaign in found.values():
        campaign.remove()


Campaigns = dict[str, Campaign]


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_a_command_survives_a_power_loss_at_any_moment(campaigns: Campaigns, command: str) -> None:
    campaigns[command].check(0)


def test_every_sync_of_the_commands_is_known_here(campaigns: Campaigns) -> None:
    for campaign in campaigns.values():
        if not campaign.sites:
            campaign.check(0)
    found = {site for campaign in campaigns.values() for site in campaign.sites if site[1]}
    assert found == {site for _, site in LOST_SYNCS} | set(SPARE_SYNCS)


def test_every_call_that_changes_something_is_written_down() -> None:
    """One that a disk learns later has to be, too, or what it changes is in no state that is judged."""
    calls = {name for base in (Disk, Files) for name in vars(base) if not name.startswith("_")}
    reading = {"size", "read", "read_part", "length", "is_same", "names", "space"}
    of_others = {"save", "make_directory"}
    assert calls - {name for name in vars(RecordingDisk) if not name.startswith("_")} == reading | of_others


def assert_noticed(campaign: Campaign, forgotten: Callable[[Site], bool] = lambda site: False) -> None:
    for seed in range(SEEDS):
        try:
            campaign.check(seed, forgotten)
        except Lost as lost:
            print(lost)
            return
    raise AssertionError("nobody noticed")


@pytest.mark.parametrize(("command", "site"), LOST_SYNCS, ids=[f"{name}: {site}" for name, site in LOST_SYNCS])
def test_a_sync_that_is_left_out_is_noticed(campaigns: Campaigns, command: str, site: Site) -> None:
    assert_noticed(campaigns[command], lambda found: found == site)


# --- wrong orders -----------------------------------------------------------------------------------------------------


def the_mark_goes_before_the_directory_has_its_name(disk: Files, partial: str, target: str) -> None:
    """Then nobody knows any more what it is."""
    disk.sync_directory(os.path.join(partial, PAGES))
    disk.remove(os.path.join(partial, PARTIAL))
    disk.sync_directory(partial)
    disk.rename(partial, target)
    disk.sync_directory(os.path.dirname(target))


def filled(*kinds: str, reverse: bool = False) -> Callable[[Files, str, str], None]:
    """Move the parts of a store up in some order."""

    def fill(disk: Files, partial: str, target: str) -> None:
        names = sorted(disk.names(partial), reverse=reverse)
        disk.sync_directory(os.path.join(partial, PAGES))
        for kind in kinds:
            for name in names:
                if name.startswith(kind):
                    disk.rename(os.path.join(partial, name), os.path.join(target, name))
                    disk.sync_directory(target)
        atomic_copy._remove_mark(disk, partial)

    return fill


class EarlyNamed(exporting._Export):
    """An export that writes under its own name."""

    def to_file(self, file: str, resume: bool, force: bool) -> int:
        with patch.object(exporting, "PARTIAL", ""), patch.object(self.disk, "rename", lambda old, new: None):
            os.path.lexists(file) and os.unlink(file)
            return super().to_file(file, resume, True)


WRONG_ORDERS = [
    ("a backup of a directory", atomic_copy, "_rename_into_place", the_mark_goes_before_the_directory_has_its_name),
    ("a directory that is filled", atomic_copy, "_move_into_place", filled("manifest", "journal", PAGES)),
    ("a directory that is filled", atomic_copy, "_move_into_place", filled(PAGES, "manifest", "journal", reverse=True)),
    ("a directory that is filled with a journal", atomic_copy, "_move_into_place", filled(PAGES, "journal")),
]


@pytest.mark.parametrize(
    ("command", "module", "name", "wrong"),
    WRONG_ORDERS,
    ids=[f"{row[0]} {number}" for number, row in enumerate(WRONG_ORDERS)],
)
def test_a_wrong_order_is_noticed(
    campaigns: Campaigns, command: str, module: object, name: str, wrong: Callable[..., object]
) -> None:
    with patch.object(module, name, wrong):
        assert_noticed(campaigns[command])


def test_an_export_under_its_own_name_is_noticed(campaigns: Campaigns) -> None:
    with patch.object(exporting, "_Export", EarlyNamed):
        assert_noticed(campaigns["an export"])


def test_progress_that_is_written_apart_from_its_batch_is_noticed(campaigns: Campaigns) -> None:
    write = OfflineStore.write

    def apart(store: OfflineStore, operations: list[Operation]) -> None:
        if operations[:-1]:
            write(store, operations[:-1])
        write(store, operations[-1:])

    with patch.object(OfflineStore, "write", apart):
        assert_noticed(campaigns["an import"])
