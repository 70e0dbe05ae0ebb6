"""`wattkeeper aggregator`."""

from collections.abc import Sequence
from dataclasses import dataclass

from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.settings import load


@dataclass(frozen=True, slots=True)
class Aggregator:
    """Keep the fleet's books until told to stop."""

    settings: AggregatorSettings

    @classmethod
    def parse(cls, args: Sequence[str], _program: str) -> "Aggregator":
        """Read file, environment and flags."""
        return cls(load(AggregatorSettings, program="aggregator", cli_args=args))

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM."""
        from wattkeeper.aggregator.runtime import serve

        return serve(self.settings)
