"""The options that all five scripts share, and what each does with its figures in the end."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import ROOT, machine
from bench.checkout import Checkout
from bench.figures import Panel

DOCUMENT = ROOT / "docs/benchmarks.md"


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """:param rounds: how many there are unless the command line says otherwise."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="tiny loads, one round: checks that the script works")
    made.add_argument("--rounds", type=int, default=rounds, help=f"report medians of so many rounds [{rounds}]")
    made.add_argument("--old", type=Path, metavar="DIR", help="compare with the kvtwist of another, built checkout")
    made.add_argument("--contenders", metavar="NAME,...", help="measure only these")
    made.add_argument("--dir", type=Path, help="where to make the stores: the disk to measure [/tmp]")
    made.add_argument("--save", action="store_true", help="write table and picture into docs/")
    return made


class Run:
    """
    One run of a script.

    :ivar place: a directory that is removed in the end.
    :ivar rounds: how many rounds to measure.
    :ivar checkouts: by contender, the kvtwist to run: this one, and `old` with --old.
    """

    def __init__(self, options: argparse.Namespace, place: Path) -> None:
        self.options = options
        self.place = place
        self.quick: bool = options.quick
        if options.quick and options.save:
            sys.exit("--quick measures too little to be saved")
        self.rounds: int = 1 if options.quick else options.rounds
        self.checkouts = {"kvtwist": Checkout.of_this_process()}
        if options.old is not None:
            self.checkouts["old"] = Checkout.at(options.old)
        command = shlex.join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]])
        versions = ", ".join(f"{name} is {checkout.version()}" for name, checkout in self.checkouts.items())
        self._about = f"{time.strftime('%Y-%m-%d')}, {versions}: `{command}`  \n{machine.describe(place)}"
        say(self._about)

    def chosen(self, names: Sequence[str]) -> list[str]:
        """Those that --contenders names, or all; :raises SystemExit: it names an unknown one."""
        if self.options.contenders is None:
            return list(names)
        wanted = self.options.contenders.split(",")
        if not set(wanted) <= set(names):
            sys.exit(f"--contenders: choose from {', '.join(names)}")
        return [name for name in names if name in wanted]

    def report(self, name: str, table: str, panels: Sequence[Panel]) -> None:
        """Print the table; with --save, write it into the document's section of that name, below its picture."""
        print(f"{self._about}\n\n{table}")
        if self.options.save:
            from bench.picture import draw

            draw(DOCUMENT.parent / f"benchmarks/{name}.svg", panels)
            _write_section(name, f"![{name}](benchmarks/{name}.svg)\n\n{self._about}\n\n{table}")


@contextmanager
def run(options: argparse.Namespace) -> Iterator[Run]:
    """A run, which leaves nothing behind even when SIGTERM ends it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    with tempfile.TemporaryDirectory(prefix="kvtwist-bench-", dir=options.dir) as place:
        yield Run(options, Path(place))


def say(line: str) -> None:
    """Report progress."""
    print(line, file=sys.stderr, flush=True)


def _write_section(name: str, text: str) -> None:
    begin, end = f"<!-- {name}: generated from here -->", f"<!-- {name}: to here -->"
    before, _, rest = DOCUMENT.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not closed:
        raise ValueError(f"{DOCUMENT} needs {begin!r} and {end!r}")
    DOCUMENT.write_text(f"{before}{begin}\n{text}\n{end}{after}")
