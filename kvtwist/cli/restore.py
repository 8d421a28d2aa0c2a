"""`kvtwist restore`: make a store from a backup, a directory or an archive from a server's admin site."""

from __future__ import annotations

import os

import click

from kvtwist.cli.archives import unpack
from kvtwist.cli.atomic_copy import atomic_copy, put_summary
from kvtwist.cli.backup import copy_store
from kvtwist.cli.files import Files
from kvtwist.cli.interrupts import Interrupts
from kvtwist.cli.output import Output, json_option
from kvtwist.cli.progress import progress
from kvtwist.cli.store_access import inspecting, suggesting_check


@click.command(short_help="Make a store from a backup.")
@click.argument("source", metavar="BACKUP", type=click.Path())
@click.argument("target", metavar="DIR", type=click.Path())
@json_option
@click.pass_obj
def restore(disk: Files, source: str, target: str, as_json: bool) -> None:
    """
    Make the new directory DIR from BACKUP: a directory from `kvtwist backup`, or a tar file from GET /backup.

    DIR appears only after all files are written, synced and verified.
    """
    output = Output(as_json)
    if os.path.isdir(source):
        with inspecting(source) as listing, suggesting_check(source):
            copy_store(disk, listing, target, "restore", output)
        return
    size = os.path.getsize(source)
    with Interrupts() as interrupts, progress("unpacking", size, in_bytes=True) as advance:
        with interrupts.at_once():  # opening a pipe waits for its writer
            archive = open(source, "rb")  # noqa: SIM115 # closed below
        with archive, atomic_copy(disk, target, advance, interrupts) as copy:
            unpack(archive.read, copy)
        put_summary(output, "restore", copy, target)
