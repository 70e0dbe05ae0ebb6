"""When holds really began and ended, kept for whoever books them."""

from collections import deque
from collections.abc import Iterable

from wattkeeper.holders.base import HolderEdge

_MOST_KEPT = 4096


class EdgeLog:
    """The newest edges, and among them those of the look that was last begun."""

    def __init__(self) -> None:
        self._kept: deque[HolderEdge] = deque(maxlen=_MOST_KEPT)
        self._fresh: list[HolderEdge] = []

    def begin(self) -> None:
        """Begin a look: nothing is fresh."""
        self._fresh = []

    def add(self, edges: Iterable[HolderEdge]) -> None:
        """Note what this look found."""
        found = list(edges)
        self._kept.extend(found)
        self._fresh += found

    @property
    def fresh(self) -> tuple[HolderEdge, ...]:
        """What the last look found, though it may have been long before."""
        return tuple(self._fresh)

    def since(self, boot_ns: int) -> list[HolderEdge]:
        """Return the edges after an instant of this boot."""
        return [edge for edge in list(self._kept) if edge.boot_ns > boot_ns]
