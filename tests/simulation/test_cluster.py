"""Jobs come and go deterministically, hold what they were given, and their truth adds up."""

from wattkeeper.simulation.clock import TrueTime, VirtualClock
from wattkeeper.simulation.cluster import Cluster
from wattkeeper.simulation.machine import CORES, SYSTEM, Machine
from wattkeeper.simulation.names import SimulatedScheduler

START = 1_790_000_000_000


def run(seconds: int, seed: int = 1, nodes: int = 8) -> tuple[Cluster, list[Machine], TrueTime]:
    """Let a cluster run."""
    time = TrueTime(START)
    machines = [Machine(f"n{i}", 8, VirtualClock(time, START), START, seed) for i in range(nodes)]
    cluster = Cluster(machines, seed, START)
    until = START + seconds * 1000
    while cluster.next_ms <= until:
        time.move_to(cluster.next_ms)
        cluster.step()
    time.move_to(until)
    return cluster, machines, time


def story(cluster: Cluster, at_ms: int) -> list[object]:
    """Everything that happened, with its true energy."""
    return [
        (job.plan.job_id, job.plan.kind, job.start_ms, sorted(job.measure(at_ms).items()))
        for job in cluster.jobs
    ]


def test_the_same_seed_tells_the_same_story() -> None:
    """Deterministic by seed, and only by seed."""
    one, _, time = run(400)
    again, _, _ = run(400)
    other, _, _ = run(400, seed=2)
    assert story(one, time.now_ms) == story(again, time.now_ms)
    assert story(one, time.now_ms) != story(other, time.now_ms)


def test_every_kind_of_job_runs_and_marks_fall_only_where_they_are_made() -> None:
    """Swinging training, jobs of two seconds, arrays, several nodes, shared GPUs, CPU jobs."""
    cluster, _, _ = run(3600, nodes=16)
    kinds = {job.plan.kind for job in cluster.jobs}
    assert kinds == {
        "short", "array", "training", "inference", "multi-node", "shared", "mig", "forgotten", "cpu"
    }  # fmt: skip
    assert any(job.plan.lasts_ms < 3000 for job in cluster.jobs)
    assert all(job.marked == (job.plan.partition in {"train", "shared"}) for job in cluster.jobs)
    several = [job for job in cluster.jobs if len(job.places) > 1]
    assert several
    assert all({job.plan.gpus} == {len(p.gpus) for p in job.places} for job in several)
    assert not cluster.nodes["n7"].jobs


def test_energy_of_exclusive_gpus_is_their_jobs_or_idle() -> None:
    """Σ true energy of the jobs on a GPU never exceeds what the GPU drew."""
    cluster, machines, time = run(1200)
    for machine in machines:
        for gpu in machine.gpus:
            used = sum(
                job.measure(time.now_ms).get((machine.name, gpu.name), 0) for job in cluster.jobs
            )
            drawn = gpu.chip.wave.energy_uj(time.now_ms)
            rest = drawn - used
            assert 0 <= rest <= 72_000 * 1_200_000


def test_resources_are_given_back_and_never_given_twice() -> None:
    """Free cores and GPU parts stay within what the node has; a dead node holds nothing."""
    cluster, machines, time = run(900)
    for node in cluster.nodes.values():
        assert 0 <= node.cores <= 2 * CORES
        assert all(0 <= left <= 1_000_000 for left in node.shards)
    name = "n0"
    assert cluster.nodes[name].jobs
    cluster.kill(name, time.now_ms)
    assert cluster.nodes[name].jobs == {}
    assert cluster.nodes[name].cores == 2 * CORES
    assert [gpu.chip.demands for gpu in machines[0].gpus if gpu.chip.demands] == []
    assert list(machines[0].sockets[0].chip.demands) == [SYSTEM]


async def test_the_scheduler_names_running_and_just_ended_jobs() -> None:
    """Array tasks are called by their array; ends are known once they happened."""
    cluster, _, time = run(600)
    scheduler = SimulatedScheduler(cluster, time)
    all_of_them = (await scheduler.ask(START)).workloads
    assert len(cluster.jobs) == len(all_of_them)
    recent = (await scheduler.ask(time.now_ms)).workloads
    assert {w.job_id for w in recent if w.end_ms is None} == {
        w.job_id for w in all_of_them if w.state == "running"
    }
    task = next(w for w in all_of_them if w.array)
    assert task.job_id.startswith(f"{task.array}_")
