"""Runs wrk on its own core, and believes nothing that went wrong."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

from bench.serving.scripts import MARK

CONNECTIONS: Final = 64
_PATIENCE: Final = 30.0


class WrongAnswer(Exception):
    """A response was not what it should be, or there was none."""


def wrk(
    address: tuple[str, int], script: str, seconds: int, place: Path, core: int, connections: int = CONNECTIONS
) -> dict[str, float]:
    """
    What came of so many seconds: requests, seconds, bytes, and latencies in seconds.

    :raises WrongAnswer: any status above 399, and any failure of a connection.
    """
    path = place / "wrk.lua"
    path.write_text(script)
    url = f"http://{address[0]}:{address[1]}/"
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    try:
        done = subprocess.run(
            [*command, "-s", str(path), url], capture_output=True, text=True, timeout=seconds + _PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise WrongAnswer("wrk did not come to an end") from None
    found = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not found:
        raise WrongAnswer(f"wrk failed: {(done.stderr or done.stdout).strip()[-300:]}")
    figures: dict[str, float] = json.loads(found[0].removeprefix(MARK))
    wrong = {name: figures[name] for name in ("status", "sockets", "timeouts") if figures.pop(name)}
    if wrong or not figures["requests"]:
        raise WrongAnswer(f"of {figures['requests']:.0f} requests: {wrong or 'none was answered'}")
    figures["rate"] = figures["requests"] / figures["seconds"]
    return figures
