"""What a scheduler says a node is marked with, as far as groups of nodes are made of it.

A mark is a text: `feature:h100`, `topology:NAME=UNIT`, `label:topology.kubernetes.io/rack=r12`.
"""

from collections.abc import Iterable

from wattkeeper.model.holder import MAX_LABEL

FEATURE, TOPOLOGY, LABEL = "feature:", "topology:", "label:"
MOST = 64
"""Marks kept of one node, the first by name."""


def bounded(marks: Iterable[str]) -> tuple[str, ...]:
    """Return what is kept of a node's marks, in order; those that are too long are not."""
    kept = {mark for mark in marks if len(mark) <= MAX_LABEL and mark.isprintable()}
    return tuple(sorted(kept)[:MOST])
