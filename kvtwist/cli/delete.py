"""`kvtwist del`: delete keys."""

from __future__ import annotations

import click

from kvtwist.cli.output import Output, json_option, warn
from kvtwist.cli.server import complete_key, connected, url_option
from kvtwist.words import counted


@click.command("del", short_help="Delete keys.")
@click.argument("keys", metavar="KEY...", nargs=-1, shell_complete=complete_key)
@click.option("--prefix", metavar="P", help="Delete all keys with a prefix.")
@click.option("--if-revision", type=click.IntRange(min=1), metavar="N", help="Only if the key has revision N.")
@url_option
@json_option
def delete(keys: tuple[str, ...], prefix: str | None, if_revision: int | None, url: str, as_json: bool) -> None:
    """
    Delete some keys, or all keys with a prefix; print how many there were.

    A key that is not there is reported, and the exit code is 1.
    """
    if bool(keys) is (prefix is not None) or prefix == "":
        raise click.UsageError("give keys, or a --prefix that is not empty")
    if if_revision is not None and len(keys) != 1:
        raise click.UsageError("--if-revision is for one key")
    missing = 0
    with connected(url) as client:
        if prefix is not None:
            deleted = client.delete_prefix(prefix)
        else:
            for key in keys:
                if not client.delete(key, if_revision=if_revision):
                    missing += 1
                    warn(f"{key}: no such key")
            deleted = len(keys) - missing
    Output(as_json).put({"type": "deleted", "keys": deleted}, f"{counted(deleted, 'key')} deleted")
    if missing:
        raise SystemExit(1)
