"""The second half of `wattkeeper migrate`: the history, where it goes to an engine."""

import datetime as dt
import sys
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import Progress

from wattkeeper.aggregator.config import NO_HISTORY, AggregatorSettings
from wattkeeper.aggregator.stores import FOLDER, open_store

if TYPE_CHECKING:
    from wattkeeper.ledger.store import Ledger
    from wattkeeper.telemetry.base import TelemetryStore
    from wattkeeper.telemetry.carrying import Carrier

_NOTE = "carried.json"
_MOST_TOLD = 20
_PATIENCE_S = 60.0
"""An engine may show what it took only after a while."""
_LOOK_AGAIN_S = 1.0


def carry(settings: AggregatorSettings, target: "Ledger", progress: Progress) -> int:
    """Carry the history in `data_dir` to the engine of `telemetry.url`, if there are both.

    Returns 1 if not all of it is there afterwards, which is said on the standard error.

    Raises:
        TelemetryError: it cannot be read, or the engine does not take it; run it again.

    """
    folder = settings.data_dir.absolute() / FOLDER
    if settings.telemetry.url in (None, NO_HISTORY):
        return 0
    engine = open_store(settings, target)
    assert engine is not None
    with closing(engine):
        _keep_cursors(folder / "cursors.sqlite", engine)
        if not (folder / "telemetry.duckdb").exists():
            return 0
        return _carry(folder, engine, progress)


def _carry(folder: Path, engine: "TelemetryStore", progress: Progress) -> int:
    from wattkeeper.telemetry.carrying import Carrier
    from wattkeeper.telemetry.duck import DuckStore

    with closing(DuckStore(folder)) as source:
        carrier = Carrier(source, engine, folder / _NOTE)
        task = progress.add_task("history, days", total=None)
        for at in carrier.carry():
            progress.update(task, completed=at.days, total=at.of)
        checking = progress.add_task("comparing it", total=None)
        missing = _differences(carrier, engine)
        progress.update(checking, total=1, completed=1)
        if not missing:
            print(f"The energy of every meter on each of {at.of} days of history is the same.")
    return missing


def _keep_cursors(file: Path, engine: "TelemetryStore") -> None:
    """Let the engine's cursors, which stood beside the SQLite ledger, stand in the new one."""
    from wattkeeper.telemetry.remote_cursors import SqliteCursors

    if file.exists():
        with closing(SqliteCursors(file)) as cursors:
            engine.write([], cursors.read())


def _differences(carrier: "Carrier", engine: "TelemetryStore") -> int:
    ends = time.monotonic() + _PATIENCE_S
    while found := list(islice(carrier.differences(), _MOST_TOLD + 1)):
        if time.monotonic() >= ends:
            break
        time.sleep(_LOOK_AGAIN_S)
    for one in found[:_MOST_TOLD]:
        day = dt.datetime.fromtimestamp(one.day_ms / 1000, dt.UTC).date()
        print(
            f"wattkeeper migrate: {day}, {'/'.join(one.meter)}: {one.source_joules:.3f} J here, "
            f"{one.target_joules:.3f} J in the engine",
            file=sys.stderr,
        )
    if not found:
        return 0
    for finding in engine.findings():
        print(f"wattkeeper migrate: {finding.detail} {finding.fix}".rstrip(), file=sys.stderr)
    print(
        "wattkeeper migrate: the engine does not have all of the history. It must take samples as "
        "old as these, and each once: see docs/telemetry-remote.md. Then remove "
        f"{_NOTE} beside the history and run it again",
        file=sys.stderr,
    )
    return 1
