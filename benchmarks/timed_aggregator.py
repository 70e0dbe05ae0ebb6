"""The aggregator as it is, with the times of its commits and long collections written to a file.

Commits run in a thread of the aggregator, garbage is collected wherever it accrues, and neither
shows up in a metric; so this start script, and nothing else, looks over their shoulders. Each
line of the file named first: `commit` or `gc`, UTC seconds, seconds it took.
"""

import gc
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wattkeeper.cli.main import main
from wattkeeper.ledger.writer import Writer

_LONG_S = 0.05


class Watch:
    """Writes down what took how long."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._collecting_since = 0.0

    def note(self, kind: str, began_s: float) -> None:
        """Write a line for what ends now."""
        with self._file.open("a") as out:
            out.write(f"{kind} {time.time():.3f} {time.perf_counter() - began_s:.4f}\n")

    def collection(self, phase: str, _: Mapping[str, Any]) -> None:
        """Take the garbage collector's word that it starts or stops."""
        if phase == "start":
            self._collecting_since = time.perf_counter()
        elif time.perf_counter() - self._collecting_since > _LONG_S:
            self.note("gc", self._collecting_since)


def watch(file: Path) -> None:
    """Time every commit and every long collection from now on."""
    watch = Watch(file)
    commit = Writer.commit_sync

    def timed(self: Writer) -> None:
        began_s = time.perf_counter()
        commit(self)
        watch.note("commit", began_s)

    Writer.commit_sync = timed  # type: ignore[method-assign]
    gc.callbacks.append(watch.collection)


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
