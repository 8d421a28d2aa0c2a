"""A source tree of kvtwist with the interpreter that runs it, so that two versions can be measured side by side."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from attrs import frozen

from bench import ROOT


@frozen
class Checkout:
    """:ivar python: the interpreter of its .venv."""

    root: Path
    python: str

    @classmethod
    def of_this_process(cls) -> Checkout:
        """The tree that this file is in."""
        return cls(ROOT, sys.executable)

    @classmethod
    def at(cls, root: Path) -> Checkout:
        """:raises SystemExit: it has not been built."""
        python = root.resolve() / ".venv/bin/python"
        if not python.exists():
            sys.exit(f"{root} has no .venv; run: {root}/build.sh")
        return cls(root.resolve(), str(python))

    def version(self) -> str:
        """The commit, and whether the tree differs from it."""
        command = ["git", "describe", "--always", "--dirty"]
        found = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False, timeout=10)
        return found.stdout.strip() or "unknown"
