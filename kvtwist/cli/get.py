"""`kvtwist get`: write values to standard output."""

from __future__ import annotations

import sys

import click

from kvtwist.cli.output import Output, json_option, warn, write
from kvtwist.cli.server import complete_key, connected, fields_of, url_option


@click.command(short_help="Write the values of keys.")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True, shell_complete=complete_key)
@url_option
@json_option
def get(keys: tuple[str, ...], url: str, as_json: bool) -> None:
    """
    Write the values of some keys to standard output, byte for byte, one after the other.

    A key that is not there is reported, and the exit code is 1.
    """
    missing = 0
    output = Output(as_json)
    with connected(url) as client:
        for key in keys:
            record = client.get(key)
            if record is None:
                missing += 1
                warn(f"{key}: no such key")
            elif as_json:
                output.put(fields_of(record), None)
            else:
                write(record.value)
                if sys.stdout.isatty() and not record.value.endswith(b"\n"):
                    write(b"\n")
    if missing:
        raise SystemExit(1)
