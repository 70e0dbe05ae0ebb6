"""Which store keeps the history: chosen and opened by the configuration."""

from collections.abc import Mapping

from sqlalchemy.exc import SQLAlchemyError

from wattkeeper.aggregator.config import NO_HISTORY, AggregatorSettings
from wattkeeper.ledger.database import cause
from wattkeeper.ledger.recorded import move, positions
from wattkeeper.ledger.store import Ledger, LedgerError
from wattkeeper.telemetry.base import Cursor, TelemetryError, TelemetryStore
from wattkeeper.values import milliseconds

FOLDER = "telemetry"
"""Of the history, in the aggregator's `data_dir`."""


class LedgerCursors:
    """How far journals are with an engine, in the ledger that several aggregators share."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def read(self) -> Mapping[str, Cursor]:
        """Return all, by the journal's name."""
        try:
            return {name: Cursor(*position) for name, position in positions(self._ledger).items()}
        except SQLAlchemyError as error:
            raise TelemetryError(f"telemetry: cursors cannot be read: {cause(error)}") from error

    def move(self, cursors: Mapping[str, Cursor]) -> None:
        """Put these on disk, all or none."""
        try:
            move(self._ledger, cursors)
        except LedgerError as error:
            raise TelemetryError(f"telemetry: cursors: {error}") from error

    def close(self) -> None:
        """Nothing to let go of: the ledger is the aggregator's."""


def open_store(settings: AggregatorSettings, ledger: Ledger) -> TelemetryStore | None:
    """Return the store, None where no history is kept. Blocks.

    Raises:
        TelemetryError: it cannot be opened; says why and what to do.
        ValueError: an option cannot be meant so; the text begins with its name.

    """
    telemetry, retention = settings.telemetry, settings.retention
    folder = settings.data_dir.absolute() / FOLDER
    if telemetry.url == NO_HISTORY:
        return None
    if telemetry.url is not None:
        from wattkeeper.telemetry.remote import RemoteStore  # noqa: PLC0415 - one of two is used
        from wattkeeper.telemetry.remote_cursors import SqliteCursors  # noqa: PLC0415
        from wattkeeper.telemetry.remote_options import RemoteOptions  # noqa: PLC0415

        options = RemoteOptions(
            telemetry.url,
            query_url=telemetry.query_url,
            tenant=telemetry.tenant,
            token_file=telemetry.token_file,
            certificate=telemetry.certificate,
            key=telemetry.key,
            ca=telemetry.ca,
            timeout_s=telemetry.timeout.total_seconds(),
        )
        cursors = (
            LedgerCursors(ledger) if ledger.shared else SqliteCursors(folder / "cursors.sqlite")
        )
        return RemoteStore(options, cursors, folder)
    from wattkeeper.telemetry.duck import DuckStore  # noqa: PLC0415 - DuckDB takes time to import
    from wattkeeper.telemetry.duck_options import DuckOptions  # noqa: PLC0415

    return DuckStore(
        folder,
        DuckOptions(
            memory_bytes=telemetry.memory << 20,
            threads=telemetry.threads,
            ask_s=telemetry.timeout.total_seconds(),
            keep_full_ms=milliseconds(retention.full),
            keep_five_minutes_ms=milliseconds(retention.five_minutes),
            keep_hours_ms=None if retention.hours is None else milliseconds(retention.hours),
        ),
    )
