"""`wattkeeper agent`."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from wattkeeper.agent.config import AgentSettings
from wattkeeper.settings import load


@dataclass(frozen=True, slots=True)
class Agent:
    """Meter this node until told to stop."""

    settings: AgentSettings

    @classmethod
    def parse(cls, args: Sequence[str], _program: str) -> "Agent":
        """Read file, environment and flags."""
        return cls(load(AgentSettings, program="agent", cli_args=args))

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM."""
        from wattkeeper.agent.service import run_until_signal

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        run_until_signal(self.serve)
        return 0

    async def serve(self, stop: asyncio.Event) -> None:
        """Run the agent until `stop`."""
        from wattkeeper.agent.build import agent
        from wattkeeper.agent.service import Service

        edge = asyncio.Event()
        with agent(self.settings, edge.set) as built:
            await Service(built, edge).run(stop)
