"""`kvtwist completion`: let a shell complete commands, options and keys."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

_PLACES = {
    "bash": (
        ".local/share/bash-completion/completions/kvtwist",
        "It counts in new shells, with the bash-completion package.",
    ),
    "zsh": (
        ".zfunc/_kvtwist",
        "It counts in new shells if ~/.zshrc has: fpath+=~/.zfunc; autoload -Uz compinit; compinit",
    ),
    "fish": (".config/fish/completions/kvtwist.fish", "It counts in new shells."),
}


@click.command(short_help="Let a shell complete commands and keys.")
@click.argument("shell", type=click.Choice(list(_PLACES)))
@click.option("--install", is_flag=True, help="Write the script where the shell finds it.")
@click.pass_context
def completion(ctx: click.Context, shell: str, install: bool) -> None:
    """Print the script that lets a shell complete kvtwist's commands and options, and the keys of the server."""
    found = get_completion_class(shell)
    assert found is not None
    script = found(ctx.find_root().command, {}, "kvtwist", "_KVTWIST_COMPLETE").source()
    if not install:
        click.echo(script)
        return
    place, note = _PLACES[shell]
    path = Path(os.path.expanduser("~")) / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script + "\n")
    click.echo(f"{path}\n{note}")
