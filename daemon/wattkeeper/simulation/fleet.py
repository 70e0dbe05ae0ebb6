"""A whole fleet on one thread: machines, jobs, faults and real agents, as fast as they can run."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wattkeeper.agent.service import listening
from wattkeeper.flags import ConfigError
from wattkeeper.model.grid import floor
from wattkeeper.simulation.clock import TrueTime, VirtualClock
from wattkeeper.simulation.cluster import Cluster
from wattkeeper.simulation.machine import Machine
from wattkeeper.simulation.member import Connect, Member
from wattkeeper.values import host_port

SECOND_MS = 1_000
DELIVERY_MS = 10_000
_PORTS = 65_536


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a fleet is, when it begins (UTC milliseconds), and by which seed."""

    nodes: int
    gpus: int
    start_ms: int
    seed: int = 1


class Fleet:
    """Nodes with their agents; `connect` gives each agent its way to the centre."""

    def __init__(self, shape: Shape, folder: Path, connect: Connect) -> None:
        self.shape = shape
        self.time = TrueTime(floor(shape.start_ms, SECOND_MS))
        start_ms = self.time.now_ms
        self.machines = [
            Machine(
                f"sim{number + 1:03}",
                shape.gpus,
                VirtualClock(self.time, start_ms - 3_600_000 - number * 61_000),
                start_ms,
                shape.seed,
            )
            for number in range(shape.nodes)
        ]
        self.cluster = Cluster(self.machines, shape.seed, start_ms)
        self.members = {
            name: Member(node, folder / "nodes", connect, shape.seed)
            for name, node in self.cluster.nodes.items()
        }
        self._order: Sequence[Member] = list(self.members.values())

    async def start(self) -> None:
        """Start every agent."""
        for member in self._order:
            await member.start()

    def address(self, first: str) -> None:
        """Give every agent an address for Prometheus: `first` (host:port), and the ports after it.

        Raises:
            ConfigError: there are not so many ports.

        """
        host, port = host_port(first)
        if port + len(self._order) > _PORTS:
            raise ConfigError(
                f"agents: {first}: there are no {len(self._order)} ports from there on"
            )
        for number, member in enumerate(self._order):
            member.address = (
                f"[{host}]:{port + number}" if ":" in host else f"{host}:{port + number}"
            )

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Let the agents that have an address answer Prometheus there.

        Raises:
            ConfigError: an address is taken.

        """
        async with contextlib.AsyncExitStack() as stack:
            for member in self._order:
                if member.address and member.agent is not None:
                    await stack.enter_async_context(listening(member.agent))
            yield

    async def second(self) -> None:
        """Let one second pass: every agent samples at its end, and some of them deliver."""
        until_ms = self.time.now_ms // SECOND_MS * SECOND_MS + SECOND_MS
        await self.until(until_ms)
        turn = until_ms // SECOND_MS
        for number, member in enumerate(self._order):
            await member.tick()
            if (turn + number) % (DELIVERY_MS // SECOND_MS) == 0:
                await member.deliver()

    async def until(self, at_ms: int) -> None:
        """Let jobs come and go until `at_ms`; marks are read at their own instant."""
        while self.cluster.next_ms <= at_ms:
            self.time.move_to(self.cluster.next_ms)
            await self.mark(self.cluster.step())
        self.time.move_to(at_ms)

    async def mark(self, names: Sequence[str]) -> None:
        """Prolog or epilog ran on these nodes: their agents look at once."""
        for name in dict.fromkeys(names):
            await self.members[name].tick(mark=True)

    async def settle(self) -> None:
        """Let every agent send what it has, twice: the second answer says what is committed."""
        for member in self._order:
            await member.deliver()

    async def close(self) -> None:
        """End every agent in order, its open windows committed and sent."""
        for member in self._order:
            if member.agent is not None:
                await member.tick(mark=True)
        await self.settle()
        for member in self._order:
            await member.close()

    def watts(self) -> float:
        """What the whole fleet draws now."""
        return sum(machine.power_mw(self.time.now_ms) for machine in self.machines) / 1000

    def forget_before(self, at_ms: int) -> None:
        """Free what was drawn before `at_ms`."""
        for machine in self.machines:
            machine.forget_before(at_ms)
