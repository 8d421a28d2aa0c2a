"""Imports go one way: no module needs itself, not even for its types."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import kvtwist

ROOT = Path(kvtwist.__file__).parents[1]


def modules() -> dict[str, Path]:
    """Every module of kvtwist by name; a package is its `__init__`."""
    paths = (ROOT / "kvtwist").rglob("*.py")
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(source: str, known: frozenset[str]) -> Iterator[str]:
    """The modules that a source names in any import, those for type checkers and those in functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and not node.level, "imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in known:
                    yield name
                elif node.module in known:
                    yield node.module


def test_no_import_circle() -> None:
    found = modules()
    known = frozenset(found)
    graph = {name: set(imported(path.read_text(), known)) for name, path in found.items()}
    assert len(graph["kvtwist.tap"]) > 5
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_imports_of_any_kind_count() -> None:
    source = """
from a import b
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from a.c import D
def function():
    import e.f
"""
    assert list(imported(source, frozenset({"a", "a.b", "a.c", "e.f"}))) == ["a.b", "a.c", "e.f"]
