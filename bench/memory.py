#!/usr/bin/env python
"""
A real server under a memory limit, over HTTP: `python bench/memory.py --keys 1m -- --memory-limit 32MiB`.

It loads, reads, updates, lists, filters and lets half of it expire, while another connection asks for one key every ten
milliseconds; journey.py says what exactly. Options behind `--` go to `twistd kvstore`. Exit status 1 when anything was
lost or wrong, or when the server took more memory than --at-most.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import asdict

sys.path.pop(0)  # bench/, whose http.py is not the library's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import ROOT, docs
from bench.journey import Account, Amounts, Journey, Lost, Stretch
from bench.proc import machine, source_version
from bench.pulse_process import PulseFailed
from bench.quantities import byte_size, key_count
from bench.server_process import ServerFailed
from bench.web_client import WrongAnswer


def options(arguments: list[str]) -> argparse.Namespace:
    """The command line; what stands behind `--` is in `server`."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(prog="bench/memory.py", description=__doc__)
    parser.add_argument("--keys", type=key_count, default=10**6, help="[1m]")
    parser.add_argument("--quick", action="store_true", help="10k keys, few requests: under a minute")
    parser.add_argument("--batch", type=int, default=100, help="keys in a PUT of the load [100]")
    parser.add_argument("--shuffled", action="store_true", help="load in no order, not in key order")
    parser.add_argument("--reads", type=int, help="[a tenth of the keys, 20,000 at least]")
    parser.add_argument("--updates", type=int, help="[a tenth of the keys, 20,000 at least]")
    parser.add_argument("--at-most", type=byte_size, metavar="SIZE", help="fail when more than this was resident")
    parser.add_argument("--seconds", type=float, default=3600, help="give up after that [3600]")
    parser.add_argument("--dir", type=Path, help="where to make the store [/tmp]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    parser.add_argument("--write-docs", action="store_true", help="put the table into --docs")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR", help="[docs]")
    chosen = parser.parse_args(arguments[:at])
    chosen.server = arguments[at + 1 :]
    return chosen


def amounts(chosen: argparse.Namespace) -> Amounts:
    """How much of everything."""
    keys = 10_000 if chosen.quick else chosen.keys
    usual = 2_000 if chosen.quick else max(keys // 10, 20_000)
    return Amounts(keys, chosen.batch, chosen.shuffled, chosen.reads or usual, chosen.updates or usual)


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f}"


def _line(stretch: Stretch) -> Iterator[str]:
    yield stretch.phase
    yield f"{stretch.seconds:.1f}"
    yield f"{stretch.requests:,}"
    yield f"{stretch.requests / stretch.seconds:,.0f}"
    yield _mebibytes(stretch.memory.peak)
    yield _mebibytes(stretch.memory.anonymous)
    if stretch.beats is None:
        yield "-"
    else:
        beats = stretch.beats
        yield " / ".join(f"{one * 1000:.1f}" for one in (beats.p50, beats.p99, beats.p999, beats.longest))
    yield _mebibytes(stretch.disk)


def report(account: Account) -> str:
    """A table, and some lines below it."""
    names = "requests, requests/s, resident at most MiB, of its own MiB, GET of one key ms: p50 / p99 / p99.9 / longest"
    columns = ["phase", "s", *names.split(", "), "disk MiB"]
    lines = [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
    lines += [f"| {' | '.join(_line(stretch))} |" for stretch in account.stretches]
    lines += ["", f"- resident before the first request: {_mebibytes(account.base)} MiB"]
    lines += [f"- {what}: {seconds:.2f} s" for what, seconds in account.seconds.items()]
    lines += [f"- disk {when}: {ratio:.2f} times the raw data" for when, ratio in account.disk_ratios.items()]
    return "\n".join(lines)


def _tell(stretch: Stretch) -> None:
    print(f"{stretch.phase:28} {stretch.seconds:8.1f} s  {_mebibytes(stretch.memory.peak):>6} MiB", file=sys.stderr)


async def _travel(journey: Journey, seconds: float) -> str | None:
    """Why it failed, if it did."""
    try:
        await asyncio.wait_for(journey.run(), seconds)
    except asyncio.TimeoutError:
        return f"took longer than {seconds:.0f} s"
    except (Lost, WrongAnswer, PulseFailed, ServerFailed, OSError, EOFError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        journey.kill()
    return None


def main(arguments: list[str]) -> int:
    """The exit status."""
    chosen = options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # not without tidying up
    how = shlex.join(["python", "bench/memory.py", *arguments])
    with tempfile.TemporaryDirectory(prefix="kvtwist-memory-", dir=chosen.dir) as place:
        about = f"{source_version(ROOT)}, {time.strftime('%Y-%m-%d')}: `{how}`  \n{machine(Path(place))}"
        print(about, file=sys.stderr)
        journey = Journey(Path(place) / "data", chosen.server, amounts(chosen), _tell)
        failure = asyncio.run(_travel(journey, chosen.seconds))
    account = journey.account
    peak = max((stretch.memory.peak for stretch in account.stretches), default=0)
    if failure is None and chosen.at_most is not None and peak > chosen.at_most:
        failure = f"{_mebibytes(peak)} MiB were resident, {_mebibytes(chosen.at_most)} are allowed"
    verdict = f"**FAILED**: {failure}" if failure else "Nothing was lost: every listing was compared byte by byte."
    text = f"{about}\n\n{report(account)}\n\n{verdict}"
    print(text)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"about": about, "failure": failure, **asdict(account)}, indent=1) + "\n")
    if chosen.write_docs:
        docs.write_section(chosen.docs / "benchmarks.md", "bench/memory.py", text)
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
