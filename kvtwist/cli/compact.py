"""`kvtwist compact`: rewrite a store without superseded, removed and expired records."""

from __future__ import annotations

import click

from kvtwist.cli.files import Files
from kvtwist.cli.formatting import size
from kvtwist.cli.interrupts import Interrupts
from kvtwist.cli.output import Output, directory_argument, json_option
from kvtwist.cli.progress import progress
from kvtwist.cli.store_access import inspecting, open_store
from kvtwist.engine.inspection.directory import Listing
from kvtwist.engine.inspection.readonly import ReadOnlyDisk


@click.command(short_help="Free the space of superseded records.")
@directory_argument
@json_option
@click.pass_obj
def compact(disk: Files, directory: str, as_json: bool) -> None:
    """Rewrite each keyspace as one sorted run, without superseded, removed and expired records."""
    with inspecting(directory) as listing:
        before = _bytes(listing)
    with (
        Interrupts() as interrupts,
        open_store(disk, directory) as store,
        progress("compacting", store.pages()) as advance,
    ):

        def step(pages: int) -> None:
            interrupts.check()
            advance(pages)

        store.compact(step)
    with inspecting(directory) as listing:
        after = _bytes(listing)
    fields: dict[str, object] = {"type": "compacted", "bytes_before": before, "bytes_after": after}
    Output(as_json).put(fields, f"{size(before)} before, {size(after)} after")


def _bytes(listing: Listing) -> int:
    disk = ReadOnlyDisk()
    return sum(disk.length(path) for path in listing.files())
