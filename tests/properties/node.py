"""The node of a story: an agent put together as it puts itself together, on files and counters."""

from datetime import timedelta
from pathlib import Path

from tests.holders.jobs import STEPD, stepd, task
from tests.holders.machine import HZ, SCOPE, Machine
from tests.properties.fakes import BOOT_MS, ZERO_MS, Clock, Counters, Kubelet
from tests.properties.stories import CPU, DEVICES, GPUS, SLICES, Job, Told
from wattkeeper.agent import build
from wattkeeper.agent.config import AgentSettings, KubernetesSection, PathSection, SlurmSection
from wattkeeper.agent.runtime import Agent
from wattkeeper.agent.transport import Transport
from wattkeeper.holders import marks
from wattkeeper.holders.marks import Mark
from wattkeeper.holders.paths import KUBERNETES
from wattkeeper.holders.pod_wire import PluginDevice, PodDevices
from wattkeeper.metering.journal import Journal
from wattkeeper.model.clock import NS_PER_MS, NS_PER_S
from wattkeeper.model.meter import Component
from wattkeeper.sources.base import DeviceProcess

BOOT = "boot-1"
GRACE_MS = 4_000
"""How long an epilog may be late."""
STEP_MS = 2_000
"""Between two samples of the grid."""


class Node:
    """One node, and what is true of it. All times in ms since the story began.

    `looks`: when the agent looked, `scans`: when it saw the cgroups, `reads`: when it read each
    meter. `starts`: how many looks came before each start of the agent. `reloads`: when the GPUs'
    driver was. `drawn`: (from, to, mW) of each meter; `metered_uj`: what was read of it within
    one load of its driver.
    """

    def __init__(self, folder: Path, transport: Transport) -> None:
        self._folder, self._transport = folder, transport
        self._machine = Machine(folder)
        self.clock = self._machine.clock = Clock()
        self._machine.v2(0)
        stepd(self._machine)
        for name in ("data", "logs", "graves"):
            (folder / name).mkdir()
        self.gpus = Counters(self.clock, Component.GPU, GPUS)
        self._sources = (self.gpus, Counters(self.clock, Component.CPU, [CPU]))
        self.kubelet = Kubelet()
        self.looks: list[int] = []
        self.scans: list[int] = []
        self.starts: list[int] = []
        self.reloads: list[int] = []
        self.reads: dict[str, list[int]] = {meter: [] for meter in (*GPUS, CPU)}
        self.drawn: dict[str, list[tuple[int, int, int]]] = {meter: [] for meter in (*GPUS, CPU)}
        self.metered_uj = dict.fromkeys((*GPUS, CPU), 0)
        self._read: dict[str, tuple[int, int]] = {}
        self._spent_us: dict[str, int] = {}
        self._busy_us = 0
        self._unnoticed = False
        self.agent: Agent | None = None

    @property
    def now_ms(self) -> int:
        """Return the time."""
        return self.clock.now_ns // NS_PER_MS - BOOT_MS

    def start(self) -> Agent:
        """Start the agent on what its folder holds."""
        folder, machine = self._folder, self._machine
        settings = AgentSettings(
            data_dir=folder / "data", node="n1", cluster="c",
            sample_interval=timedelta(milliseconds=STEP_MS),
            path=PathSection(
                procfs=machine.procfs, cgroupfs=machine.cgroupfs, sysfs=folder / "sys"
            ),
            slurm=SlurmSection(epilog_grace=timedelta(milliseconds=GRACE_MS)),
            kubernetes=KubernetesSection(
                pod_resources=folder / "socket", pod_logs=folder / "logs"
            ),
        )  # fmt: skip
        journal = Journal(
            settings.data_dir, cluster="c", node="n1", max_bytes=1 << 28, durable=False
        )
        node = build.Node(settings, self.clock, BOOT, lambda: None, journal.memo)
        self._cgroups = node._cgroups
        self.agent = Agent(
            settings, self.clock, BOOT, self._sources, node.holders, journal, self._transport,
            node.memos, node.changed_hands, node.holders.fresh,
        )  # fmt: skip
        self.starts.append(len(self.looks))
        return self.agent

    async def kill(self) -> None:
        """End the agent: what it has not committed is gone."""
        if self.agent is not None:
            await self.agent.holders.close()
            self.agent.journal.close()
        self.agent = None

    def pass_time(self, until_ms: int) -> None:
        """Let time go by."""
        for source in self._sources:
            source.count(until_ms - self.now_ms)
            for meter, power_mw in source.power_mw.items():
                self.drawn[meter].append((self.now_ms, until_ms, power_mw))
        self.clock.now_ns = (BOOT_MS + until_ms) * NS_PER_MS

    def draw(self, watts: list[int]) -> None:
        """Draw other power from this reading on: between two of them it is taken to be flat."""
        for source in self._sources:
            for index, meter in enumerate(source.power_mw):
                if self.reads[meter] and self.reads[meter][-1] == self.now_ms:
                    source.power_mw[meter] = watts[index % len(watts)] * 1_000

    async def look(self, *, checkpoint: bool = False) -> None:
        """Let the agent, if there is one, read, look and book."""
        if self.agent is None:
            return
        if self._unnoticed:
            self._scan()
        self._spend()
        for source in self._sources:
            if not source.mute:
                self._note(source)
        self.looks.append(self.now_ms)
        self.scans.append(self.now_ms)
        await self.agent.tick(checkpoint=checkpoint)

    async def close_books(self) -> None:
        """Let the agent finish the windows that are open."""
        assert self.agent is not None
        for metered in self.agent.sampler.metered.values():
            metered.book.step_clock(metered.book.offset_ms)
        await self.agent.tick(checkpoint=True)

    def _note(self, source: Counters) -> None:
        for meter, raw_uj in source.raw_uj.items():
            self.reads[meter].append(self.now_ms)
            load, before_uj = self._read.get(meter, (0, 0))
            if load == source.load:
                self.metered_uj[meter] += raw_uj - before_uj
            self._read[meter] = source.load, raw_uj

    def _spend(self) -> None:
        """Let each job, and the machine, have spent processor time since the last look."""
        ms = self.now_ms - max(self.looks, default=0)
        for place in self._spent_us:
            self._spent_us[place] += 400 * ms
            self._machine.job(place, self._spent_us[place])
        self._busy_us += 400 * ms * len(self._spent_us) + 50 * ms
        self._machine.v2(self._busy_us)

    def _scan(self) -> None:
        """Notice what came and went among the cgroups."""
        self._unnoticed = False
        if self.agent is not None and self.starts[-1] < len(self.looks):
            self._cgroups._rescan(None)
            self.scans.append(self.now_ms)

    def do(self, kind: str, job: Job, number: int) -> None:
        """Let one thing happen to a job."""
        match kind:
            case "start" | "end":
                self._mark(kind, job)
            case "born" | "died":
                self._born(job, number) if kind == "born" else self._died(job, number)
                self._unnoticed = True
                if job.seen:
                    self._scan()
            case "shown":
                self._shown(job, number)
            case "works":
                strays = () if job.strays is None else (job.strays,)
                self._run(2_000 + number, f"/{_cgroup(job)}", {*job.devices, *strays})
            case "checks":
                self._run(3_000 + number, "/system.slice/slurmd.service", {*job.devices})
            case "rests" | "checked":
                pid = number + (2_000 if kind == "rests" else 3_000)
                for found in self.gpus.processes_on.values():
                    found[:] = [process for process in found if process.pid != pid]

    def _mark(self, kind: str, job: Job) -> None:
        told: Told | None = getattr(job, kind)
        assert told is not None
        marks.write(
            self._folder / "data" / marks.SPOOL,
            Mark(
                "start" if kind == "start" else "end", job.manager, job.raw_id, ZERO_MS + told.at,
                (BOOT_MS + told.at) * NS_PER_MS, BOOT, gpus=job.devices, shared=job.in_turns,
                labels={"job_id": job.raw_id, "restart_count": str(job.restarts)},
            ),
        )  # fmt: skip

    def _born(self, job: Job, number: int) -> None:
        self._spent_us[_cgroup(job)] = 0
        self._machine.job(_cgroup(job), 0)
        if job.manager == KUBERNETES:
            (self._folder / f"logs/ns_p{number}_{job.raw_id}").mkdir()

    def _died(self, job: Job, number: int) -> None:
        del self._spent_us[_cgroup(job)]
        # Kept aside: no cgroup is given the inode of another.
        (self._machine.cgroupfs / _cgroup(job)).rename(self._folder / f"graves/{number}")

    def _shown(self, job: Job, number: int) -> None:
        if job.manager == KUBERNETES:
            turn = f"::{number}" if job.in_turns else ""
            ids = [DEVICES[index].uuid + turn for index in job.devices]
            given = tuple(PluginDevice("nvidia.com/gpu", one) for one in ids)
            self.kubelet.pods[f"p{number}"] = PodDevices("ns", f"p{number}", ("main",), given)
            return
        environ = {"SLURM_JOB_ID": job.raw_id}
        environ["SLURM_STEP_GPUS"] = ",".join(map(str, job.devices))
        if job.in_turns:
            environ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = "50"
        place = self._machine.cgroupfs / _cgroup(job) / "step_0"
        task(self._machine, place, 1_000 + number, self._started_s(), STEPD, **environ)

    def _run(self, pid: int, cgroup: str, indices: set[int]) -> None:
        """Let a process come to some devices."""
        self._machine.process(pid, self._started_s(), cgroup)
        for device in (DEVICES[index] for index in indices):
            part = device.uuid if device.uuid in SLICES else None
            found = self.gpus.processes_on.setdefault(device.meter, [])
            found.append(DeviceProcess(pid, 400_000, part))

    def _started_s(self) -> float:
        """Return when a process that starts now has started, in whole ticks."""
        return -(-self.clock.now_ns * HZ // NS_PER_S) / HZ


def _cgroup(job: Job) -> str:
    if job.manager == KUBERNETES:
        return f"kubepods.slice/kubepods-pod{job.raw_id.replace('-', '_')}.slice"
    return f"{SCOPE}/job_{job.raw_id}"
