"""Each curl command of the README, run in order, is answered as the README shows."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from kvtwist.profiles import PROFILES
from tests.support.server import PATIENCE, running

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SECTIONS = re.findall(
    r"^\*\*([a-z ]+)\*\* \(`\./run\.sh([^`]*)`, port (\d+)\)\n(.*?)(?=^\*\*|^\[)", README, re.M | re.S
)

TOO_LATE = 28
"""The exit status of curl after `--max-time`."""
API = ("api.md", " --profile native", "4000", (ROOT / "docs" / "api.md").read_text())


def steps(section: str) -> list[tuple[list[str], str | None, str]]:
    """Of each command in a section: its arguments, the status in its comment, and the output shown after it."""
    found: list[tuple[list[str], str | None, str]] = []
    for line in re.findall(r"^    (.*)$", section, re.MULTILINE):
        if line.startswith("$ "):
            command, _, comment = line[2:].partition("  #")
            status = re.match(r" (\d\d\d)\b", comment)
            found.append((shlex.split(command), status and status[1], ""))
        else:
            arguments, status_text, output = found[-1]
            found[-1] = arguments, status_text, output + line
    return found


def test_every_profile_is_shown() -> None:
    assert sorted(name for title, *_ in SECTIONS for name in title.split(" and ")) == sorted(PROFILES)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(
    "title, options, port, section", [*SECTIONS, API], ids=[section[0] for section in [*SECTIONS, API]]
)
def test_the_commands_are_answered_as_shown(title: str, options: str, port: str, section: str, tmp_path: Path) -> None:
    arguments = shlex.split(options) or ["--profile", "lsfr", "--profile", "transactional", "--profile", "native"]
    first = PROFILES[arguments[1]]
    assert int(port) == first.default_port
    with running(tmp_path / "data", *arguments, "--store", first.default_store) as server:
        for command, status, shown in steps(section):
            assert command[0] == "curl"
            asked = [argument.replace(f"localhost:{port}", f"127.0.0.1:{server.address[1]}") for argument in command]
            assert asked != command, "another port"
            is_endless = "-N" in command
            result = subprocess.run(
                [*asked, "--silent", "--write-out", "\n%{http_code}", *(["--max-time", "2"] if is_endless else [])],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            assert result.returncode == (TOO_LATE if is_endless else 0), result
            body, _, code = result.stdout.rpartition("\n")
            assert code.startswith(status or "2"), command
            if shown:
                assert anonymous(body.replace("\n", "")) == anonymous(shown), command


def anonymous(text: str) -> str:
    """Without the times, which are not the README's."""
    return re.sub(r'"(timestamp|modified)":\d{13}', r'"\1":0', text)
