"""
Fuzz the front with atheris: `python -m tests.fuzz`, a million inputs. Arguments are libFuzzer's (`-runs`, `-seed`, a
directory of inputs, or a file that holds one).
"""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["kvtwist.web", "kvtwist.profiles", "httptools"]):
    from tests.fuzz.target import Target, Unexpected, seeds

RUNS = 1_000_000
WARM = 20_000
MOST_GROWTH = 200 * 1024
"""How many KiB the process may grow once it is warm: libFuzzer keeps inputs, and remembers what they reached."""


class Guard:
    """Counts, and looks at the memory now and then."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._count = 0
        self._warm = 0

    def __call__(self, data: bytes) -> None:
        self._target.run(data)
        self._count += 1
        if self._count % WARM == 0:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            self._warm = self._warm or peak
            if peak > self._warm + MOST_GROWTH:
                raise Unexpected(f"{peak - self._warm} KiB more after {self._count} inputs")


def main() -> None:
    """Fuzz until the runs are over, or something is found."""
    arguments = sys.argv[1:]
    target = Target()
    with tempfile.TemporaryDirectory() as directory, target.watching():
        if all(argument.startswith("-") for argument in arguments):
            for number, seed in enumerate(seeds()):
                Path(directory, str(number)).write_bytes(seed)
            arguments.append(directory)
        if not any(argument.startswith("-runs=") for argument in arguments):
            arguments.insert(0, f"-runs={RUNS}")
        atheris.Setup([sys.argv[0], "-timeout=20", "-max_len=8192", "-rss_limit_mb=2048", *arguments], Guard(target))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
