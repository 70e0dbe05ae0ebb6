"""What a simulated node sees of its jobs: cgroups at every look, marks where there are marks."""

from collections.abc import Iterator, Mapping, Sequence

from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.state import Finding, State
from wattkeeper.simulation.cluster import Node
from wattkeeper.simulation.jobs import Job, Place
from wattkeeper.simulation.machine import SYSTEM_MCORES

MANAGER = "simulated"
_CPU = "cpu/*"


class Sightings:
    """The holders of one simulated node, as cgroups, marks and process lists would tell of them.

    `births` outlives the agent, as cgroups and the spool of marks do: a job that the next agent
    finds is the same holder.
    """

    name = MANAGER

    def __init__(self, node: Node, births: dict[str, int]) -> None:
        self._node = node
        self._births = births
        self._looked_ms = node.machine.clock.true_ms()
        self._claims: dict[str, Sequence[Claim]] = {}
        self._infos: dict[HolderKey, HolderInfo] = {}
        self._seen: dict[str, Job] = {}
        self._keys: dict[str, HolderKey] = {}
        self._known: dict[str, HolderInfo] = {}

    async def look(self) -> None:
        """See who is there now, and what CPU time each used since the last look."""
        machine = self._node.machine
        since_ms, self._looked_ms = self._looked_ms, machine.clock.true_ms()
        jobs = self._node.jobs
        late = {job.key: job for job in self._node.lingering(self._looked_ms)}
        gone = {key: job for key, job in self._seen.items() if key not in jobs and job.marked}
        gone |= late
        self._infos = {self._key(job): self._info(job) for job in (*jobs.values(), *gone.values())}
        claims: dict[str, list[Claim]] = {}
        for job, place in self._places(jobs):
            if job.marked or job.busy(self._looked_ms):
                for index in place.gpus:
                    claims.setdefault(machine.gpus[index].name, []).append(self._on_gpu(job))
        for job, place in self._places(late):
            for index in place.gpus:
                # Without an epilog it is over when the next owner comes.
                claims.setdefault(machine.gpus[index].name, [self._on_gpu(job)])
        claims[_CPU] = [
            *(self._on_cpu(job, place, since_ms) for job, place in self._places(jobs | gone)),
            Claim(None, weight=(self._looked_ms - since_ms) * SYSTEM_MCORES),
        ]
        self._claims = dict(claims)
        for key in self._seen.keys() - jobs.keys() - late.keys():
            del self._keys[key], self._known[key]
        self._seen = jobs | late

    def claims(self) -> Mapping[str, Sequence[Claim]]:
        """Return the claims as of the last look."""
        return self._claims

    def infos(self) -> Mapping[HolderKey, HolderInfo]:
        """Return who the holders in `claims` are; only marks bring names."""
        return self._infos

    def findings(self) -> Sequence[Finding]:
        """Return that this is a simulation, and how edges are learned."""
        how = "marks" if self._node.marked else "cgroups"
        detail = f"simulated {how}: {len(self._node.jobs)} jobs on this node"
        return [Finding(self.name, State.OK, detail)]

    async def close(self) -> None:
        """Nothing to stop watching."""

    def _places(self, jobs: Mapping[str, Job]) -> Iterator[tuple[Job, Place]]:
        for job in jobs.values():
            for place in job.places:
                if place.machine is self._node.machine:
                    yield job, place

    def _on_gpu(self, job: Job) -> Claim:
        plan = job.plan
        if not plan.shard_ppm:
            return Claim(self._key(job), allocated=job.marked)
        return Claim(
            self._key(job),
            weight=self._activity(job),
            reserved_ppm=plan.shard_ppm,
            compute_ppm=plan.compute_ppm or None,
            allocated=job.marked,
        )

    def _activity(self, job: Job) -> int | None:
        """Tell what a part of a GPU does; of a MIG instance only whether a process is on it."""
        if not job.busy(self._looked_ms):
            return 0
        return None if job.plan.compute_ppm else job.plan.gpu_power.mean_mw

    def _on_cpu(self, job: Job, place: Place, since_ms: int) -> Claim:
        busy_ms = job.busy_ms(since_ms, self._looked_ms)
        return Claim(
            self._key(job),
            weight=busy_ms * job.plan.cores * 1000,
            reserved_ppm=job.cpu_ppm(place),
            allocated=job.marked,
        )

    def _key(self, job: Job) -> HolderKey:
        key = self._keys.get(job.key)
        if key is None:
            born_ms = job.start_ms + self._node.machine.clock.offset_ms
            birth_ms = self._births.setdefault(job.key, born_ms)
            key = self._keys[job.key] = HolderKey(MANAGER, job.plan.job_id, birth_ms)
        return key

    def _info(self, job: Job) -> HolderInfo:
        info = self._known.get(job.key)
        if info is None:
            plan, key = job.plan, self._key(job)
            labels = {"job_id": plan.job_id}
            if job.marked:
                labels |= {"user": plan.user, "account": plan.account, "partition": plan.partition}
                labels |= {"restart_count": str(plan.requeued)}
            info = self._known[job.key] = HolderInfo(key.manager, key.raw_id, key.birth_ms, labels)
        return info
