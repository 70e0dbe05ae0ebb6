"""Templates of the chart with values: what Helm makes of them, as far as the chart goes."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.chart.syntax import Assign, Block, Call, Node, Pipeline, Show, Text, Token


class TemplateError(Exception):
    """The chart refuses the values (`fail`), or a template asks for what there is not."""


class Templates:
    """Named templates, and the functions that a chart may call."""

    def __init__(self) -> None:
        self._named: dict[str, list[Node]] = {}

    def define(self, nodes: Sequence[Node]) -> None:
        """Remember what a file defines."""
        for node in nodes:
            if isinstance(node, Block) and node.word == "define":
                self._named[node.names[0]] = node.body

    def render(self, nodes: Sequence[Node], dot: Any) -> str:
        """Return the output of a template for `dot`."""
        return _Run(self, dot).write(nodes, dot)

    def include(self, name: str, dot: Any) -> str:
        """Return the output of a named template."""
        return self.render(self._named[name], dot)


class _Run:
    """One execution of a template, with the variables of the blocks it is in."""

    def __init__(self, templates: Templates, root: Any) -> None:
        self._scopes: list[dict[str, Any]] = [{"$": root}]
        self._functions: dict[str, Callable[..., Any]] = {
            **_FUNCTIONS,
            "include": templates.include,
        }

    def write(self, nodes: Sequence[Node], dot: Any) -> str:
        self._scopes.append({})
        try:
            return "".join(self._node(node, dot) for node in nodes)
        finally:
            self._scopes.pop()

    def _node(self, node: Node, dot: Any) -> str:
        match node:
            case Text(text):
                return text
            case Show(value):
                return _shown(self._value(value, dot))
            case Assign(name, value):
                self._scopes[-1][name] = self._value(value, dot)
                return ""
            case Block():
                return self._block(node, dot)

    def _block(self, block: Block, dot: Any) -> str:
        if block.value is None:
            return ""
        value = self._value(block.value, dot)
        if not value:
            return self.write(block.otherwise, dot)
        if block.word == "range":
            pairs = sorted(value.items()) if isinstance(value, Mapping) else enumerate(value)
            return "".join(self._round(block, key, each) for key, each in pairs)
        return self.write(block.body, value if block.word == "with" else dot)

    def _round(self, block: Block, key: Any, each: Any) -> str:
        self._scopes.append(dict(zip(block.names, (key, each), strict=False)))
        try:
            return self.write(block.body, each)
        finally:
            self._scopes.pop()

    def _value(self, pipeline: Pipeline, dot: Any) -> Any:
        passed: tuple[Any, ...] = ()
        for call in pipeline.calls:
            passed = (self._call(call, dot, passed),)
        return passed[0]

    def _call(self, call: Call, dot: Any, passed: tuple[Any, ...]) -> Any:
        arguments = (*(self._operand(each, dot) for each in call.arguments), *passed)
        head = call.head
        if isinstance(head, Token) and head.kind == "word" and head.text not in {"true", "false"}:
            if head.text not in self._functions:
                raise SyntaxError(f"{head.text} is no function that is known here")
            return self._functions[head.text](*arguments)
        value = self._operand(head, dot)
        return value(*arguments) if arguments else value

    def _operand(self, operand: Token | Pipeline, dot: Any) -> Any:
        if isinstance(operand, Pipeline):
            return self._value(operand, dot)
        match operand.kind:
            case "string":
                return json.loads(operand.text)
            case "number":
                return int(operand.text)
            case "word":
                return operand.text == "true"
        name, *fields = operand.text.split(".")
        value = dot
        if name:
            value = next(scope[name] for scope in reversed(self._scopes) if name in scope)
        for key in filter(None, fields):
            if key not in value:
                # Helm writes nothing there; here it is a slip of the pen.
                raise TemplateError(f"{operand.text}: there is no {key}")
            value = value[key]
        return value


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _fail(message: str) -> None:
    raise TemplateError(message)


def _printf(form: str, *values: Any) -> str:
    return re.sub("%[sv]", "{}", form).format(*map(_shown, values))


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=False, width=10_000)
    return text.removesuffix("...\n").rstrip("\n")


def _indent(width: int, text: str) -> str:
    return "\n".join(" " * width + line for line in text.split("\n"))


def _and(*values: Any) -> Any:
    return next((value for value in values if not value), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if value), values[-1])


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": _and,
    "contains": lambda part, text: part in text,
    "default": lambda otherwise, value=None: value or otherwise,
    "eq": lambda one, other: one == other,
    "fail": _fail,
    "gt": lambda one, other: one > other,
    "int": int,
    "nindent": lambda width, text: "\n" + _indent(width, text),
    "not": lambda value: not value,
    "or": _or,
    "printf": _printf,
    "quote": lambda value: json.dumps(_shown(value), ensure_ascii=False),
    "sha256sum": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    "toYaml": _yaml,
    "trimPrefix": lambda prefix, text: text.removeprefix(prefix),
    "trimSuffix": lambda suffix, text: text.removesuffix(suffix),
    "trunc": lambda length, text: text[:length],
    "upper": str.upper,
}
