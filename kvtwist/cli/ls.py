"""`kvtwist ls`: list keys."""

from __future__ import annotations

import click

from kvtwist.cli.formatting import moment, one_line
from kvtwist.cli.output import Output, json_option
from kvtwist.cli.server import complete_key, connected, fields_of, url_option


@click.command(short_help="List keys.")
@click.argument("prefix", required=False, default="", shell_complete=complete_key)
@click.option("--long", "-l", "is_long", is_flag=True, help="Show revision, times, size and media type as well.")
@click.option("--after", metavar="KEY", help="Begin after this key.")
@click.option("--before", metavar="KEY", help="End before this key.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The most keys.")
@click.option("--reverse", "-r", is_flag=True, help="In descending order.")
@url_option
@json_option
def ls(
    prefix: str,
    is_long: bool,
    after: str | None,
    before: str | None,
    limit: int | None,
    reverse: bool,
    url: str,
    as_json: bool,
) -> None:
    """
    List the keys with a prefix, one a line, in the order of their bytes.

    With --json and --long each line has the value as well.
    """
    output = Output(as_json)
    with connected(url) as client:
        for record in client.range(
            prefix, after=after, before=before, limit=limit, reverse=reverse, keys_only=not is_long
        ):
            line = one_line(record.key)
            if is_long and not as_json:
                dim = f"{record.revision:>8} {moment(record.modified_ms)} {moment(record.expires_ms):>24}"
                line = f"{click.style(dim, dim=True)} {len(record.value):>10} {record.content_type} {line}"
                click.echo(line)
            else:
                output.put(fields_of(record, with_value=is_long), line)
