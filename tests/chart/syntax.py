"""The part of Go's template language that the chart uses, as a tree.

Nothing is guessed: what is not in this part is a SyntaxError, so that the chart cannot outgrow it
unseen.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_ACTION = re.compile(r"\{\{(?P<left>-(?=\s))?(?P<body>.*?)(?P<right>(?<=\s)-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<number>-?[0-9]+)
      | (?P<path>\$?[A-Za-z_0-9]*(?:\.[A-Za-z_][A-Za-z_0-9]*)+ | \$[A-Za-z_0-9]* | \.)
      | (?P<word>[A-Za-z_][A-Za-z_0-9]*)
      | (?P<mark>:= | [|(),])
    )""",
    re.VERBOSE,
)
_OPENING = ("if", "with", "range", "define")


@dataclass(frozen=True)
class Token:
    """`kind`: string, number, path, word or mark."""

    kind: str
    text: str


@dataclass(frozen=True)
class Call:
    """A function, or something that may be called, with its arguments."""

    head: "Token | Pipeline"
    arguments: tuple["Token | Pipeline", ...]


@dataclass(frozen=True)
class Pipeline:
    """Calls, each of which has what the one before returned as its last argument."""

    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Text:
    """What stands in the output as it is."""

    text: str


@dataclass(frozen=True)
class Show:
    """A value in the output."""

    value: Pipeline


@dataclass(frozen=True)
class Assign:
    """A variable, known until its block ends."""

    name: str
    value: Pipeline


@dataclass
class Block:
    """`if`, `with`, `range` or `define` with its body; `otherwise` is what `else` begins."""

    word: str
    value: Pipeline | None
    names: tuple[str, ...] = ()
    body: "list[Node]" = field(default_factory=list)
    otherwise: "list[Node]" = field(default_factory=list)


Node = Text | Show | Assign | Block


def parse(source: str) -> list[Node]:
    """Return the nodes of a template.

    Raises:
        SyntaxError: it is not in the part of the language that is known here.

    """
    top: list[Node] = []
    # The lists that are being filled, the innermost last; an `else if` is closed by its `if`'s end.
    filling, blocks = [top], [Block("", None)]
    for part in _parts(source):
        if isinstance(part, Text):
            filling[-1].append(part)
            continue
        word = part[0].text if part[0].kind == "word" else ""
        if word in _OPENING:
            block = _block(part)
            filling[-1].append(block)
            filling.append(block.body)
            blocks.append(block)
        elif word == "else":
            filling[-1] = blocks[-1].otherwise
            if len(part) > 1:
                inner = _block(part[1:])
                filling[-1].append(inner)
                filling[-1] = inner.body
                blocks[-1] = inner
        elif word == "end":
            filling.pop()
            blocks.pop()
        elif len(part) > 2 and part[1].text == ":=":
            filling[-1].append(Assign(part[0].text, _pipeline(part[2:])))
        else:
            filling[-1].append(Show(_pipeline(part)))
    if len(filling) != 1:
        raise SyntaxError(f"{blocks[-1].word} without end")
    return top


def _parts(source: str) -> "Iterator[Text | list[Token]]":
    """Yield texts, trimmed as their neighbours say, and the tokens of actions."""
    at, trim = 0, False
    for found in _ACTION.finditer(source):
        text = source[at : found.start()]
        text = text.lstrip() if trim else text
        yield Text(text.rstrip() if found["left"] else text)
        at, trim = found.end(), bool(found["right"])
        body = found["body"].strip()
        if not (body.startswith("/*") and body.endswith("*/")):
            yield _tokens(body)
    text = source[at:]
    yield Text(text.lstrip() if trim else text)


def _tokens(body: str) -> list[Token]:
    tokens, at = [], 0
    while at < len(body):
        found = _TOKEN.match(body, at)
        if found is None or found.lastgroup is None:
            raise SyntaxError(f"{body[at:]!r} is not in the part of the language that is known")
        tokens.append(Token(found.lastgroup, found[found.lastgroup]))
        at = found.end()
    return tokens


def _block(tokens: list[Token]) -> Block:
    word, rest = tokens[0].text, tokens[1:]
    if word == "define":
        return Block(word, None, (rest[0].text[1:-1],))
    names: tuple[str, ...] = ()
    if any(token.text == ":=" for token in rest):
        at = [token.text for token in rest].index(":=")
        names = tuple(token.text for token in rest[:at] if token.kind == "path")
        rest = rest[at + 1 :]
    return Block(word, _pipeline(rest), names)


def _pipeline(tokens: list[Token]) -> Pipeline:
    calls: list[Call] = []
    operands: list[Token | Pipeline] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.text == "(" and token.kind == "mark":
            end = _closing(tokens, at)
            operands.append(_pipeline(tokens[at + 1 : end]))
            at = end
        elif token.text == "|" and token.kind == "mark":
            calls.append(Call(operands[0], tuple(operands[1:])))
            operands = []
        elif token.kind == "mark":
            raise SyntaxError(f"{token.text!r} in {[t.text for t in tokens]}")
        else:
            operands.append(token)
        at += 1
    calls.append(Call(operands[0], tuple(operands[1:])))
    return Pipeline(tuple(calls))


def _closing(tokens: list[Token], opening: int) -> int:
    depth = 0
    for at in range(opening, len(tokens)):
        if tokens[at].kind == "mark":
            depth += {"(": 1, ")": -1}.get(tokens[at].text, 0)
        if depth == 0:
            return at
    raise SyntaxError("a bracket is not closed")
