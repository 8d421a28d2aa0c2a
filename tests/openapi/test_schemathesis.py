"""
schemathesis asks a live server for all that the OpenAPI document describes, and for much that it forbids.

It tries limits and wrong types of each parameter, random requests, and random sequences of them along the links, and
checks status, media type, headers and body of each answer. `schemathesis.toml` and `hooks.py` name what it leaves out.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.profiles import MAX_VALUE
from tests.support.server import PATIENCE, running

pytest.importorskip("schemathesis", reason="schemathesis needs Python 3.11")
ROOT = Path(__file__).parents[2]
LEFT_OUT = 2
"""GET and HEAD of the watch."""


def test_every_answer_is_as_the_document_says(tmp_path: Path) -> None:
    from tests.openapi.hooks import MAX_KEY

    limits = ("--max-key", str(MAX_KEY), "--max-value", str(MAX_VALUE))
    with running(tmp_path / "data", "--profile", "native", "--store", "memory", *limits) as server:
        host, port = server.address
        run = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", "tests/openapi/schemathesis.toml"),
                *("run", "--no-color", f"http://{host}:{port}/v1/openapi.json"),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        selected = re.search(r"Selected: (\d+)/(\d+)\s+Tested: (\d+)", run.stdout)
        assert selected is not None, run.stdout
        assert int(selected[1]) == int(selected[3]) == int(selected[2]) - LEFT_OUT
        assert re.search(r"Coverage.*Fuzzing.*Stateful", run.stdout, re.DOTALL) is not None
        assert server.is_alive()
