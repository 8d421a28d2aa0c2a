"""Output of commands: text for people, or with `--json` one JSON object a line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import click
import msgspec

from kvtwist.cli.formatting import encodable, one_line

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
directory_argument = click.argument("directory", metavar="DIR", type=click.Path())
_encode = msgspec.json.Encoder().encode


class Output:
    """:param as_json: write JSON objects instead of text."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def put(self, fields: dict[str, object], line: str | None, err: bool = False) -> None:
        """
        Write one item, as JSON or as text.

        :param line: the text; None if the item is written as JSON only.
        :param err: write to standard error.
        """
        if self.as_json:
            encoded = {name: encodable(value) if isinstance(value, str) else value for name, value in fields.items()}
            click.echo(_encode(encoded), err=err)
        elif line is not None:
            click.echo(_shown(line), err=err)

    def tell(self, text: str) -> None:
        """Write text that has no JSON form."""
        if not self.as_json:
            click.echo(_shown(text))


def _shown(text: str) -> str:
    return "\n".join(map(one_line, text.split("\n")))


def write(data: bytes) -> None:
    """Write to standard output without Python's buffer, whose content would still be written after Ctrl-C."""
    file = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def discard() -> None:
    """Discard the rest of standard output, so that flushing it at exit cannot fail."""
    with suppress(OSError, ValueError):  # a test's standard output has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def warn(text: str) -> None:
    """Write a line to standard error."""
    click.echo(f"kvtwist: {one_line(text)}", err=True)
