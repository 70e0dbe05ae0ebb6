"""Slurm's host lists: `n[3,5]`, `rack[1-2]n[01-10]`, `login1,gpu[001-018]`."""

import itertools
import re

LIMIT = 100_000
"""Nodes that one host list may name."""
_PART = re.compile(r"\[([^\[\]]*)\]|([^\[\],]+)")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


def expand(pattern: str) -> list[str]:
    """Return the nodes of a host list in Slurm's order: the last bracket counts fastest.

    Raises:
        ValueError: not a host list, or one of more than 100,000 nodes.

    """
    if "[" not in pattern and "," not in pattern and "]" not in pattern and pattern:
        return [pattern]
    nodes: list[str] = []
    at = 0
    while True:
        parts: list[list[str]] = []
        while found := _PART.match(pattern, at):
            parts.append(_range(pattern, found[1]) if found[2] is None else [found[2].strip()])
            at = found.end()
        total = 1
        for part in parts:
            total *= len(part)
        if total + len(nodes) > LIMIT:
            raise ValueError(f"{pattern!r}: the range names more than {LIMIT:,} nodes")
        if not parts or parts == [[""]] or (at < len(pattern) and pattern[at] != ","):
            raise ValueError(f"{pattern!r} is no host list; write it like node[001-018,020]")
        nodes += map("".join, itertools.product(*parts))
        if at == len(pattern):
            return nodes
        at += 1


def _range(pattern: str, ranges: str) -> list[str]:
    numbers: list[str] = []
    for part in ranges.split(","):
        limits = _RANGE.fullmatch(part.strip())
        if limits is None:
            raise ValueError(f"{pattern!r}: {part!r} is no range; write it like 001-018")
        low, high = limits[1], limits[2] or limits[1]
        if int(high) < int(low) or int(high) - int(low) + len(numbers) >= LIMIT:
            raise ValueError(f"{pattern!r}: the range {part} is backward or too long")
        numbers += [f"{number:0{len(low)}}" for number in range(int(low), int(high) + 1)]
    return numbers
