"""The client scripts in examples/ run against a real server, and print what they promise."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kvtwist.cli import serve
from kvtwist.profiles import PROFILES
from kvtwist.tap import Options
from tests.support.server import PATIENCE, Server, running

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
    "native": [
        "Ada takes seat 1: 201",
        "Bob takes seat 1: 412",
        "Ada moves: True",
        "[('seat/2', 'Ada')]",
        "{'deleted': 1}",
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
    "config_watcher": [
        "Put {'colour': 'red'}",
        "Listed {'colour': 'red'}",
        "Put {'colour': 'green'}",
        "Put {'colour': 'green', 'size': '10'}",
        "Put {'colour': 'green', 'size': '10', 'unit': 'mm'}",
        "Delete {'size': '10', 'unit': 'mm'}",
    ],
    "leader_election": [
        *["one leads: True"] * 3,
        "each token is larger than the one before: True",
    ],
    "work_queue": ["jobs done: 13 each once: True left: []"],
}
CLIENT = {"config_watcher", "leader_election", "work_queue"}
"""Those that use the client; the others are for the profile of their name."""


def test_there_is_one_for_each_profile() -> None:
    assert EXPECTED.keys() - CLIENT == PROFILES.keys()
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(EXPECTED)


def commands(text: str) -> list[list[str]]:
    """The commands in a text, each as its arguments, without comments."""
    lines = re.findall(r"^    (\S*(?:\.sh|/python)\b.*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def bare_profiles() -> list[str]:
    """The options that `./run.sh` adds if there is no `--profile`."""
    return [part for name in serve.PROFILES for part in ("--profile", name)]


@contextmanager
def run_sh(place: Path, arguments: Sequence[str]) -> Iterator[Server]:
    """What `./run.sh` with some arguments starts in a directory, but for the port."""
    bare = [] if "--profile" in arguments else bare_profiles()
    meant = Options({})
    meant.parseOptions([*bare, *arguments])
    with running(place / meant["working-dir"], *bare, *arguments, "--store", meant["store"]) as server:
        yield server


@pytest.mark.parametrize("name", EXPECTED)
def test_it_prints_what_it_promises_when_it_is_run_as_it_says(name: str, tmp_path: Path) -> None:
    source = EXAMPLES / f"{name}.py"
    server_command, (python, script, url) = commands(
        ast.get_docstring(ast.parse(source.read_text()), clean=False) or ""
    )
    assert server_command[0] == "./run.sh"
    assert (python, script) == (".venv/bin/python", f"examples/{name}.py")
    profile = PROFILES["native" if name in CLIENT else name]
    assert url == f"http://localhost:{profile.default_port}"
    with run_sh(tmp_path, server_command[1:]) as server:
        result = subprocess.run(
            [sys.executable, str(source), f"http://localhost:{server.address[1]}"],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    lines = re.sub(r"\d\d:\d\d:\d\d\.\d{6}", "<time>", result.stdout.decode()).splitlines()
    assert (result.returncode, lines) == (0, EXPECTED[name]), result.stderr.decode()


def test_what_the_examples_and_the_readme_start_runs_side_by_side(tmp_path: Path) -> None:
    readme = (EXAMPLES.parent / "README.md").read_text()
    walk = readme[readme.index("## Try it with curl") : readme.index("## The kvtwist command")]
    texts = [path.read_text() for path in EXAMPLES.glob("*.py")]
    started = {tuple(command[1:]) for text in texts for command in commands(text) if command[0] == "./run.sh"}
    started |= {tuple(shlex.split(found)) for found in re.findall(r"`\./run\.sh([^`]*)`", walk)}
    assert len(started) == 5, "the bare one, history, clstr, keys and native"
    with ExitStack() as stack:
        for arguments in sorted(started):
            stack.enter_context(run_sh(tmp_path, arguments))
