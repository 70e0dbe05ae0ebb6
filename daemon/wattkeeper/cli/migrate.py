"""`wattkeeper migrate`."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.aggregator.folder import BusyError, hold
from wattkeeper.cli.command import PROGRAM, Command, CommandError
from wattkeeper.settings import load

if TYPE_CHECKING:
    from wattkeeper.ledger.moving import Proof
    from wattkeeper.ledger.store import Ledger


class Migrate(Command):
    """Move the books of an aggregator from SQLite to PostgreSQL, and its history to an engine.

    Stop the aggregator, set its `ledger.url` (or `url_file`) to an empty database, and run this on
    its machine, as its user: it reads the same configuration. Then start the aggregator again.
    The history in `data_dir` stays there, unless `telemetry.url` names an engine: then it is
    carried over as well.

    The old files are brought to this version, else only read, and stay as a backup. The move may
    be interrupted at any time: run it again, and it goes on where it was. No aggregator starts on
    the new database before it has ended. At the end both are compared: every row of every table,
    the balance of every meter, the energy of every meter and day of the history: exit code 0 if
    they are the same, 1 if not.

    Needs some 200 MB of memory, and about half a minute for each million rows.

    Examples:
      wattkeeper migrate
      wattkeeper migrate --config /srv/aggregator.toml
      WATTKEEPER_AGGREGATOR_LEDGER__URL=postgresql://wattkeeper@db/wattkeeper wattkeeper migrate
      wattkeeper migrate --source /backup/ledger.sqlite --again
    """

    config: Path | None = Field(None, description="the aggregator's file, instead of the usual one")
    source: Path | None = Field(
        None, description="SQLite file to move; ledger.sqlite in the aggregator's data_dir"
    )
    again: bool = Field(
        False, description="forget what an unfinished move has brought over, and begin again"
    )

    def run(self) -> int:
        """Move, compare, and say what to do next."""
        from wattkeeper.ledger.store import Ledger, LedgerError
        from wattkeeper.telemetry.base import TelemetryError

        settings = load(AggregatorSettings, program="aggregator", config_path=self.config)
        url = settings.ledger_url()
        if url.startswith("sqlite:"):
            raise CommandError(
                "ledger.url: it is not set to a PostgreSQL; set it to the new database first, like "
                "postgresql://wattkeeper@db/wattkeeper"
            )
        file = self.source or settings.data_dir / "ledger.sqlite"
        if not file.is_file():
            raise CommandError(f"{file}: there is no such file; name the ledger with --source")
        try:
            with (
                held(settings.data_dir),
                closing(Ledger.open(file)) as source,
                closing(Ledger.open(url, slot_ms=source.slot_ms)) as target,
            ):
                return self._both(settings, source, target)
        except (LedgerError, TelemetryError) as error:
            raise CommandError(f"{error} (what was moved so far stays moved)") from error

    def _both(self, settings: AggregatorSettings, source: "Ledger", target: "Ledger") -> int:
        from wattkeeper.cli.migrate_history import carry
        from wattkeeper.ledger.moving import end

        code = _report(self._move(source, target))
        with _progress() as progress:
            code = code or carry(settings, target, progress)
        if not code:
            end(target)
            print(
                "Start the aggregator; keep the old files until there is a backup of the new "
                f"ones.\nCheck: {PROGRAM} balance"
            )
        return code

    def _move(self, source: "Ledger", target: "Ledger") -> "Proof":
        from wattkeeper.ledger.moving import begin, copy, prove, total

        begin(source, target, again=self.again)
        with _progress() as progress:
            rows = total(source)
            moving = progress.add_task("moving", total=rows)
            copy(source, target, lambda more: progress.update(moving, advance=more))
            comparing = progress.add_task("comparing", total=2 * rows)
            return prove(source, target, lambda more: progress.update(comparing, advance=more))


def _report(proof: "Proof") -> int:
    if not proof.differences:
        moved = sum(content.rows for content in proof.tables.values())
        print(
            f"{moved:,} rows in {len(proof.tables)} tables and the balances of {proof.meters:,} "
            "meters are the same in both."
        )
        return 0
    for line in proof.differences:
        print(f"wattkeeper migrate: {line}", file=sys.stderr)
    print(
        "wattkeeper migrate: both are not the same. If the file has changed since the move began, "
        "run it again with --again",
        file=sys.stderr,
    )
    return 1


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the aggregator's folder, so that it does not start meanwhile."""
    try:
        lock = hold(folder)
    except BusyError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"data_dir: {folder} is not writable ({error.strerror})") from error
    try:
        yield
    finally:
        os.close(lock)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
