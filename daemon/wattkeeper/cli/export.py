"""`wattkeeper export`."""

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any

from pydantic import Field
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from wattkeeper.aggregator import times
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.cli.client import ask
from wattkeeper.cli.command import Command, CommandError
from wattkeeper.cli.export_files import Kind, Table, kind_of, whole
from wattkeeper.cli.export_pages import Pages
from wattkeeper.flags import ConfigError
from wattkeeper.model.grid import DAY_MS
from wattkeeper.telemetry.base import Metric
from wattkeeper.values import Duration, milliseconds

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FILTERS = ("cluster", "node", "component", "user", "account", "partition", "job")


class Export(Command):
    """Write history into a file: Parquet or CSV, as its name ends.

    A row for each step and series: start (UTC), seconds (the length of the step), a column
    for each of --by, and one for each metric with its unit (power_watts, …); what was not
    metered is null. Time is asked for piece by piece, so that a year needs no more memory
    than a day. The file appears when all of it is written; Ctrl-C leaves nothing behind.

    `--metric`: power, power_peak, energy, idle_power, temperature, utilization, memory,
    clock, throttled.
    `--by`: cluster, node, meter, component, device, gpu, model; payer (workload, idle,
    system, overhead, gap, …), manager, workload; user, account, partition, namespace, job;
    group:KIND (group:rack).

    Where history is downsampled, steps are as long as its rows: `seconds` says so.

    Examples:
      wattkeeper export --out day.parquet
      wattkeeper export --metric power,temperature --by node,device --since -30d --out gpus.parquet
      wattkeeper export --metric energy --by account,user --step 1d --since -365d --out year.csv
      wattkeeper export --job 123 --by node,device --step 10s --since -7d --out job.csv
      wattkeeper export --node gpu[001-018] --component gpu --out rack.parquet
    """

    out: Path = Field(description="file to write: NAME.parquet or NAME.csv")
    metric: str = Field("power", description="what was metered; several with commas between")
    by: str = Field("node,component,device", description="columns that tell series apart")
    since: str = Field("-24h", description="from: 2026-11-01, -30d")
    until: str | None = Field(None, description="to, the same way; now")
    step: Duration = Field(timedelta(minutes=5), description="length of a step: 10s, 1h, 1d")
    aggregation: str | None = Field(
        None, description="of the meters of a series: sum, mean, min, max; what suits the metric"
    )
    cluster: str | None = Field(None, description="of these clusters only")
    node: str | None = Field(None, description="of these nodes only: n1,n2 or gpu[001-018]")
    component: str | None = Field(None, description="of these only: gpu, cpu, dram, host")
    user: str | None = Field(None, description="of jobs of these users only")
    account: str | None = Field(None, description="of jobs of these accounts only")
    partition: str | None = Field(None, description="of jobs in these partitions only")
    job: str | None = Field(None, description="of these jobs only: 123, 123_[0-99]")
    url: str | None = Field(None, description="the aggregator, http://HOST:9746")

    def run(self) -> int:
        """Ask piece by piece and write; 1 if there is no history of that time."""
        kind = kind_of(self.out)
        pages = self._pages()
        try:
            with whole(self.out) as file, _progress() as progress:
                written = self._write(kind, file, pages, progress)
        except KeyboardInterrupt:
            print(f"wattkeeper export: stopped; {self.out} was not written", file=sys.stderr)
            raise
        print(f"{self.out}: {written:,} rows, {self.out.stat().st_size / 1e6:,.1f} MB")
        return 0

    def _write(self, kind: Kind, file: IO[bytes], pages: Pages, progress: Progress) -> int:
        written = 0
        table: Table | None = None
        bar = progress.add_task(self.out.name, total=pages.until_ms - pages.since_ms, rows="")
        began_s = time.monotonic()
        try:
            for page in pages:
                if page.rows:
                    table = table or kind(file, page.labels, page.values)
                    table.write(page.rows)
                    written += len(page.rows)
                rate = written / max(time.monotonic() - began_s, 0.001)
                done = min(page.until_ms, pages.until_ms) - pages.since_ms
                progress.update(bar, completed=done, rows=f"{written:,} rows, {rate:,.0f}/s")
        finally:
            if table is not None:
                table.close()
        if not written:
            raise CommandError("there is no history of that time; nothing was written", code=1)
        return written

    def _pages(self) -> Pages:
        metrics = [word.strip() for word in self.metric.split(",")]
        for metric in metrics:
            if metric not in tuple(Metric):
                raise ConfigError(f"--metric: {metric!r} is none of {', '.join(Metric)}")
        step_ms = milliseconds(self.step)
        if step_ms < 1_000 or step_ms % 1_000:
            raise ConfigError("--step: must be whole seconds, 1s at least")
        # By the aggregator's clock, as with every other question.
        now_ms = milliseconds(datetime.fromisoformat(self._ask("/v1/fleet", {})["as_of"]) - _EPOCH)
        try:
            since_ms, until_ms = times.period(
                self.since, self.until, now_ms=now_ms, slot_ms=1, usual_ms=DAY_MS
            )
        except ProblemError as error:
            raise ConfigError(f"--{error.field}: {error.detail}") from error
        query = {name: getattr(self, name) for name in ("by", "aggregation", *_FILTERS)}
        asked = partial(self._ask, "/v1/telemetry")
        return Pages(asked, list(dict.fromkeys(metrics)), query, since_ms, until_ms, step_ms)

    def _ask(self, path: str, query: Mapping[str, str | None]) -> Any:
        return ask(self.url, path, query)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
