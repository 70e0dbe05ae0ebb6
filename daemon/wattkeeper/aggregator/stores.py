"""Which store keeps the history: chosen and opened by the configuration."""

from wattkeeper.aggregator.config import NO_HISTORY, AggregatorSettings
from wattkeeper.telemetry.base import TelemetryStore
from wattkeeper.values import milliseconds

FOLDER = "telemetry"
"""Of the history, in the aggregator's `data_dir`."""


def open_store(settings: AggregatorSettings) -> TelemetryStore | None:
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
        return RemoteStore(options, SqliteCursors(folder / "cursors.sqlite"), folder)
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
