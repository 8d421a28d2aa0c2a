"""
A store that holds all keys, made once and copied for every server that is to begin with it.

So all of them read what a checkpoint has written, as a server does that has run for a while, and loading takes no time
from what is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench import ROOT
from bench.serving import data
from kvtwist.model import DATA, JSON, TEXT


def prepared(directory: Path, as_json: bool = False) -> Path:
    """
    Make one, with `kvtwist import`.

    :param as_json: every value is a JSON string, as the `keys` dialect has them; else it is text.
    """
    lines = directory.with_suffix(".jsonl")
    with lines.open("w") as file:
        file.writelines(json.dumps(line) + "\n" for line in _lines(as_json))
    command = [sys.executable, "-m", "kvtwist", "import", "--create", "--json", str(directory), str(lines)]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    lines.unlink()
    return directory


def _lines(as_json: bool) -> Iterator[dict[str, object]]:
    yield {"kvtwist_export": 1, "revision": data.KEYS}
    now = int(time.time() * 1000)
    for index in range(data.KEYS):
        value = data.value(index).decode()
        yield {
            "keyspace": DATA,
            "key": data.key(index).decode(),
            "value": f'"{value}"' if as_json else value,
            "media_type": JSON if as_json else TEXT,
            "modified_ms": now,
        }
    yield {"end": data.KEYS}
