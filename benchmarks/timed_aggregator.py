"""The aggregator as it is, with every commit's duration written to the file named first.

Commits run in a thread of the aggregator and show up in no metric, so this start script, and
nothing else, wraps the one method.
"""

import sys
import time
from pathlib import Path

from wattkeeper.cli.main import main
from wattkeeper.ledger.intake import Intake


def _time_commits(file: Path) -> None:
    commit = Intake.commit_sync

    def timed(self: Intake) -> None:
        began_s, cpu_s = time.perf_counter(), time.thread_time()
        commit(self)
        took = (time.perf_counter() - began_s, time.thread_time() - cpu_s)
        with file.open("a") as out:
            out.write(f"{time.time():.3f} {took[0]:.4f} {took[1]:.4f}\n")

    Intake.commit_sync = timed  # type: ignore[method-assign]


if __name__ == "__main__":
    _time_commits(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
