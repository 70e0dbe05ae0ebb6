"""Where the agents' `/metrics` are, for Prometheus. A silent node stays listed."""

import json
from collections.abc import Mapping
from pathlib import Path


class Targets:
    """The address that each node advertised last, kept in a file so that a restart knows it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_node: dict[tuple[str, str], str] = {}
        self._changed = False

    def load(self) -> None:
        """Read the file. It is only a cache: where it is missing or damaged, nodes come back."""
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            self._by_node = {(row[0], row[1]): str(row[2]) for row in kept}
        except (FileNotFoundError, ValueError, TypeError, LookupError):
            self._by_node = {}

    def advertised(self, cluster: str, node: str, address: str) -> None:
        """Take note of a node's address; an empty one is no news."""
        if address and self._by_node.get((cluster, node)) != address:
            self._by_node[cluster, node] = address
            self._changed = True

    def save(self) -> None:
        """Write the file if anything changed. Blocks.

        Raises:
            OSError: the file cannot be written; the next call tries again.

        """
        if not self._changed:
            return
        self._changed = False
        rows = [[*key, address] for key, address in sorted(self._by_node.items())]
        draft = self._path.with_suffix(".new")
        try:
            draft.write_text(json.dumps(rows), encoding="utf-8")
            draft.replace(self._path)
        except OSError:
            self._changed = True
            raise

    def by_node(self) -> Mapping[tuple[str, str], str]:
        """Return addresses by cluster and node."""
        return dict(self._by_node)
