"""Links, paths, names and tables in the documents agree with the repository."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvtwist.cli.main import cli
from kvtwist.tap import PARAMETERS, Options
from tests.support.server import running
from tests.support.wire import Connection

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Target and anchor of each link to a file of this repository."""
    yield from re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_exist(page: Path) -> None:
    """Paths in code spans, relative to the repository or to kvtwist/."""
    if page.name == "CHANGELOG.md":  # names files of the past
        return
    for path in re.findall(r"`([\w.-]+(?:/[\w.-]+)*(?:\.py|\.md|\.yml|\.toml|\.ini|\.svg|/))`", page.read_text()):
        if "/" in path.rstrip("/"):
            assert (ROOT / path).exists() or (ROOT / "kvtwist" / path).exists(), path


def rows(text: str, header: str) -> list[list[str]]:
    """The cells of a table, without its header."""
    lines = text[text.index(header) :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_the_readme_has_every_option_with_its_default() -> None:
    options = Options({})
    options.parseOptions([])
    seen = {
        re.findall(r"--([a-z-]+)", names)[0]: default.strip("`") for names, default, _ in rows(README, "| option |")
    }
    flags = [name for name, *_ in Options.optFlags]
    assert sorted(seen) == sorted([name for name, *_ in PARAMETERS] + flags + ["profile", "cors-origin"])
    for name, letter, default, *_ in PARAMETERS:
        if default is not None:
            assert seen[name] == default
        assert letter is None or f"`--{name}`, `-{letter}`" in README


def test_every_command_is_listed() -> None:
    tools = (ROOT / "docs/tools.md").read_text()
    listed = {name for cells in rows(tools, "| command |") for name in re.findall(r"kvtwist ([a-z-]+)", cells[0])}
    assert listed == set(cli.commands)
    for name in cli.commands:
        assert re.search(rf"^## .*\b{name}\b", tools, re.MULTILINE), name
        assert re.search(rf"\b{name}\b", README), name


def test_every_option_of_a_command_is_described() -> None:
    tools = (ROOT / "docs/tools.md").read_text()
    for command in cli.commands.values():
        for parameter in command.params:
            for name in parameter.opts:
                assert not name.startswith("--") or name in tools, f"{command.name} {name}"


def test_every_metric_is_listed(tmp_path: Path) -> None:
    cells = rows((ROOT / "docs/operations.md").read_text(), "| metric |")
    listed = {name for row in cells for name in re.findall(r"`(kvtwist_\w+)`", row[0])}
    with running(tmp_path / "data", "--profile", "keys") as server:
        connection = Connection(server.address)
        connection.ask("PUT", "/keys/a", b"1")
        text = connection.ask("GET", "/metrics").body.decode()
        connection.close()
    served = set(re.findall(r"^# TYPE (kvtwist_\w+) ", text, re.MULTILINE))
    served.add("kvtwist_checkpoint_last_timestamp_seconds")  # from the first checkpoint on
    assert {name for name in served if not name.endswith("_created")} == listed


def test_the_walk_names_what_there_is() -> None:
    """Each step of the architecture page is a function of the module before it."""
    steps = re.findall(r"`((?:web|engine|profiles)/\w+)\.py` ((?:`[\w.]+`(?:, )?)+)", ARCHITECTURE)
    assert len(steps) > 20
    for module, names in steps:
        loaded = importlib.import_module(f"kvtwist.{module.replace('/', '.')}")
        for name in re.findall(r"`([\w.]+)`", names):
            found: object = loaded
            for part in name.split("."):
                assert hasattr(found, part) or part in getattr(found, "__annotations__", {}), f"{module}: {name}"
                found = getattr(found, part, None)


def test_every_module_of_the_client_the_engine_and_the_front_is_on_the_map() -> None:
    for package in ("client", "engine", "web"):
        for path in (ROOT / "kvtwist" / package).glob("*.py"):
            assert path.stem == "__init__" or f"`{package}/{path.name}`" in ARCHITECTURE, path


def test_the_supported_pythons_agree() -> None:
    setup = re.search(r"3\.\{minor\}\" for minor in range\((\d+), (\d+)\)", (ROOT / "setup.py").read_text())
    assert setup is not None
    versions = [f"3.{minor}" for minor in range(int(setup[1]), int(setup[2]))]
    workflow = re.search(r"python: \[(.*)\]", (ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow is not None and workflow[1] == ", ".join(f'"{version}"' for version in versions)
    tox = re.search(r"py\{([\d,]+)\}", (ROOT / "tox.ini").read_text())
    assert tox is not None and tox[1] == ",".join(version.replace(".", "") for version in versions)


def test_packages_import_each_other_as_described() -> None:
    """profiles, web, ops, engine and client know none of the others; nothing below them knows any."""
    packages = {"profiles", "web", "ops", "engine", "client"}
    for path in (ROOT / "kvtwist").rglob("*.py"):
        package = path.relative_to(ROOT / "kvtwist").parts[0].removesuffix(".py")
        if package in {"tap", "cli", "testing", "__main__"}:
            continue
        imported = set(re.findall(r"^\s*(?:from|import) kvtwist\.(\w+)", path.read_text(), re.MULTILINE))
        assert imported & {*packages, "tap", "cli", "testing"} <= ({package} & packages), path
