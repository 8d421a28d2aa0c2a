"""The code in docs/client.md runs, and does what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

import kvtwist.client
from kvtwist.client import ClientError
from kvtwist.testing import MemoryServer
from tests.support.server import PATIENCE, clean_environment

TEXT = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def block(start: str) -> str:
    """The one block with a text in it."""
    [found] = [text for text in BLOCKS if start in text]
    return str(found)


@ensureDeferred
async def test_the_first_program(capsys: Any) -> None:
    async with MemoryServer() as server:
        names: dict[str, Any] = {}
        exec(block("async def main").replace("http://localhost:4000", server.listen()), names)
        await names["main"](None)
    assert capsys.readouterr().out.splitlines() == [
        "hello True",
        "config {'debug': True}",
        "somebody else has written it",
    ]


@ensureDeferred
async def test_the_transaction() -> None:
    async with MemoryServer() as server:
        code = f"async def run(client):\n    {block('client.txn()').strip().replace(chr(10), chr(10) + '    ')}\n    return outcome"
        names: dict[str, Any] = {}
        exec(code, names)
        outcome = await names["run"](server.client())
        assert (outcome.committed, outcome.results) == (True, [1])
        outcome = await names["run"](server.client())
        assert (outcome.committed, outcome.record(0).text) == (False, "Ada")


@ensureDeferred
async def test_the_program_that_blocks(capsys: Any) -> None:
    async with MemoryServer() as server:
        code = block("client.sync import Client\n\nwith").replace("http://localhost:4000", server.listen())
        await deferToThread(exec, code, {})
    assert capsys.readouterr().out.splitlines() == ["hello", "['greeting']", "True"]


def run_pytest(place: Path) -> subprocess.CompletedProcess[str]:
    """Run the tests in a directory."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(place)],
        cwd=place,
        env=clean_environment({}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_fixtures_work_in_a_suite_that_imports_them(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(block("testing.fixtures"))
    (tmp_path / "test_it.py").write_text(block("kvtwist_client.put"))
    (tmp_path / "test_other.py").write_text("def test_nothing():\n    pass\n")
    done = run_pytest(tmp_path)
    assert done.returncode == 0 and "2 passed" in done.stdout, done


def test_a_suite_that_does_not_import_them_does_not_load_them(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n    assert not [name for name in sys.modules if name.startswith('kvtwist')]\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done


def test_every_error_is_listed() -> None:
    errors = {
        name
        for name in kvtwist.client.__all__
        if isinstance(getattr(kvtwist.client, name), type) and issubclass(getattr(kvtwist.client, name), ClientError)
    }
    listed = set(re.findall(r"^\| `(\w+)` \|", TEXT[TEXT.index("| error |") :].split("\n\n")[0], re.MULTILINE))
    assert listed == errors - {"ClientError"}


def test_every_call_is_listed() -> None:
    table = TEXT[TEXT.index("| call |") :].split("\n\n")[0]
    calls = {name for name in vars(kvtwist.client.Client) if not name.startswith("_")} - {"close"}
    assert calls == set(re.findall(r"`(\w+)\(", "\n".join(row.split(" | ")[0] for row in table.splitlines())))
