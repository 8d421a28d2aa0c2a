"""
`kvtwist backup`: copy a store into a new working directory.

If no process has the store open, the command copies the files itself. Otherwise the server sends them, consistent to
one revision, while it goes on serving: see `kvtwist.engine.backup`.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack

import click

from kvtwist.cli.archives import Incoming, from_socket, from_url
from kvtwist.cli.atomic_copy import atomic_copy, put_summary
from kvtwist.cli.files import Files
from kvtwist.cli.interrupts import Interrupts
from kvtwist.cli.output import Output, json_option
from kvtwist.cli.progress import progress
from kvtwist.cli.store_access import inspecting, suggesting_check
from kvtwist.engine import manifest as manifests
from kvtwist.engine.inspection.directory import Listing
from kvtwist.engine.inspection.readonly import ReadOnlyDisk
from kvtwist.engine.storage import ADMIN_SOCKET
from kvtwist.model import StoreInUse

_is_url = re.compile(r"https?://", re.IGNORECASE).match


@click.command(short_help="Copy a store, also while a server has it open.")
@click.argument("source", metavar="DIR|URL")
@click.argument("target", metavar="TARGET", type=click.Path())
@json_option
@click.pass_obj
def backup(disk: Files, source: str, target: str, as_json: bool) -> None:
    """
    Copy a store to the new directory TARGET, also while a server has it open.

    DIR is the working directory; URL is the server's admin site (--admin). TARGET appears only after all files are
    written, synced and verified.
    """
    output = Output(as_json)
    with ExitStack() as stack:
        if _is_url(source):
            _receive(disk, stack.enter_context(from_url(source)), target, output)
            return
        try:
            listing = stack.enter_context(inspecting(source))
        except StoreInUse as error:
            incoming = _from_server(stack, source, error)
            _receive(disk, incoming, target, output)
        else:
            with suggesting_check(source):
                copy_store(disk, listing, target, "backup", output)


def _from_server(stack: ExitStack, directory: str, in_use: StoreInUse) -> Incoming:
    path = os.path.join(directory, ADMIN_SOCKET)
    if not os.path.exists(path):
        raise StoreInUse(f"{in_use}, and it has no admin socket there; give the URL of its admin site") from None
    return stack.enter_context(from_socket(path))


def _receive(disk: Files, incoming: Incoming, target: str, output: Output) -> None:
    with Interrupts() as interrupts, progress("receiving", incoming.size, in_bytes=True) as advance:
        with atomic_copy(disk, target, advance, interrupts) as copy:
            incoming.unpack(copy)
        put_summary(output, "backup", copy, target)


def copy_store(disk: Files, listing: Listing, target: str, kind: str, output: Output) -> None:
    """Copy the files that the newest manifest needs; `kind` is the type of the summary line."""
    source = ReadOnlyDisk()
    manifest = manifests.load(source, listing.path)
    files = [path for revision, path in listing.manifests if revision == manifest.revision]
    files += [listing.reader.file_of(number) for number in sorted(manifest.pages())]
    files += [path for _, path in listing.needed_segments(manifest.revision)]
    total = sum(source.length(path) for path in files if os.path.exists(path))
    with Interrupts() as interrupts, progress("copying", total, in_bytes=True) as advance:
        with atomic_copy(disk, target, advance, interrupts) as copy:
            for path in files:
                copy.add_copy(os.path.relpath(path, listing.path), path)
        put_summary(output, kind, copy, target)
