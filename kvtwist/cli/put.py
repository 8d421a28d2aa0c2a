"""`kvtwist put`: write a value."""

from __future__ import annotations

import mimetypes
import sys

import click

from kvtwist.cli.output import Output, json_option
from kvtwist.cli.server import complete_key, connected, url_option

_OCTETS = "application/octet-stream"


@click.command(short_help="Write a value.")
@click.argument("key", shell_complete=complete_key)
@click.argument("value", required=False)
@click.option("--content-type", metavar="TYPE", help="Media type of the value. [default: by what it looks like]")
@click.option("--ttl", type=click.IntRange(min=1), metavar="SECONDS", help="Let the key expire.")
@click.option(
    "--if-revision", type=click.IntRange(min=0), metavar="N", help="Only if the key has revision N; 0: is new."
)
@click.option("--if-new", is_flag=True, help="Only if there is no such key.")
@click.option("--retry", is_flag=True, help="Try again even if the value may have been written already.")
@url_option
@json_option
def put(
    key: str,
    value: str | None,
    content_type: str | None,
    ttl: int | None,
    if_revision: int | None,
    if_new: bool,
    retry: bool,
    url: str,
    as_json: bool,
) -> None:
    """
    Write VALUE under KEY; print the revision.

    @FILE stands for the content of a file, - or no VALUE for standard input. If a condition does not hold, nothing is
    written, and the exit code is 1.
    """
    if if_new and if_revision is not None:
        raise click.UsageError("--if-new is --if-revision 0; give one of them")
    body, guessed = _content(value)
    with connected(url) as client:
        revision = client.put(
            key,
            body,
            content_type=content_type or guessed,
            ttl=ttl,
            if_revision=0 if if_new else if_revision,
            retry=retry,
        )
    Output(as_json).put({"type": "written", "key": key, "revision": revision}, str(revision))


def _content(value: str | None) -> tuple[bytes, str]:
    """The bytes to write, and their media type by the name of the file, or by what they look like."""
    if value is None or value == "-":
        body, guessed = sys.stdin.buffer.read(), None
    elif value.startswith("@"):
        guessed = mimetypes.guess_type(value[1:])[0]
        with open(value[1:], "rb") as file:
            body = file.read()
    else:
        return value.encode("utf-8", "surrogateescape"), "text/plain"
    return body, guessed or ("text/plain" if _is_text(body) else _OCTETS)


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
