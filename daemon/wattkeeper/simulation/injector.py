"""Brings a schedule of faults about: each begins, and each is over in the end."""

import heapq
from collections.abc import Mapping, Sequence
from random import Random

from wattkeeper.simulation.centre import Centre
from wattkeeper.simulation.cluster import Cluster
from wattkeeper.simulation.faults import AGENT_DOWN, Fault, Kind
from wattkeeper.simulation.member import Member
from wattkeeper.simulation.names import SimulatedScheduler


class Injector:
    """Faults in the order of time. `log` says in words what has happened so far."""

    def __init__(
        self,
        faults: Sequence[Fault],
        members: Mapping[str, Member],
        cluster: Cluster,
        centre: Centre,
        scheduler: SimulatedScheduler,
        seed: int,
    ) -> None:
        self._members = members
        self._cluster = cluster
        self._centre = centre
        self._scheduler = scheduler
        self._random = Random(f"{seed}/injector")
        self._due: list[tuple[int, int, Fault, bool]] = []
        self.log: list[tuple[int, str]] = []
        for number, fault in enumerate(faults):
            heapq.heappush(self._due, (fault.at_ms, number, fault, True))
            heapq.heappush(self._due, (fault.until_ms, number + len(faults), fault, False))
            if fault.kind is Kind.AGGREGATOR_RESTORED:
                self._backups_due(fault, number)

    @property
    def next_ms(self) -> int:
        """Instant of the next beginning or end of a fault."""
        return self._due[0][0] if self._due else 1 << 62

    async def step(self) -> list[str]:
        """Bring about what is due next; returns nodes on which marks were made by it."""
        at_ms, _, fault, begins = heapq.heappop(self._due)
        if not begins:
            return await self._end(fault)
        self.log.append((at_ms, fault.describe()))
        if fault.kind in AGENT_DOWN:
            return await self._take_agent_down(fault)
        self._break(fault)
        return []

    def _backups_due(self, fault: Fault, number: int) -> None:
        """The copy that is restored was made some time before."""
        at_ms = fault.at_ms - fault.backup_ms
        early = Fault(at_ms, at_ms, Kind.BACKED_UP)
        heapq.heappush(self._due, (early.at_ms, -number - 1, early, True))

    async def _take_agent_down(self, fault: Fault) -> list[str]:
        member, machine = self._members[fault.node], self._cluster.nodes[fault.node].machine
        await member.kill()
        if fault.kind is Kind.TORN_TAIL:
            member.tear(self._random.randint(1, 9_000))
        elif fault.kind is Kind.WIPED:
            member.wipe()
        elif fault.kind is Kind.CLONED:
            others = [m for m in self._members.values() if m.alive and m is not member]
            member.become_clone_of(self._random.choice(others))
        elif fault.kind in {Kind.RELOADED, Kind.RELOADED_PAST}:
            for gpu, device in enumerate(machine.gpus):
                past_mj = 0
                if fault.kind is Kind.RELOADED_PAST:
                    past_mj = device.counter.read_uj(fault.at_ms) // 1000 + 5_000_000
                machine.reload_driver(fault.at_ms, gpu, past_mj=past_mj)
        elif fault.kind is Kind.REBOOTED:
            return self._cluster.kill(fault.node, fault.at_ms)
        return []

    def _break(self, fault: Fault) -> None:
        member = self._members.get(fault.node)
        match fault.kind, member:
            case Kind.NETWORK_CUT, Member():
                member.reachable = False
            case Kind.CLOCK_STEP, Member():
                member.machine.clock.step(fault.step_ms)
            case Kind.DISK_FULL, Member():
                member.fill_disk()
            case Kind.GPU_SILENT, Member():
                self._random.choice(member.machine.gpus).answers = False
            case Kind.BACKED_UP, _:
                self._centre.back_up()
            case Kind.AGGREGATOR_KILLED, _:
                self._centre.kill()
            case Kind.AGGREGATOR_RESTORED, _:
                self._centre.restore()
            case Kind.SCHEDULER_DOWN, _:
                self._scheduler.down, self._cluster.placing = True, False

    async def _end(self, fault: Fault) -> list[str]:
        member = self._members.get(fault.node)
        if fault.kind in {Kind.AGGREGATOR_KILLED, Kind.AGGREGATOR_RESTORED}:
            self._centre.start()
        if fault.kind is Kind.SCHEDULER_DOWN:
            self._scheduler.down = False
            return self._cluster.resume(fault.until_ms)
        if member is None:
            return []
        if fault.kind is Kind.REBOOTED:
            member.machine.reboot(fault.until_ms)
            self._cluster.restore(fault.node)
        if fault.kind in AGENT_DOWN:
            await member.start()
        elif fault.kind is Kind.NETWORK_CUT:
            member.reachable = True
        elif fault.kind is Kind.DISK_FULL:
            member.free_disk()
        elif fault.kind is Kind.GPU_SILENT:
            for device in member.machine.gpus:
                device.answers = True
        return []
