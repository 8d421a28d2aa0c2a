"""`kvtwist watch`: print changes as they happen."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from kvtwist.cli.formatting import one_line, shown
from kvtwist.cli.output import Output, json_option
from kvtwist.cli.server import complete_key, connected, fields_of, url_option

if TYPE_CHECKING:
    from kvtwist.client.changes import Told

_COLOURS = {
    "put": "green",
    "delete": "red",
    "expire": "yellow",
    "clear": "red",
    "reset": "magenta",
    "listed": "magenta",
}


@click.command(short_help="Print changes as they happen.")
@click.argument("prefix", required=False, shell_complete=complete_key)
@click.option("--key", metavar="K", help="Watch one key.")
@click.option("--after", type=click.IntRange(min=0), metavar="N", help="Begin after revision N. [default: now]")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N changes.")
@url_option
@json_option
def watch(prefix: str | None, key: str | None, after: int | None, count: int | None, url: str, as_json: bool) -> None:
    """
    Print the changes of the keys with a prefix, one a line, until Ctrl-C. Lost connections are made again.

    If the server no longer has the changes since the last one, all keys are listed again, between `reset` and `listed`.
    """
    if key is not None and prefix is not None:
        raise click.UsageError("give a prefix or a --key")
    output = Output(as_json)
    left = count
    with connected(url) as client, client.watch(prefix, key=key, after=after) as changes:
        for told in changes:
            kind = type(told).__name__.lower()
            output.put(_fields(told, kind), None)
            if not as_json:
                click.echo(_line(told, kind))
            sys.stdout.flush()
            if left is not None and kind not in ("reset", "listed"):
                left -= 1
                if left == 0:
                    return


def _fields(told: Told, kind: str) -> dict[str, object]:
    record = getattr(told, "record", None)
    if record is not None:
        return {**fields_of(record), "type": kind}
    fields: dict[str, object] = {"type": kind}
    for name, given in (("key", "key"), ("revision", "revision"), ("modified", "modified_ms")):
        if hasattr(told, given):
            fields[name] = getattr(told, given)
    return fields


def _line(told: Told, kind: str) -> str:
    revision = getattr(told, "revision", "")
    record = getattr(told, "record", None)
    parts = [f"{revision:>8}", click.style(f"{kind:6}", fg=_COLOURS[kind]), one_line(getattr(told, "key", ""))]
    if record is not None:
        parts.append(click.style(f"{record.content_type} {shown(record.value)}", dim=True))
    return " ".join(parts).rstrip()
