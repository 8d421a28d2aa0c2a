"""
More keys than fit into `--memory-limit`: the process stays small whatever is done with them, and nothing is lost.

Bytes are counted by the kernel. The same load on a server that may keep all of it in memory tells how much would show.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.process import MIB, forget_peak, peak_memory
from tests.support.server import Server, running, until
from tests.support.wire import Connection

KEYS = 24_000

Items = dict[str, Any]


def batches(keys: Sequence[int], at_once: int, what: str, name: str = "key") -> Iterator[Items]:
    """Items for some keys, so many at once."""
    for start in range(0, len(keys), at_once):
        yield {f"{name}{n:06}": [n, what * 400] for n in keys[start : start + at_once]}


def put(connection: Connection, items: Items, query: str = "") -> None:
    """Set them, all at one instant."""
    assert connection.ask("PUT", f"/keys{query}", json.dumps(items).encode()).status in (200, 201)


def live_through(server: Server, dice: random.Random) -> dict[str, int]:
    """All that is asked of a store; returns by how much it has grown at the most, after each part of it."""
    before = forget_peak(server.pid)
    grown: dict[str, int] = {}

    def measure(what: str) -> None:
        grown[what] = peak_memory(server.pid) - before

    kept: Items = {}
    with Connection(server.address) as connection:
        for items in batches(range(KEYS), 200, "a"):
            put(connection, items)
            kept.update(items)
        measure("load")
        for items in batches(dice.sample(range(KEYS), 1000), 10, "b"):
            put(connection, items)
            kept.update(items)
        measure("updates")
        for key in dice.sample(sorted(kept), 500):
            assert connection.ask("GET", f"/keys/{key}").json() == kept[key]
        measure("reads")
        assert connection.ask("GET", "/keys").json() == kept
        measure("scan")
        found = connection.ask("GET", "/keys?filter=key$7$1").json()
        assert found == {key: value for key, value in kept.items() if key.endswith("1") and "7" in key[3:-1]}
        measure("filter")
        for items in batches(range(KEYS // 4), 200, "c", "passing"):
            put(connection, items, "?expire_in=1")
        until(lambda: connection.ask("GET", "/keys?filter=passing$").json() == {})
        assert connection.ask("GET", "/keys").json() == kept
        measure("expiry")
    return grown


def test_a_store_that_is_larger_than_its_memory(tmp_path: Path, dice: random.Random) -> None:
    grown: dict[str, dict[str, int]] = {}
    for limit in ("2MiB", "256MiB"):
        with running(tmp_path / limit, "--profile", "keys", "--memory-limit", limit) as server:
            grown[limit] = live_through(server, dice)
        shown = ", ".join(f"{what} {size / MIB:.1f}" for what, size in grown[limit].items())
        print(f"--memory-limit {limit}: MiB more than at the start, after each part: {shown}")
    small, large = (sizes["expiry"] for sizes in grown.values())
    assert large > 16 * MIB, "this would not tell"
    assert small < 8 * MIB
