"""What an aggregator opens at its start; whatever is wrong with it, the message names the key."""

import socket

from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.aggregator.folder import BusyError, hold
from wattkeeper.aggregator.pricing import Pricing
from wattkeeper.aggregator.stores import open_store
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.factors.table import TableError
from wattkeeper.ledger.lease import Lease
from wattkeeper.ledger.store import Ledger, LedgerError
from wattkeeper.model.grid import DAY_MS
from wattkeeper.settings import ConfigError
from wattkeeper.telemetry.base import TelemetryError, TelemetryStore
from wattkeeper.tls.server import ServerCertificates
from wattkeeper.values import milliseconds


class StartError(Exception):
    """The aggregator cannot start. The message names the key and the fix."""


def open_folder(settings: AggregatorSettings) -> int:
    """Make and hold `data_dir`; return the descriptor whose closing lets it go.

    Raises:
        StartError: not writable, or another aggregator's.

    """
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return hold(folder)
    except BusyError as error:
        raise StartError(str(error)) from None
    except OSError as error:
        raise StartError(
            f"data_dir: {folder} is not writable ({error.strerror}); "
            "choose another with --data-dir, or give it to this user"
        ) from error


def open_ledger(settings: AggregatorSettings) -> Ledger:
    """Open the ledger.

    Raises:
        StartError: it cannot be used.

    """
    try:
        return Ledger.open(settings.ledger_url(), slot_ms=milliseconds(settings.ledger.slot))
    except (LedgerError, ConfigError) as error:
        raise StartError(str(error)) from error


def open_certificates(settings: AggregatorSettings) -> ServerCertificates | None:
    """Read the certificates, None where the aggregator speaks no TLS.

    Raises:
        StartError: they cannot be used.

    """
    if not settings.tls_server_config.on:
        return None
    try:
        return ServerCertificates(settings.tls_server_config)
    except ConfigError as error:
        raise StartError(str(error)) from error


def check_clock(ledger: Ledger, now_ms: int) -> None:
    """Refuse a clock that cannot be right: nodes with a wrong one are dated by ours.

    Raises:
        StartError: it is a day before the newest window.

    """
    newest_ms = ledger.newest_ms() or 0
    if now_ms < newest_ms - DAY_MS:
        raise StartError(
            f"clock: this machine says {rfc3339(now_ms)}, but the ledger holds windows of "
            f"{rfc3339(newest_ms)}; set the clock first"
        )


def join(settings: AggregatorSettings, ledger: Ledger) -> Lease:
    """Take a share in a ledger that others may use too.

    Raises:
        StartError: this aggregator, or another one, cannot share it.

    """
    name = f"{socket.gethostname()}:{settings.data_dir.absolute()}"
    lease = Lease(ledger, name, ttl_s=settings.ledger.lease.total_seconds())
    try:
        lease.join(alone=settings.telemetry.url is None)
        lease.renew()
    except LedgerError as error:
        raise StartError(str(error)) from error
    return lease


def open_history(settings: AggregatorSettings, ledger: Ledger) -> TelemetryStore | None:
    """Open the store of the history, None where none is kept.

    Raises:
        StartError: it cannot be used.

    """
    try:
        return open_store(settings, ledger)
    except (TelemetryError, ValueError) as error:
        raise StartError(f"telemetry: {str(error).removeprefix('telemetry: ')}") from error


def open_factors(settings: AggregatorSettings, ledger: Ledger, troubles: Troubles) -> Pricing:
    """Return what knows the factors, with every table read.

    Raises:
        StartError: a table cannot be used.

    """
    pricing = Pricing(settings.factors, ledger, troubles)
    try:
        pricing.check()
    except TableError as error:
        raise StartError(str(error)) from error
    return pricing
