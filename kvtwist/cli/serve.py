"""`kvtwist serve`: run a server in this process, as `twistd kvstore` does."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

PROFILES = ("lsfr", "transactional", "native")
"""Served unless the options or the environment say otherwise; the first with a route for a path answers."""
_DEFAULT = f"[default: {', '.join(PROFILES)}]"
SECTIONS = {
    "What is served, and where": ("profile", "port", "interface", "endpoint", "cors-origin", "ui", "admin"),
    "The store": ("working-dir", "store", "durability", "memory-limit", "clock-step"),
    "Limits of requests": (
        *("max-value", "max-key", "max-staged", "max-operations", "max-watches", "max-in-flight"),
        *("max-head", "max-target", "max-connections", "head-timeout", "body-timeout", "idle-timeout"),
    ),
    "Logs": ("access-log", "log-level", "log-buffer"),
}


class _Passing(click.Command):
    """A command whose options are those of the server."""

    def get_help(self, ctx: click.Context) -> str:
        formatter = ctx.make_formatter()
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        described = _described()
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([described[name] for name in names])
        return formatter.getvalue().rstrip("\n")


@click.command(
    cls=_Passing,
    short_help="Run a server.",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    options_metavar="[OPTIONS]",
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="")
def serve(options: tuple[str, ...]) -> NoReturn:
    """
    Run a server in the foreground, until SIGTERM or Ctrl-C.

    Each option is also an environment variable: KVTWIST_MAX_VALUE for --max-value. `twistd kvstore` takes the same
    options, besides those of twistd.
    """
    from twisted.scripts.twistd import run

    is_given = any(option.startswith(("--profile", "-P")) for option in options)
    if not is_given and not os.environ.get("KVTWIST_PROFILE"):
        options = (*(f"--profile={name}" for name in PROFILES), *options)
    sys.argv = ["twistd", "-n", "--pidfile=", "kvstore", *options]
    run()
    raise SystemExit(0)


def _described() -> dict[str, tuple[str, str]]:
    """Of each option: how it is given, and what it means."""
    from kvtwist.tap import DEFAULT_PROFILE, PARAMETERS, Options

    options = Options({})
    found: dict[str, tuple[str, str]] = {}
    for name, letter, default, text, *_ in PARAMETERS:
        given = f"-{letter}, --{name}" if letter else f"--{name}"
        found[name] = _named(given, name), text if default is None else f"{text} [default: {default}]"
    for flag, _, meaning in Options.optFlags:
        found[str(flag)] = f"--{flag}", str(meaning)
    for name in ("profile", "cors-origin"):
        text = " ".join(getattr(options, f"opt_{name.replace('-', '_')}").__doc__.split())
        found[name] = _named(f"--{name}", name), text.replace(f"[default: {DEFAULT_PROFILE}]", _DEFAULT)
    return found


def _named(given: str, name: str) -> str:
    return f"{given} {name.rpartition('-')[2].upper()}"
