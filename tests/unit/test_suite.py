"""Tests of the tests: each of them can fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

TESTS = Path(__file__).parents[1]
ASSERTING = frozenset({"raises", "fail", "successResultOf", "failureResultOf"})
RAISED = frozenset({"AssertionError", "Unexpected"})
DOUBLES = frozenset({"net.py", "memorydisk.py", "powerloss.py", "failing_disk.py"})
"""Modules of what stands in for something else: what they assert is how they are used."""


@frozen
class Function:
    """
    One that is in here, or a method.

    :ivar calls: the names of all that it calls, whatever they belong to.
    :ivar asserts: whether it asserts something itself, or raises what says that an assertion does not hold.
    """

    where: str
    name: str
    calls: frozenset[str]
    asserts: bool


def functions() -> Iterator[Function]:
    """All of them."""
    for path in TESTS.rglob("*.py"):
        if path.name in DOUBLES:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                inner = list(ast.walk(node))
                calls = frozenset(map(name_of, (one.func for one in inner if isinstance(one, ast.Call))))
                asserts = any(isinstance(one, ast.Assert) for one in inner) or any(map(is_assertion, calls))
                yield Function(f"{path.relative_to(TESTS)}:{node.lineno}", node.name, calls, asserts)


def name_of(called: ast.expr) -> str:
    """Without what it is an attribute of."""
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def is_assertion(name: str) -> bool:
    """Whether to call that is to assert something; playwright's `expect` has methods such as `to_have_text`."""
    return name.startswith(("assert", "to_be_", "to_contain_", "to_have_")) or name in ASSERTING or name in RAISED


def test_every_test_asserts_something_or_calls_what_does() -> None:
    found = list(functions())
    asserting = {function.name for function in found if function.asserts}
    for _ in range(2):  # helpers that call such, and helpers that call those
        asserting |= {function.name for function in found if function.calls & asserting}
    tests = [function for function in found if function.name.startswith("test_")]
    assert [function.where for function in tests if function.name not in asserting] == []
