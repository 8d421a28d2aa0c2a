"""
What the commands that talk to a server share: its URL, how its errors end a command, and how records are shown.

The client, and Twisted with it, is imported when a command runs: the others would start twice as slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from kvtwist.cli.exits import BadInput
from kvtwist.cli.formatting import put_bytes
from kvtwist.model import OperatorError

if TYPE_CHECKING:
    from kvtwist.client import Record
    from kvtwist.client.sync import Client

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_URL: Final = "http://localhost:4000"
_COMPLETED: Final = 100
"""How many keys completion offers."""
_COMPLETION_SECONDS: Final = 1.0


def url_option(command: F) -> F:
    """The option for the server's URL."""
    return click.option(
        "--url", envvar="KVTWIST_URL", default=DEFAULT_URL, show_default=True, show_envvar=True, help="The server."
    )(command)


@contextmanager
def connected(url: str, timeout: float = 10.0, tries: int = 4) -> Iterator[Client]:
    """
    A client of the server at a URL.

    :raises BadInput: the server refuses what it was asked, or a condition does not hold.
    :raises OperatorError: the server cannot be reached, or cannot do it now.
    """
    from kvtwist.client import ClientError, Invalid, PreconditionFailed
    from kvtwist.client.sync import Client

    try:
        with Client(url, timeout=timeout, tries=tries) as client:
            yield client
    except (Invalid, PreconditionFailed) as error:
        raise BadInput(str(error)) from None
    except ClientError as error:
        raise OperatorError(str(error)) from None


def complete_key(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The server's keys that begin with what was typed; none if it cannot be asked quickly."""
    url = ctx.params.get("url") or DEFAULT_URL
    try:
        with connected(url, _COMPLETION_SECONDS, tries=1) as client:
            return [CompletionItem(found.key) for found in client.range(incomplete, limit=_COMPLETED, keys_only=True)]
    except Exception:  # whatever it is, it must not end up in somebody's command line
        return []


def fields_of(record: Record, with_value: bool = True) -> dict[str, object]:
    """A record for `--json`."""
    fields: dict[str, object] = {"type": "record", "key": record.key}
    if with_value:
        put_bytes(fields, "value", record.value)
    return {
        **fields,
        "content_type": record.content_type,
        "revision": record.revision,
        "modified": record.modified_ms,
        "expires": record.expires_ms,
    }
