"""`wattkeeper aggregator`."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.cli.command import CommandError
from wattkeeper.settings import host_port, load

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


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
        from wattkeeper.aggregator.opening import StartError

        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
        )
        logging.getLogger("alembic").setLevel(logging.WARNING)
        try:
            asyncio.run(_serve(self.settings))
        except StartError as error:
            raise CommandError(str(error)) from error
        return 0


async def _serve(settings: AggregatorSettings) -> None:
    from wattkeeper.aggregator.runtime import Aggregator as Centre
    from wattkeeper.aggregator.schedulers import schedulers

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    if settings.token is None and host_port(settings.listen)[0] not in _LOOPBACK:
        logging.getLogger(__name__).warning(
            "listening on %s without a token: anyone who reaches it can deliver", settings.listen
        )
    # Millions of sums without a cycle among them: looking through all of them, as the collector
    # does by default, stops the intake of a large fleet for seconds.
    gc.set_threshold(100_000, 50, 100)
    await Centre(settings, schedulers(settings)).run(stopped)
