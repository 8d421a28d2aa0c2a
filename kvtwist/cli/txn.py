"""`kvtwist txn`: run a transaction."""

from __future__ import annotations

import sys

import click
import msgspec

from kvtwist.cli.exits import BadInput
from kvtwist.cli.output import write
from kvtwist.cli.server import connected, url_option


@click.command(short_help="Run a transaction.")
@click.argument("file", metavar="[FILE]", type=click.Path(allow_dash=True), default="-")
@click.option("--retry", is_flag=True, help="Try again even if it may have been done already.")
@url_option
def txn(file: str, retry: bool, url: str) -> None:
    """
    Run the transaction in FILE, or in standard input, and print the answer: both are the JSON of the native API.

    The exit code is 1 if a condition did not hold, so that the second branch was taken.
    """
    if file == "-":
        body = sys.stdin.buffer.read()
    else:
        with open(file, "rb") as content:
            body = content.read()
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{'standard input' if file == '-' else file}: not JSON ({error})") from None
    with connected(url) as client:
        answered = client.run(body, retry=retry)
    write(msgspec.json.encode(answered) + b"\n")
    if not answered.committed:
        raise SystemExit(1)
