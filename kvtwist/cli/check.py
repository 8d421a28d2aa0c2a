"""`kvtwist check`: verify a store."""

from __future__ import annotations

import os
import shlex

import click

from kvtwist.cli import exits
from kvtwist.cli.formatting import key_range, one_line, put_bytes, size
from kvtwist.cli.output import Output, directory_argument, json_option
from kvtwist.cli.progress import progress
from kvtwist.cli.store_access import inspecting
from kvtwist.engine.inspection.diagnosis import Diagnosis
from kvtwist.engine.inspection.findings import Finding
from kvtwist.words import counted


@click.command(short_help="Verify every checksum and invariant.")
@directory_argument
@json_option
@click.pass_context
def check(ctx: click.Context, directory: str, as_json: bool) -> None:
    """Verify every checksum and invariant of a store. Changes nothing."""
    output = Output(as_json)
    with inspecting(directory):
        diagnosis = examine(directory, output)
    if diagnosis.problems:
        advice = f"kvtwist repair {shlex.quote(directory)}"
        output.tell(f"{counted(diagnosis.problems, 'problem')}; to see what can be saved, run: {advice}")
        ctx.exit(exits.PROBLEMS)
    listing = diagnosis.listing
    output.tell(f"fine: {counted(len(listing.pages), 'page')}, {counted(len(listing.segments), 'journal segment')}")


def examine(directory: str, output: Output, everything: bool = True) -> Diagnosis:
    """
    Verify a store and write the findings.

    :param everything: whether leftovers, notes and the summary are written, too.
    """
    diagnosis = Diagnosis(os.path.abspath(directory))
    with progress("checking", diagnosis.size(), in_bytes=True) as diagnosis.advance:
        for finding in diagnosis.findings():
            if everything or finding.kind == "problem":
                output.put(_fields(finding, diagnosis.listing.path), _line(finding, diagnosis.listing.path))
    summary: dict[str, object] = {
        "type": "summary",
        "problems": diagnosis.problems,
        "revision": max(diagnosis.journal.revision, diagnosis.after),
        "pages": len(diagnosis.listing.pages),
        "segments": len(diagnosis.listing.segments),
        "torn_bytes": diagnosis.torn_bytes,
    }
    if everything:
        output.put(summary, None)
    return diagnosis


def _fields(finding: Finding, directory: str) -> dict[str, object]:
    fields: dict[str, object] = {
        "type": finding.kind,
        "file": os.path.relpath(finding.file, directory),
        "what": finding.what,
    }
    for name in ("at", "end", "page", "keyspace", "records", "readable"):
        value = getattr(finding, name)
        if value is not None:
            fields[name] = value
    if finding.first is not None:
        put_bytes(fields, "first", finding.first)
    if finding.stop is not None:
        put_bytes(fields, "stop", finding.stop)
    if finding.revisions is not None:
        fields["first_revision"], fields["last_revision"] = finding.revisions
    return fields


def _line(finding: Finding, directory: str) -> str:
    line = one_line(f"{finding.kind}: {os.path.relpath(finding.file, directory)}: {finding.what}")
    if finding.kind == "leftover":
        return f"{line} ({size(finding.end)})"
    if finding.at is not None:
        line += f", byte {finding.at}" if finding.end is None else f", bytes {finding.at} to {finding.end}"
    if finding.page is not None and finding.keyspace is not None:
        count = "an unknown number of records" if finding.records is None else counted(finding.records, "record")
        keys = key_range(finding.first, finding.stop)
        line += f"\n  lost: keyspace {finding.keyspace!r}, {keys}: {count}, {finding.readable} can be read"
    return line
