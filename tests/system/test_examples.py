"""The client scripts in examples/ run against a real server, and print what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import PATIENCE, running

EXAMPLES = Path(__file__).parents[2] / "examples"
EXPECTED = {
    "transactional": [
        "staged alice = 100: a new key",
        "staged bob = 20: a new key",
        "committed",
        "staged alice = 70: a new value",
        "staged bob = 50: a new value",
        "alice: {'alice': 100}",
        "committed",
        "alice: {'alice': 70}",
        "bob: {'bob': 50}",
        "committed",
        "bob: {'error': 'not found'}",
    ],
    "history": [
        "now: b'red'",
        "after DELETE: 404",
        "<time> None",
        "<time> red",
        "<time> amber",
        "<time> green",
    ],
    "lsfr": [
        "wrote 100 keys",
        "sensor:12 is 144 °C",
        "400 key contains invalid characters",
        "404 key not found",
    ],
    "clstr": [
        "ready",
        "kenya:capital is Nairobi",
        "and after DELETE: key not found",
    ],
    "keys": [
        "wo$d: {'wod': 1, 'word': {'letters': 4}, 'world': 'round'}",
        "session: 200 for a minute from now",
        "page: ['session', 'sword']",
        "page: ['wod', 'woods']",
        "page: ['word', 'world']",
        'kvtwist_store_records{keyspace="data"} 6.0',
        "after DELETE /keys: {}",
    ],
}


def test_there_is_one_for_each_profile() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(EXPECTED)


@pytest.mark.parametrize("profile", EXPECTED)
def test_prints_what_it_promises(profile: str, tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", profile) as server:
        host, port = server.address
        result = subprocess.run(
            [sys.executable, str(EXAMPLES / f"{profile}.py"), f"http://{host}:{port}"],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    lines = re.sub(r"\d\d:\d\d:\d\d\.\d{6}", "<time>", result.stdout.decode()).splitlines()
    assert (result.returncode, lines) == (0, EXPECTED[profile]), result.stderr.decode()
