"""What the embedded store may use and how long it keeps what."""

from dataclasses import dataclass

from wattkeeper.model.grid import DAY_MS
from wattkeeper.telemetry.base import TelemetryError
from wattkeeper.telemetry.duck_schema import Resolution


@dataclass(frozen=True, slots=True)
class DuckOptions:
    """Bounds and retention of the embedded store.

    `memory_bytes`, `threads`, `temp_bytes`: of DuckDB, the last on disk. `ask_s`: how long a
    question may take. `free_bytes`: what is left free on the disk. `keep_full_ms`,
    `keep_five_minutes_ms`, `keep_hours_ms`: how long each resolution is kept, None is for ever.
    `hot_rows`: how many rows of closed hours move into Parquet before their day is over.
    `piece_rows`: about how many rows are sorted at a time and stand in one file.

    Raises:
        TelemetryError: a coarser resolution is kept shorter than a finer one.

    """

    memory_bytes: int = 1 << 30
    threads: int = 2
    temp_bytes: int = 4 << 30
    ask_s: float = 30.0
    free_bytes: int = 256 << 20
    keep_full_ms: int | None = 30 * DAY_MS
    keep_five_minutes_ms: int | None = 731 * DAY_MS
    keep_hours_ms: int | None = None
    hot_rows: int = 1_000_000
    piece_rows: int = 1_000_000

    def __post_init__(self) -> None:
        kept = [self.kept_ms(resolution) for resolution in Resolution]
        if sorted(kept) != kept:
            days = " then ".join(f"{ms / DAY_MS:g}" for ms in kept)
            raise TelemetryError(
                f"telemetry retention: {days} days from full resolution to hours; a coarser "
                "resolution answers where a finer one is gone, so keep it at least as long"
            )

    def kept_ms(self, resolution: Resolution) -> float:
        """Return how long a resolution is kept, in milliseconds."""
        kept_ms = {
            Resolution.FULL: self.keep_full_ms,
            Resolution.FIVE_MINUTES: self.keep_five_minutes_ms,
            Resolution.HOUR: self.keep_hours_ms,
        }[resolution]
        return float("inf") if kept_ms is None else kept_ms
