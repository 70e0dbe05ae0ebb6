"""`wattkeeper aggregator`."""

import gc
import logging
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from wattkeeper.aggregator.access.config import is_loopback
from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.cli.command import CommandError
from wattkeeper.settings import load
from wattkeeper.supervised.daemon import Daemon, run_until_signal
from wattkeeper.supervised.journal import set_level, set_up
from wattkeeper.supervised.reload import Reload

_OTHER_FILES = 1024
"""Of the ledger and the history, and connections to schedulers and databases."""


@dataclass(frozen=True, slots=True)
class Aggregator:
    """Keep the fleet's books until told to stop. `args` are the flags among what is set."""

    settings: AggregatorSettings
    args: Sequence[str] = ()

    @classmethod
    def parse(cls, args: Sequence[str], _program: str) -> "Aggregator":
        """Read file, environment and flags."""
        return cls(load(AggregatorSettings, program="aggregator", cli_args=args), args)

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM; SIGHUP reads the configuration again."""
        from wattkeeper.aggregator.opening import StartError

        set_up(self.settings.log_level)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        try:
            run_until_signal(self._serve)
        except StartError as error:
            raise CommandError(str(error)) from error
        return 0

    async def _serve(self, daemon: Daemon) -> None:
        from wattkeeper.aggregator.runtime import Aggregator as Centre
        from wattkeeper.aggregator.schedulers import schedulers

        settings = self.settings
        centre = Centre(settings, schedulers(settings))
        if centre.callers.open and not is_loopback(settings.listen):
            logging.getLogger(__name__).warning(
                "listening on %s without a token: anyone who reaches it can deliver",
                settings.listen,
            )
        _allow_files(settings.limits.connections)
        # Millions of sums without a cycle among them: looking through all of them, as the
        # collector does by default, stops the intake of a large fleet for seconds.
        gc.set_threshold(100_000, 50, 100)
        read = partial(load, AggregatorSettings, program="aggregator", cli_args=self.args)

        def want(new: AggregatorSettings) -> None:
            centre.callers.shared = new.token

        takers = {
            "token": want,
            "log_level": lambda new: set_level(new.log_level),
        }
        daemon.on_reload(Reload(settings, read, takers))
        # Its loops may rest for minutes, so that the event loop turns is all there is to see.
        await centre.run(daemon.stop, lambda: daemon.ready(time.monotonic))


def _allow_files(connections: int) -> None:
    """Raise the soft limit of open files, which is 1,024 by default, to what is needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        # Enough for most: what does not fit waits, and is told when it comes to that.
        logging.getLogger(__name__).info(
            "this system allows %d open files, %d fewer than limits.connections needs; "
            "LimitNOFILE raises it",
            allowed,
            wanted - allowed,
        )  # fmt: skip
