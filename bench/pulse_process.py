"""The process of `bench.pulse`, and what its samples say of a stretch of time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from attrs import frozen

from bench import ROOT
from bench.heartbeat import percentile

Sample = tuple[float, float, int]
"""When it was due (`time.monotonic`), seconds from then until the answer, status."""


class PulseFailed(Exception):
    """The server did not answer, or not as it should."""


@frozen
class Beats:
    """Seconds until one small request was answered."""

    count: int
    p50: float
    p99: float
    p999: float
    longest: float


class Pulse:
    """Begins at once, and asks for one target until it is stopped."""

    def __init__(self, address: tuple[str, int], target: str) -> None:
        host, port = address
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.pulse", host, str(port), target],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> None:
        """End it, whatever it saw."""
        self._process.kill()
        self._process.communicate()

    def stop(self, allowed: frozenset[int]) -> list[Sample]:
        """Everything since the beginning; :raises PulseFailed: some answer was none, or none of those."""
        try:
            output, errors = self._process.communicate("", timeout=90)
        except subprocess.TimeoutExpired:
            self.kill()
            raise PulseFailed("no answer for over a minute") from None
        if self._process.returncode:
            raise PulseFailed(f"the heartbeat ended: {errors.strip().splitlines()[-1]}")
        samples = [(due, late, status) for due, late, status in json.loads(output)]
        wrong = {status for _, _, status in samples} - allowed
        if wrong:
            raise PulseFailed(f"a heartbeat was answered with {sorted(wrong)}")
        return samples


def beats(samples: Sequence[Sample], began: float, ended: float) -> Beats | None:
    """Those that were due between two moments; None when none was."""
    late = sorted(late for due, late, _ in samples if began <= due < ended)
    if not late:
        return None
    return Beats(len(late), percentile(late, 0.5), percentile(late, 0.99), percentile(late, 0.999), late[-1])
