"""`wattkeeper agent`."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from wattkeeper.agent.config import AgentSettings
from wattkeeper.settings import load
from wattkeeper.supervised.daemon import Daemon, run_until_signal
from wattkeeper.supervised.journal import set_level, set_up
from wattkeeper.supervised.reload import Reload

if TYPE_CHECKING:
    from wattkeeper.agent.runtime import Agent as Metering


@dataclass(frozen=True, slots=True)
class Agent:
    """Meter this node until told to stop. `args` are the flags among what `settings` are from."""

    settings: AgentSettings
    args: Sequence[str] = ()

    @classmethod
    def parse(cls, args: Sequence[str], _program: str) -> "Agent":
        """Read file, environment and flags."""
        return cls(load(AgentSettings, program="agent", cli_args=args), args)

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM; SIGHUP reads the configuration again."""
        set_up(self.settings.log_level)

        async def serve(daemon: Daemon) -> None:
            await self.serve(daemon.stop, partial(self._supervise, daemon))

        run_until_signal(serve)
        return 0

    async def serve(
        self, stop: asyncio.Event, ready: "Callable[[Metering], None]" = lambda _: None
    ) -> None:
        """Run the agent until `stop`; `ready` is called after the first reading."""
        from wattkeeper.agent.build import agent
        from wattkeeper.agent.service import Service

        edge = asyncio.Event()
        with agent(self.settings, edge.set) as built:
            await Service(built, edge, partial(ready, built)).run(stop)

    def _supervise(self, daemon: Daemon, metering: "Metering") -> None:
        from wattkeeper.agent.transport import HttpTransport

        def show(settings: AgentSettings) -> None:
            if isinstance(metering.transport, HttpTransport):
                metering.transport.show(settings.aggregator.shown)

        read = partial(load, AgentSettings, program="agent", cli_args=self.args)
        takers = {"aggregator.token": show, "log_level": lambda new: set_level(new.log_level)}
        daemon.on_reload(Reload(self.settings, read, takers))
        daemon.ready(lambda: metering.ticks)
