"""Jinja's sandbox, with bounds: every turn, call, filter and operator is counted, and what they make is weighed."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import BuiltinMethodType, MethodType
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from interlock.prompts import bounds

__all__ = ["BoundedEnvironment"]

# Any in this module: values of templates.
# ruff: noqa: N802 - methods are found by the names of Jinja's nodes

_REFUSED = frozenset({"encode", "to_bytes", "from_bytes", "translate", "maketrans"})
"""Ways to bytes and tables, which nothing here weighs."""


class _Counting(CodeGenerator):
    """Writes the counting into the code: a template cannot leave it out."""

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        node.body.insert(0, nodes.ExprStmt(_turn(), lineno=node.lineno))
        if node.test is not None:
            # What the condition leaves out never comes to the body.
            node.test = nodes.And(_turn(), node.test)
        super().visit_For(node, frame)

    def visit_Include(self, node: nodes.Include, frame: Frame) -> None:
        self.writeline("environment.turn()", node)
        super().visit_Include(node, frame)

    def visit_Import(self, node: nodes.Import, frame: Frame) -> None:
        self.writeline("environment.turn()", node)
        super().visit_Import(node, frame)

    def visit_FromImport(self, node: nodes.FromImport, frame: Frame) -> None:
        self.writeline("environment.turn()", node)
        super().visit_FromImport(node, frame)

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self.write("environment.made(")
        super().visit_List(node, frame)
        self.write(")")

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx != "load":
            return super().visit_Tuple(node, frame)
        self.write("environment.made(")
        super().visit_Tuple(node, frame)
        self.write(")")
        return None

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self.write("environment.made(")
        super().visit_Dict(node, frame)
        self.write(")")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        function = "markup_join" if frame.eval_ctx.autoescape else "str_join"
        if frame.eval_ctx.volatile:
            function = "(markup_join if context.eval_ctx.volatile else str_join)"
        self.write(f"{function}(environment.pieces((")
        for each in node.nodes:
            self.visit(each, frame)
            self.write(", ")
        self.write(")))")

    def _output_const_repr(self, group: Any) -> str:
        return f"environment.put({super()._output_const_repr(group)})"

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        # Reckoned while it is compiled, an expression would not be counted.
        if not isinstance(node, nodes.TemplateData | nodes.Const):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)


def _turn() -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute("turn"), [], [], None, None)


class _Plain(Namespace):
    def __repr__(self) -> str:
        # Of several that hold each other the whole would have no end.
        return "<Namespace>"


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Raises `Unbounded` where a template does more than one may."""

    code_generator_class = _Counting
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, *, finalize: Callable[[Any], Any] | None = None, **options: Any) -> None:
        shown = self.put if finalize is None else lambda value: self.put(finalize(value))
        super().__init__(finalize=shown, optimized=False, **options)
        self.globals |= {"range": bounds.ranged, "namespace": _Plain}
        # Text at random, as long as its arguments say.
        del self.globals["lipsum"]
        self.filters = {name: _weighed(function, name) for name, function in self.filters.items()}
        self.tests = {name: _weighed(function, "") for name, function in self.tests.items()}

    def turn(self) -> bool:
        """One turn of a loop, or one inclusion."""
        bounds.charge()
        return True

    def made(self, value: Any) -> Any:
        """A value that a template writes down."""
        return bounds.sized(value)

    def pieces(self, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """What ``~`` joins."""
        return tuple(bounds.sized(given))

    def put(self, value: Any) -> Any:
        """What is put out."""
        return bounds.written(value)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may have it."""
        return attr not in _REFUSED and super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Reckon an operator."""
        bounds.check_operator(operator, left, right)
        return bounds.sized(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``str.format`` with its widths looked at."""
        inner = super().wrap_str_format(value)
        if inner is None:
            return None
        formatted = inner

        def form(*given: Any, **named: Any) -> str:
            bounds.check_braces(str(value.__self__), [*given, *named.values()])
            return formatted(*given, **named)

        return form

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as Jinja's own
        """Call a function of the template or a method of a value."""
        bounds.charge()
        if isinstance(__obj, BuiltinMethodType | MethodType):
            bounds.check_method(__obj.__name__, __obj.__self__, args, kwargs)
        found = super().call(__context, __obj, *args, **kwargs)
        # A namespace and a loop are no data.
        return found if isinstance(found, Namespace | LoopContext) else bounds.sized(found)


def _weighed(function: Any, name: str) -> Callable[..., Any]:
    """A filter, or with no name a test."""
    # Some are given the context or the environment before the value.
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def weighed(*given: Any, **named: Any) -> Any:
        bounds.charge()
        bounds.check_filter(name, given[skipped:], named)
        return bounds.sized(function(*given, **named))

    return weighed
