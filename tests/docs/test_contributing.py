"""The profile in CONTRIBUTING.md works as it stands there."""

from __future__ import annotations

import re
import sys
from http.client import HTTPConnection
from pathlib import Path

from tests.support.server import running

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()

MAIN = """
from twisted.scripts.twistd import run
from kvtwist.profiles import PROFILES
PROFILES[Plain.name] = Plain
run()
"""


def test_the_profile_serves(tmp_path: Path) -> None:
    code, imports = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    program = tmp_path / "plain.py"
    program.write_text(f"{imports}\n{code}\n{MAIN}")
    with running(tmp_path / "data", "--profile", "plain", twistd=(sys.executable, str(program))) as server:
        connection = HTTPConnection(*server.address)
        seen = []
        for method, target, body in (
            ("PUT", "/a%2Fb", b"\xff\0"),
            ("GET", "/a%2Fb", None),
            ("GET", "/b", None),
            ("DELETE", "/b", None),
            ("GET", "/a/b", None),
        ):
            connection.request(method, target, body)
            response = connection.getresponse()
            seen.append((response.status, response.read()))
        connection.close()
    assert seen == [
        (204, b""),
        (200, b"\xff\0"),
        (404, b"no such key\n"),
        (405, b"method not allowed\n"),
        (404, b"not found\n"),
    ]
