"""A small arithmetic language for scores: checked node by node, compiled once.

    expression: number | name | (e) | -e | +e | e + e | e - e | e * e | e / e
              | e < e (also <= > >= == !=, chained) | e if e else e
              | min(e, e, …) | max(e, e, …) | abs(e)

Python's parser reads the text; every node of the tree must be of a kind listed
below, and only then is the tree compiled, into a function whose only globals are
`min`, `max` and `abs`. There are no attributes, no indexing, no strings, no powers
and no other calls, so an expression can neither reach an object nor grow a number.
"""

from __future__ import annotations

import ast
import difflib
import math
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

MAX_CHARACTERS: Final = 500
MAX_NODES: Final = 200
MAX_DEPTH: Final = 100  # far below the parser's and compiler's own limits

FUNCTIONS: Final = {"min": min, "max": max, "abs": abs}
ALLOWED: Final = (
    "numbers, names, + - * / and parentheses, comparisons, 'a if c else b',"
    " min, max and abs"
)
_OPERATORS: Final = (
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.UAdd,
    ast.USub,
    ast.Lt,
    ast.LtE,
    ast.Gt,
    ast.GtE,
    ast.Eq,
    ast.NotEq,
)


class ExpressionError(ValueError):
    """The text is not an allowed expression; the message names the column, from 1."""

    def __init__(self, column: int, message: str) -> None:
        self.column = column
        super().__init__(f"column {column}: {message}")


def compile_expression(
    text: str, names: Sequence[str]
) -> tuple[tuple[str, ...], Callable[..., float]]:
    """Return the names that are used, and a function of exactly those, in order.

    Raises `ExpressionError` for anything that is not allowed.
    """
    tree = _parse(text)
    checker = _Checker(frozenset(names), len(text) - len(text.lstrip()))
    checker.check(tree.body, 1)
    used = tuple(name for name in names if name in checker.used)
    arguments = ast.arguments(
        posonlyargs=[ast.arg(name) for name in used],
        args=[],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )
    body = ast.Expression(ast.Lambda(arguments, tree.body))
    module = compile(ast.fix_missing_locations(body), "<score>", "eval")
    code = next(each for each in module.co_consts if isinstance(each, types.CodeType))
    return used, types.FunctionType(code, {"__builtins__": {}, **FUNCTIONS}, "score")


def _parse(text: str) -> ast.Expression:
    if len(text) > MAX_CHARACTERS:
        message = f"longer than {MAX_CHARACTERS} characters"
        raise ExpressionError(MAX_CHARACTERS + 1, message)
    for column, character in enumerate(text, 1):
        if not " " <= character <= "~" or character == "#":
            message = f"{character!r} is not allowed; allowed are {ALLOWED}"
            raise ExpressionError(column, message)
    if not text.strip():
        raise ExpressionError(1, f"empty; allowed are {ALLOWED}")
    stripped = text.lstrip()  # the parser takes leading blanks for an indent
    shift = len(text) - len(stripped)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # doubtful spellings such as `1if x else 2`
            tree = ast.parse(stripped, mode="eval")
    except (SyntaxError, MemoryError, RecursionError) as error:
        reason = getattr(error, "msg", "too deep")
        column = getattr(error, "offset", None) or 1
        message = f"cannot be read ({reason}); allowed are {ALLOWED}"
        raise ExpressionError(column + shift, message) from error
    return tree


class _Checker:
    """Refuses every node that is not on the list; turns numbers into floats."""

    def __init__(self, names: frozenset[str], shift: int) -> None:
        self.names = names
        self.shift = shift
        self.used: set[str] = set()
        self.nodes = 0

    def check(self, node: ast.expr, depth: int) -> None:
        """Check a node and everything below it."""
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            self._refuse(
                node, f"too complex: at most {MAX_NODES} parts, {MAX_DEPTH} deep"
            )
        match node:
            case ast.Constant():
                self._check_number(node)
            case ast.Name():
                self._check_name(node)
            case ast.UnaryOp() | ast.BinOp():
                self._check_operators(node, [node.op])
            case ast.Compare():
                self._check_operators(node, node.ops)
            case ast.Call():
                self._check_call(node)
            case ast.IfExp():
                pass
            case _:
                self._refuse(node, "this is not allowed")
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr) and not _is_function(node, child):
                self.check(child, depth + 1)

    def _check_number(self, node: ast.Constant) -> None:
        if type(node.value) not in (int, float):
            self._refuse(node, f"a {type(node.value).__name__} is not allowed")
        try:
            node.value = float(node.value)  # type: ignore[arg-type]  # checked above
        except OverflowError:
            node.value = math.inf
        if not math.isfinite(node.value):
            self._refuse(node, "the number is too large")

    def _check_name(self, node: ast.Name) -> None:
        if node.id not in self.names:
            close = difflib.get_close_matches(node.id, self.names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            known = ", ".join(sorted(self.names))
            self._refuse(node, f"unknown name {node.id!r}{hint} (known: {known})")
        self.used.add(node.id)

    def _check_operators(
        self,
        node: ast.expr,
        operators: Sequence[ast.operator | ast.unaryop | ast.cmpop],
    ) -> None:
        for operator in operators:
            if not isinstance(operator, _OPERATORS):
                self._refuse(
                    node, f"the operator {type(operator).__name__} is not allowed"
                )

    def _check_call(self, node: ast.Call) -> None:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
            self._refuse(node, "only min, max and abs may be called")
        name = node.func.id
        least, most = (1, 1) if name == "abs" else (2, MAX_NODES)
        if node.keywords or not least <= len(node.args) <= most:
            wanted = (
                "exactly one argument" if name == "abs" else "at least two arguments"
            )
            self._refuse(node, f"{name} takes {wanted}, none by name")

    def _refuse(self, node: ast.expr, message: str) -> NoReturn:
        if "allowed" in message:
            message = f"{message}; allowed are {ALLOWED}"
        raise ExpressionError(node.col_offset + 1 + self.shift, message)


def _is_function(node: ast.expr, child: ast.expr) -> bool:
    return isinstance(node, ast.Call) and child is node.func
