"""The history in `/metrics`: whether it takes what is delivered, and what lies where."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from wattkeeper.aggregator.recording import Recording

STATES = ("ok", "failing")
_RESOLUTIONS = ("full", "5m", "1h")


@dataclass(frozen=True, slots=True)
class HistoryFigures:
    """How the history stood at one instant; `counts` are the store's own figures by name."""

    failing: bool
    waiting: int
    flushed: int
    counts: Mapping[str, float]

    @classmethod
    def of(cls, recording: Recording) -> "HistoryFigures":
        """Look. Blocks."""
        recorder = recording.recorder
        return cls(
            bool(recorder.trouble), recorder.waiting, recorder.flushed, recording.store.counts()
        )


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure of a store as a metric; `per` divides it into the base unit."""

    name: str
    help: str
    counter: bool = False
    per: float = 1


_FIGURES = {
    "hot_rows": _Figure("hot_rows", "Rows that are not in Parquet files yet."),
    "database_bytes": _Figure("database_bytes", "The database of new rows, on disk."),
    "damaged_files": _Figure("damaged_files", "Parquet files that cannot be read; must be 0."),
    "misfits": _Figure("misfit_values", "Values of agents that were left out.", counter=True),
    "oldest_ms": _Figure("oldest_timestamp_seconds", "The oldest row.", per=1000),
    "compacted_ms": _Figure("compacted_timestamp_seconds", "The last compaction.", per=1000),
    "sent_rows": _Figure("sent_rows", "Rows that the engine took.", counter=True),
    "requests": _Figure("requests", "Requests to the engine.", counter=True),
    "retries": _Figure("retries", "Of them those that were tried again.", counter=True),
    "refused_rows": _Figure("refused_rows", "Rows that the engine refuses.", counter=True),
    "refused_kept_rows": _Figure("refused_kept_rows", "Of them those in Parquet files here."),
    "refused_kept_bytes": _Figure("refused_kept_bytes", "What these take up on disk."),
    "refused_dropped_rows": _Figure(
        "refused_dropped_rows", "Those for which there was no room.", counter=True
    ),
}


def history(figures: HistoryFigures | None) -> Iterator[Metric]:
    """Yield the metrics of the history, none where none is kept."""
    if figures is None:
        return
    state = GaugeMetricFamily(
        "wattkeeper_telemetry_state", "1 for the state that the history is in.", labels=("state",)
    )
    for name in STATES:
        state.add_metric([name], float((name == "failing") == figures.failing))
    yield state
    yield GaugeMetricFamily(
        "wattkeeper_telemetry_waiting_windows",
        "Windows in memory that the store has not taken yet.",
        value=float(figures.waiting),
    )
    yield CounterMetricFamily(
        "wattkeeper_telemetry_windows", "Windows that it took.", value=float(figures.flushed)
    )
    for name, figure in _FIGURES.items():
        if name in figures.counts:
            family = CounterMetricFamily if figure.counter else GaugeMetricFamily
            value = figures.counts[name] / figure.per
            yield family(f"wattkeeper_telemetry_{figure.name}", figure.help, value=value)
    yield from _by_resolution(figures.counts)


def _by_resolution(counts: Mapping[str, float]) -> Iterator[Metric]:
    for what, text in (
        ("files", "Parquet files."),
        ("rows", "Rows in them."),
        ("bytes", "What they take up on disk."),
    ):
        family = GaugeMetricFamily(
            f"wattkeeper_telemetry_parquet_{what}", text, labels=("resolution",)
        )
        for resolution in _RESOLUTIONS:
            if f"{resolution}_{what}" in counts:
                family.add_metric([resolution], counts[f"{resolution}_{what}"])
        if family.samples:
            yield family
