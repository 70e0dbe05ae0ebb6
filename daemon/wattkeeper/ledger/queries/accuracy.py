"""How sure a figure is, in one letter: a class of every pair of source and split.

| class | source, split | what is open |
|---|---|---|
| A | counter; exclusive | the counter's own error |
| B | counter; settled, recovered | and whose it was, for a second at an edge or over an outage |
| C | counter; shared | and what the rule of the split leaves open |
| C | integrated; not shared | and power between two readings |
| D | integrated, shared; estimated | both, or there is a model instead of a reading |
"""

from collections.abc import Mapping

from wattkeeper.model.meter import Method
from wattkeeper.model.window import Split

MOST = 0.95
"""The part of an energy that is of its class, or a better one."""


def grade(method: int, split: int) -> str:
    """Return the class of postings, A to D."""
    if method == Method.COUNTER:
        return {Split.EXCLUSIVE: "A", Split.SHARED: "C"}.get(Split(split), "B")
    return "C" if method == Method.INTEGRATED and split != Split.SHARED else "D"


def grade_of(by_grade_uj: Mapping[str, int]) -> str | None:
    """Return the best class that MOST of an energy reaches, None where there is none."""
    whole = sum(by_grade_uj.values())
    reached = 0
    for name in sorted(by_grade_uj):
        reached += by_grade_uj[name]
        if whole > 0 and reached >= MOST * whole:
            return name
    return None
