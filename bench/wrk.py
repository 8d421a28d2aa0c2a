"""Runs wrk on its own processor, and accepts no figure of a run in which anything failed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from attrs import frozen

from bench.servers import HOST, WrongAnswer

_SCRIPT: Final = Path(__file__).with_name("replay.lua")
_MARK: Final = "figures: "


@frozen
class Replay:
    """Requests of the same length, in a file that wrk sends one after the other, again and again."""

    path: Path
    size: int

    @classmethod
    def write(cls, path: Path, requests: Iterable[tuple[str, str, bytes]]) -> Replay:
        """:param requests: method, path and body of each."""
        size = 0
        with path.open("wb") as file:
            for method, target, body in requests:
                length = f"Content-Length: {len(body)}\r\n" if body else ""
                request = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n".encode() + body
                if len(request) != (size or len(request)):
                    raise ValueError(f"{method} {target}: all requests of a file must have one length")
                size = len(request)
                file.write(request)
        return cls(path, size)


def wrk(
    port: int, what: str | Replay, seconds: int, connections: int, core: int | None, first: int = 0
) -> dict[str, float]:
    """
    Requests, seconds, bytes of the answers, requests a second (`rate`), and latencies in seconds (`p50`, `p99`).

    wrk takes one request to look at and never sends it: what it sends begins with the one after `first`.

    :param what: a path to GET, or requests to send.
    :raises WrongAnswer: any status above 399, or a connection that failed.
    """
    path, arguments = (what, []) if isinstance(what, str) else ("/", [str(what.path), str(what.size), str(first)])
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(_SCRIPT)]
    done = subprocess.run(
        ["wrk", *options, f"http://{HOST}:{port}{path}", "--", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
        preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
    )
    found = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode or not found:
        raise WrongAnswer(f"wrk failed: {(done.stderr or done.stdout).strip()[-300:]}")
    figures: dict[str, float] = json.loads(found[0].removeprefix(_MARK))
    if figures.pop("failed") or not figures["requests"]:
        raise WrongAnswer(f"not all of {figures['requests']:.0f} requests were answered well:\n{done.stdout}")
    return {**figures, "rate": figures["requests"] / figures["seconds"]}
