"""A simulated node speaks like hardware, through the real protocol of sources and holders."""

import itertools

from wattkeeper.model.holder import MAX_LABEL
from wattkeeper.model.state import State
from wattkeeper.simulation.clock import TrueTime, VirtualClock
from wattkeeper.simulation.cluster import Cluster
from wattkeeper.simulation.machine import RAPL_WRAP_UJ, Machine
from wattkeeper.simulation.sightings import Sightings
from wattkeeper.sources.simulated import SimulatedSource

START = 1_790_000_000_000


def make() -> tuple[Machine, TrueTime]:
    """Return a node and its time."""
    time = TrueTime(START)
    return Machine("n0", 8, VirtualClock(time, START - 5_000), START, 1), time


async def test_reads_every_meter_and_counts_what_was_drawn() -> None:
    """Eight GPUs, four RAPL domains and the host answer; the counter follows the truth."""
    machine, time = make()
    source = SimulatedSource(machine)
    await source.start()
    before = {reading.meter: reading for reading in await source.read(1.0)}
    time.move_to(START + 10_000)
    after = {reading.meter: reading for reading in await source.read(1.0)}
    assert [spec.info.name for spec in source.meters()] == list(after)
    assert len(after) == 13
    gpu = machine.gpus[0]
    advance = (after[gpu.name].energy_uj or 0) - (before[gpu.name].energy_uj or 0)
    assert abs(advance - 720_000_000) <= 72_000 * 100 + 1_000
    assert advance % 1_000 == 0
    assert after[gpu.name].boot_ns == 15_000_000_000
    assert after["host/dcmi"].energy_uj is None
    assert machine.power_mw(time.now_ms) == after["host/dcmi"].power_mw
    assert [finding.state for finding in source.findings()] == [State.OK]
    assert "simulated" in source.findings()[0].detail


async def test_a_silent_gpu_is_left_out_and_named() -> None:
    """One sick device never blinds the node."""
    machine, _ = make()
    source = SimulatedSource(machine)
    machine.gpus[3].answers = False
    meters = {reading.meter for reading in await source.read(1.0)}
    assert len(meters) == 12
    assert [machine.gpus[3].name] == [
        finding.subject for finding in source.findings() if finding.state is State.STALE
    ]


def test_a_package_wraps_within_minutes_under_load() -> None:
    """RAPL begins again at its range, as often as the load makes it."""
    machine, time = make()
    package = machine.sockets[0]
    values = []
    for second in range(1500):
        time.move_to(START + second * 1000)
        values.append(package.read(time.now_ms, 0).energy_uj or 0)
    wraps = sum(1 for a, b in itertools.pairwise(values) if b < a)
    assert 2 <= wraps <= 3
    assert max(values) < RAPL_WRAP_UJ


def test_a_driver_load_is_another_load_and_a_reboot_another_boot() -> None:
    """Counters begin again under another identity, also when they are past the old value."""
    machine, time = make()
    time.move_to(START + 60_000)
    old = machine.gpus[0].read(time.now_ms, 0).energy_uj or 0
    load = machine.gpus[0].spec.load
    machine.reload_driver(time.now_ms, 0, past_mj=old)
    assert load != machine.gpus[0].spec.load
    assert load == machine.gpus[1].spec.load
    time.move_to(START + 70_000)
    assert old < (machine.gpus[0].read(time.now_ms, 0).energy_uj or 0)
    boot = machine.boot
    machine.reboot(time.now_ms)
    assert boot != machine.boot
    assert machine.clock.boot_ns() == 0
    assert machine.sockets[0].read(time.now_ms, 0).energy_uj == 0


async def test_sightings_claim_what_jobs_hold() -> None:
    """Marked GPUs are allocated, others are claimed by processes; births survive the agent."""
    time = TrueTime(START)
    machines = [Machine(f"n{i}", 8, VirtualClock(time, START), START, 1) for i in range(4)]
    cluster = Cluster(machines, 1, START)
    births: dict[str, int] = {}
    views = {m.name: Sightings(cluster.nodes[m.name], births) for m in machines}
    while cluster.next_ms <= START + 60_000:
        time.move_to(cluster.next_ms)
        cluster.step()
    for machine in machines:
        node, view = cluster.nodes[machine.name], views[machine.name]
        await view.look()
        held = {
            (machine.gpus[index].name, job.plan.job_id)
            for job in node.jobs.values()
            if node.marked or job.busy(time.now_ms)
            for index in job.places[0].gpus
        }
        claimed = {
            (meter, claim.holder.raw_id)
            for meter, claims in view.claims().items()
            if meter.startswith("gpu/")
            for claim in claims
            if claim.holder is not None and claim.allocated == node.marked
        }
        assert held == claimed
        cpu = view.claims()["cpu/*"]
        assert {job.plan.job_id for job in node.jobs.values()} <= {
            claim.holder.raw_id for claim in cpu if claim.holder is not None
        }
        system = [claim.weight for claim in cpu if claim.holder is None]
        assert [(time.now_ms - START) * 1_400] == system
        again = Sightings(node, births)
        await again.look()
        assert view.infos().keys() >= again.infos().keys()
        assert all(len(v) <= MAX_LABEL for i in again.infos().values() for v in i.labels.values())
