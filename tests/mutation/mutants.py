"""
Small faults in a module, one at a time: those of cosmic-ray's operators that say something about tests, and one of our
own, which leaves out a statement.

What a fault changes must be seen when the module runs: annotations, docstrings and what is for type checkers only are
left as they are.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, Final

import parso
from attrs import frozen
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

_COMPARISONS: Final = (
    *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"),
    *("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt"),
)
"""The bound itself, and the contrary. Others are noticed by the same tests."""
_ARITHMETIC: Final = (
    *("Add_Sub", "Sub_Add", "Mul_Add", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv", "Pow_Mul"),
    *("LShift_RShift", "RShift_LShift", "BitAnd_BitOr", "BitOr_BitAnd", "BitXor_BitAnd"),
)
_NAMES: Final = (
    *(f"ReplaceComparisonOperator_{which}" for which in _COMPARISONS),
    *(f"ReplaceBinaryOperator_{which}" for which in _ARITHMETIC),
    *("ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_USub_UAdd", "AddNot", "NumberReplacer"),
    *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop", "ExceptionReplacer"),
    "RemoveDecorator",
)


class LeaveOut(Operator):  # type: ignore[misc]
    """Leaves out a statement that does something: a call, a change of an object, a `return`, a `raise`."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        """See `Operator`."""
        if node.type == "simple_stmt" and _does_something(node.children[0]):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """See `Operator`."""
        new = parso.parse("pass").children[0]
        new.prefix = node.get_first_leaf().prefix
        node.children[0] = new
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        """None."""
        return ()


def _does_something(statement: Any) -> bool:
    if statement.type == "expr_stmt":
        target, how = statement.children[:2]
        return target.type in ("atom_expr", "power") or (how.type == "operator" and how.value != "=")
    return statement.type in ("atom_expr", "power", "await", "return_stmt", "raise_stmt", "del_stmt", "yield_expr")


_OPERATORS: Final[dict[str, Operator]] = {
    "LeaveOut": LeaveOut(),
    **{name: get_operator(f"core/{name}")() for name in _NAMES},
}


@frozen
class Mutant:
    """
    A module with a fault.

    :ivar line: its number in the module as it is.
    :ivar was: that line, without its indentation.
    :ivar now: what became of it.
    :ivar code: the whole module.
    """

    operator: str
    line: int
    was: str
    now: str
    code: str


Place = tuple[str, int]
"""An operator, and which of the nodes that it can change."""


def places(source: str) -> list[Place]:
    """Where something may be changed, and how."""
    nodes = list(ast_nodes(get_ast(source)))
    return [
        (name, number)
        for name, operator in _OPERATORS.items()
        for number in range(sum(len(list(operator.mutation_positions(node))) for node in nodes))
    ]


def mutant(source: str, place: Place) -> Mutant | None:
    """The module with that change; None: that is no other module, or none at all."""
    name, number = place
    code = mutate_code(source, _OPERATORS[name], number)
    try:
        if code is None or _meaning(code) == _meaning(source):
            return None
    except SyntaxError:
        return None
    lines, changed = source.splitlines(), [*code.splitlines(), ""]
    line = next(number for number, text in enumerate(lines) if text != changed[number])
    return Mutant(name, line + 1, lines[line].strip(), changed[line].strip(), code)


class _Meaning(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._visit_function(node)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        last = node.body[-1]
        if isinstance(last, ast.Return) and isinstance(last.value, ast.Constant) and last.value.value is None:
            node.body[-1] = ast.Pass()  # a function returns None at its end without saying so
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.keywords = [keyword for keyword in node.keywords if keyword.arg != "gc"]  # msgspec's: for speed alone
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        is_for_types = any(isinstance(name, ast.Name) and name.id == "TYPE_CHECKING" for name in ast.walk(node.test))
        return None if is_for_types else self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return ast.Pass() if isinstance(node.value, ast.Constant) else self.generic_visit(node)


def _meaning(code: str) -> str:
    return ast.dump(_Meaning().visit(ast.parse(code)))
