"""`kvtwist repair`: make a damaged store usable, and report what is lost."""

from __future__ import annotations

import os
import shlex
from collections import Counter

import click

from kvtwist.cli import exits
from kvtwist.cli.check import examine
from kvtwist.cli.files import Files
from kvtwist.cli.formatting import key_range, one_line, put_bytes, shown
from kvtwist.cli.interrupts import Interrupts
from kvtwist.cli.output import Output, directory_argument, json_option
from kvtwist.cli.progress import progress
from kvtwist.cli.store_access import inspecting
from kvtwist.engine.inspection.diagnosis import Diagnosis
from kvtwist.engine.inspection.folding import Report, Wishes
from kvtwist.engine.repair import Repair
from kvtwist.words import counted

_BASIS = {
    "manifest": "The manifest is whole.",
    "older manifest": "The manifest is damaged. An older one is complete, with its pages and journal: nothing is lost.",
    "pages": (
        "No manifest is intact: the newest record of each key in any page is used. Records that were removed, and "
        "keyspaces that were cleared, may come back."
    ),
}


@click.command(short_help="Make a damaged store usable.")
@directory_argument
@click.option("--yes", is_flag=True, help="Carry out the repair. Without this nothing is changed.")
@click.option("--salvage", is_flag=True, help="Save readable records of damaged pages, although they may be wrong.")
@click.option("--keep-older", is_flag=True, help="Keep older records that a lost page may have replaced or removed.")
@click.option("--stop-at-gap", is_flag=True, help="Leave out the transactions after a gap in the journal.")
@json_option
@click.pass_obj
@click.pass_context
def repair(
    ctx: click.Context,
    disk: Files,
    directory: str,
    yes: bool,
    salvage: bool,
    keep_older: bool,
    stop_at_gap: bool,
    as_json: bool,
) -> None:
    """
    Make a damaged store usable. Without --yes, only report what would be saved and lost.

    The old files are kept in DIR/damaged-<time>/.
    """
    output = Output(as_json)
    with inspecting(directory, writing=yes), Interrupts() as interrupts:
        diagnosis = examine(directory, output, everything=False)
        if not diagnosis.problems:
            output.put({"type": "nothing"}, "nothing to repair")
            return
        kinds: Counter[tuple[str, bool]] = Counter()

        def tell(report: Report) -> None:
            kinds[report.kind, report.saved] += 1
            output.put(_fields(report), _line(report, yes))

        with progress("repairing", None, in_bytes=True) as advance:

            def step(done: int) -> None:
                interrupts.check()
                advance(done)

            plan = Repair(diagnosis, Wishes(salvage, keep_older, stop_at_gap), tell, step)
            output.tell(_BASIS[plan.basis])
            if not yes:
                plan.rehearse()
                output.put({"type": "plan", "basis": plan.basis, **_counts(kinds)}, _plan(kinds, directory))
                ctx.exit(exits.PROBLEMS)
            repaired = plan.carry_out(disk)
        after = Diagnosis(os.path.abspath(directory))
        left = sum(finding.kind == "problem" for finding in after.findings())
        fields = {
            "type": "repaired",
            "basis": plan.basis,
            "kept": repaired.kept,
            "revision": repaired.revision,
        }
        line = f"repaired: the store is at revision {repaired.revision}; the old files are in {one_line(repaired.kept)}"
        output.put({**fields, **_counts(kinds), "problems": left}, line)
        if left:
            ctx.exit(exits.PROBLEMS)


def _counts(kinds: Counter[tuple[str, bool]]) -> dict[str, object]:
    return {
        "unsure_saved": kinds["unsure", True],
        "unsure_not_saved": kinds["unsure", False],
        "older_saved": kinds["older", True],
        "older_not_saved": kinds["older", False],
        "changes_behind_a_gap": kinds["behind", True] + kinds["behind", False],
        "changes_behind_a_gap_saved": kinds["behind", True],
    }


def _plan(kinds: Counter[tuple[str, bool]], directory: str) -> str:
    lines = [f"nothing has been changed; to repair, run: kvtwist repair --yes {shlex.quote(directory)}"]
    if kinds["unsure", False]:
        lines.append(f"{counted(kinds['unsure', False], 'unsure record')} would be saved with --salvage")
    if kinds["older", False]:
        lines.append(f"{counted(kinds['older', False], 'older record')} would be kept with --keep-older")
    if kinds["behind", True]:
        changes = counted(kinds["behind", True], "change")
        lines.append(f"{changes} after a gap in the journal would be left out with --stop-at-gap")
    return "\n".join(lines)


def _fields(report: Report) -> dict[str, object]:
    fields: dict[str, object] = {"type": report.kind, "saved": report.saved}
    for name in ("keyspace", "revision", "size", "page", "records"):
        value = getattr(report, name)
        if value is not None:
            fields[name] = value
    for name in ("key", "first", "stop"):
        data = getattr(report, name)
        if data is not None:
            put_bytes(fields, name, data)
    if report.revisions is not None:
        fields["first_revision"], fields["last_revision"] = report.revisions
    return fields


def _line(report: Report, done: bool) -> str:
    saved = ("saved" if done else "would be saved") if report.saved else ("not saved" if done else "would not be saved")
    if report.revisions is not None:
        first, last = report.revisions
        return f"lost: revisions {first} to {last}: their changes are missing from the journal"
    if report.kind == "unreadable":
        count = "an unknown number of records" if report.records is None else counted(report.records, "record")
        where = "of an unknown keyspace" if report.keyspace is None else f"of keyspace {report.keyspace!r}"
        return f"lost: page {report.page}: {count} {where}, {key_range(report.first, report.stop)}"
    what = "every key" if report.key is None else f"key {shown(report.key)}"
    change = "removed" if report.size is None else counted(report.size, "byte")
    record = f"keyspace {report.keyspace!r}, {what}, revision {report.revision} ({change})"
    why = {
        "unsure": f"read from damaged page {report.page}; may be wrong",
        "older": f"lost page {report.page} may have replaced or removed it",
        "behind": "after a gap in the journal",
    }
    return f"{saved}: {record}: {why[report.kind]}"
