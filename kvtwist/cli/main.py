"""The group of all commands. Errors become one line on standard error and an exit code, never a traceback."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from itertools import chain
from typing import Any, NoReturn

import click

from kvtwist import __version__
from kvtwist.cli import exits
from kvtwist.cli.backup import backup
from kvtwist.cli.check import check
from kvtwist.cli.compact import compact
from kvtwist.cli.completion import completion
from kvtwist.cli.delete import delete
from kvtwist.cli.dump import dump
from kvtwist.cli.export import export
from kvtwist.cli.files import Files
from kvtwist.cli.get import get
from kvtwist.cli.import_ import import_
from kvtwist.cli.ls import ls
from kvtwist.cli.output import discard, warn
from kvtwist.cli.put import put
from kvtwist.cli.repair import repair
from kvtwist.cli.reset_time import reset_time
from kvtwist.cli.restore import restore
from kvtwist.cli.serve import serve
from kvtwist.cli.stats import stats
from kvtwist.cli.txn import txn
from kvtwist.cli.watch import watch
from kvtwist.model import OperatorError, StoreDamaged, StoreInUse


class Commands(click.Group):
    """A group whose commands end with the exit codes of `kvtwist.cli.exits`."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section."""
        width = max(map(len, self.commands))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                rows = [((command.name or "").ljust(width), command.get_short_help_str()) for command in commands]
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; every expected error becomes a `SystemExit`."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()  # a closed pipe must raise its error here, where it is caught
        except exits.Interrupted as error:
            _end(str(error), exits.SIGNALLED + error.number)
        except KeyboardInterrupt:
            _end("interrupted", exits.INTERRUPTED)
        except exits.BadInput as error:
            _end(str(error), exits.PROBLEMS)
        except StoreDamaged as error:
            _end(str(error), exits.PROBLEMS)
        except StoreInUse as error:
            _end(str(error), exits.IN_USE)
        except OperatorError as error:
            _end(str(error), exits.IMPOSSIBLE)
        except BrokenPipeError:
            discard()
            raise SystemExit(exits.CLOSED_PIPE) from None
        except OSError as error:
            name = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
            if error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF):  # the error may be of standard output
                discard()
            _end(f"{name}{error.strerror or error}", exits.IMPOSSIBLE)
        except MemoryError:
            _end("out of memory", exits.IMPOSSIBLE)


def _end(text: str, status: int) -> NoReturn:
    warn(text)
    raise SystemExit(status)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="kvtwist", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """
    Run a key-value server, talk to one, or maintain the directory of a store.

    Of the commands for a directory only backup works while a server has it open. Exit codes: 0 success, 1 damage or bad
    input found, no such key, or a condition that does not hold, 2 wrong usage, 3 the directory is in use, 4 the command
    cannot be carried out, 130 interrupted.
    """
    ctx.ensure_object(Files)


SECTIONS = {
    "Server": (serve, completion),
    "Keys of a server": (get, put, delete, ls, watch, txn),
    "Directory of a store": (check, repair, dump, stats, backup, restore, export, import_, compact, reset_time),
}
for command in chain(*SECTIONS.values()):
    cli.add_command(command)


def main() -> NoReturn:
    """Entry point of the `kvtwist` command."""
    _check_streams()
    with suppress(KeyboardInterrupt):  # Ctrl-C before a command began
        cli.main(prog_name="kvtwist")
    raise SystemExit(exits.INTERRUPTED)


def _check_streams() -> None:
    """Replace closed standard streams, and make standard output accept every character."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115 # for as long as the process lives
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
