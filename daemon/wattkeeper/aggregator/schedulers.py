"""Which schedulers the configuration asks for."""

from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.schedulers.base import Scheduler


def schedulers(settings: AggregatorSettings) -> list[Scheduler]:
    """Return the schedulers that are switched on, not started yet."""
    found: list[Scheduler] = []
    return found
