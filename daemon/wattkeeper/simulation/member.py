"""One node of the simulated fleet: its machine, its files, and the real agent on both."""

import shutil
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

from wattkeeper.agent.config import AgentSettings
from wattkeeper.agent.runtime import Agent
from wattkeeper.agent.transport import Transport
from wattkeeper.metering.journal import FILE, Journal
from wattkeeper.simulation import disk
from wattkeeper.simulation.cluster import Node
from wattkeeper.simulation.names import CLUSTER
from wattkeeper.simulation.sightings import Sightings
from wattkeeper.sources.simulated import SimulatedSource

Connect = Callable[["Member"], Transport]

_MAX_BYTES = 8 << 20


class Member:
    """A node and its agent. The agent can be killed; files and machine stay.

    `connect` gives each new agent its way to the centre, which ends where it is not `reachable`.
    """

    def __init__(self, node: Node, folder: Path, connect: Connect, seed: int) -> None:
        self.node = node
        self.machine = node.machine
        self.reachable = True
        self.address = ""
        """host:port of its agent's `/metrics` for Prometheus; nobody listens where it is empty."""
        self.agent: Agent | None = None
        self.restarts = 0
        self._connect = connect
        self._random = Random(f"{seed}/{node.machine.name}/ids")
        self._births: dict[str, int] = {}
        self._folder = folder / node.machine.name
        self._generation = 0

    @property
    def alive(self) -> bool:
        """Whether its agent runs."""
        return self.agent is not None

    @property
    def folder(self) -> Path:
        """The agent's data folder now."""
        return self._folder / str(self._generation)

    async def start(self) -> None:
        """Start the agent on what its data folder holds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = self.machine.name
        settings = AgentSettings(
            node=name,
            cluster=CLUSTER,
            data_dir=self.folder,
            sample_interval=timedelta(seconds=1),
            listen=self.address or "127.0.0.1:0",
            advertise=self.address,
        )
        journal = Journal(
            self.folder,
            cluster=CLUSTER,
            node=name,
            max_bytes=_MAX_BYTES,
            new_id=self._new_id,
            durable=False,
        )
        self.agent = Agent(
            settings=settings,
            clock=self.machine.clock,
            boot=self.machine.boot,
            sources=[SimulatedSource(self.machine)],
            holders=_Holders(self.node, self._births),
            journal=journal,
            transport=self._connect(self),
        )
        await self.agent.start()
        await self.agent.tick()

    async def tick(self, *, mark: bool = False) -> None:
        """Let the agent, if it lives, look at this instant; at a `mark` it also commits."""
        if self.agent is not None:
            await self.agent.tick(checkpoint=mark)

    async def deliver(self) -> None:
        """Let the agent send all it has."""
        while self.agent is not None and await self.agent.deliver_once():
            pass

    async def kill(self) -> None:
        """End the agent as `kill -9` does: nothing is closed, its files stay as they are."""
        agent, self.agent = self.agent, None
        if agent is None:
            return
        old = self.folder
        self._generation += 1
        self.restarts += 1
        disk.copy_as_is(old / FILE, self.folder / FILE)
        # What the dead agent still holds open is the old copy; nobody reads it again.
        agent.journal.close()
        shutil.rmtree(old)

    async def close(self) -> None:
        """End the agent in order."""
        if self.agent is not None:
            agent, self.agent = self.agent, None
            await agent.close()

    def wipe(self) -> None:
        """Delete the dead agent's data folder."""
        shutil.rmtree(self.folder)

    def become_clone_of(self, other: "Member") -> None:
        """Find the files of another, living node in the dead agent's data folder."""
        disk.remove(self.folder / FILE)
        disk.copy_as_is(other.folder / FILE, self.folder / FILE)

    def tear(self, size: int) -> None:
        """Lose the last bytes of the dead agent's journal."""
        disk.tear(self.folder, size)

    def fill_disk(self) -> None:
        """Leave the living agent's journal no room to grow."""
        if self.agent is not None:
            disk.fill(self.agent.journal._db)  # noqa: SLF001 no disk is filled for a simulation

    def free_disk(self) -> None:
        """Make room again."""
        if self.agent is not None:
            disk.free(self.agent.journal._db)  # noqa: SLF001 as above

    def _new_id(self) -> str:
        return uuid.UUID(int=self._random.getrandbits(128), version=4).hex


class _Holders(Sightings):
    """Sightings as the agent's whole view; what must survive a restart lives outside of it."""

    def remember(self) -> Any:
        """Nothing: births outlive the agent in the simulated node itself."""
        return None
