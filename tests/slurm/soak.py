"""An opt-in soak: random jobs on the Slurm cluster while programs are killed, then the reckoning.

`python -m tests.slurm.soak [--jobs N] [--minutes M] [--seed S]` (as root) prints what every job
was booked against what its GPUs drew.
"""

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.programs import until
from tests.fake_nvml.library import compile_library
from tests.slurm.cluster import Cluster, end_at_sigterm, missing
from tests.slurm.edges import Stay, Truth, since_granted, stays, truth
from tests.slurm.files import CLUSTER, GPUS, Node
from tests.slurm.gpus import Gpus
from tests.slurm.metering import Metering
from tests.slurm.records import starts_ns

# Other names than those of the tests, so that both may run at once.
NODES = (Node("s1"), Node("s2"), Node("s3"), Node("s4", marks=False))
USERS = ("ada", "bob", "eve")
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Reckoning:
    """One run of a job: what it was booked, and what is true.

    `disturbed`: its node's agent was away at one of its edges, so that what is split there is by
    the clock, not by the counter.
    """

    job: int
    booked_uj: int
    true: Truth
    disturbed: bool

    @property
    def error(self) -> float:
        """How far the booked energy lies outside of the truth, as a share of it."""
        outside = max(self.true.least_uj - self.booked_uj, self.booked_uj - self.true.most_uj, 0)
        return outside / self.true.most_uj


@dataclass
class Soak:
    """Jobs and mishaps by chance, and the times at which agents were away."""

    cluster: Cluster
    metering: Metering
    chance: random.Random
    numbers: list[int] = field(default_factory=list)
    away: list[tuple[str, int, int]] = field(default_factory=list)

    def run(self, jobs: int, seconds: float) -> None:
        """Submit so many jobs in so many seconds, with a mishap every quarter of a minute."""
        began = time.monotonic()
        mishap_s = 10.0
        for number in range(jobs):
            due_s = seconds * number / jobs
            while time.monotonic() - began < due_s:
                time.sleep(0.05)
                if time.monotonic() - began > mishap_s:
                    mishap_s += 15
                    self.chance.choice((self._agent, self._aggregator, self._slurmctld))()
            self._submit()
            if self.chance.random() < 0.1:
                self.cluster.run("scancel", str(self.chance.choice(self.numbers)), check=False)

    def _submit(self) -> None:
        user, watts = self.chance.choice(USERS), self.chance.randrange(50, 640)
        seconds = round(min(60, 1.5 + self.chance.expovariate(1 / 8)), 1)
        work = self.chance.choice(
            (f"work {watts} {seconds}", f"srun work {watts} {seconds}", f"sleep {seconds}")
        )
        where = self.chance.choice(
            (
                (f"--gpus={self.chance.randrange(1, GPUS + 1)}", "-N1"),
                ("--gpus=1", "-p", "bare"),
                ("-N2", "--gpus-per-node=1", "--ntasks-per-node=1"),
            )
        )
        self.numbers.append(self.cluster.submit(user, *where, work=work))

    def _agent(self) -> None:
        node = self.chance.choice(self.cluster.nodes).name
        from_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.metering.kill(node)
        time.sleep(self.chance.uniform(0, 5))
        self.metering.start_agent(node)
        until(f"{node} is metered", lambda: self.metering.ready(node))
        self.away.append((node, from_ns, time.clock_gettime_ns(time.CLOCK_BOOTTIME)))

    def _aggregator(self) -> None:
        self.metering.kill("aggregator")
        time.sleep(self.chance.uniform(0, 5))
        self.metering.start_aggregator()

    def _slurmctld(self) -> None:
        self.cluster.stop_slurmctld()
        time.sleep(self.chance.uniform(0, 10))
        self.cluster.bring_slurmctld_back()

    def disturbed(self, stay: Stay) -> bool:
        """Tell whether the node's agent was away at an edge of the stay."""
        edges = (stay.start.not_before_ns, stay.end.not_after_ns)
        return any(
            node == stay.node and from_ns - _SECOND_NS <= edge <= to_ns + _SECOND_NS
            for node, from_ns, to_ns in self.away
            for edge in edges
        )


def reckon(soak: Soak, gpus: Gpus) -> Iterator[Reckoning]:
    """Compare every job with the truth."""
    log = soak.cluster.folder / "log/edges"
    of_job: dict[int, list[Stay]] = {}
    for stay in since_granted(stays(log), starts_ns(soak.cluster, log)):
        of_job.setdefault(stay.job, []).append(stay)
    # Who starts before the nodes have registered with a new slurmctld has GPUs that nobody knows.
    known = {job: found for job, found in of_job.items() if all(stay.gpus for stay in found)}
    print(
        f"{len(of_job)} jobs ran, of {len(of_job) - len(known)} Slurm itself did not say the GPUs"
    )
    for number, found in sorted(known.items()):
        job = soak.metering.ask(f"/v1/jobs/{CLUSTER}/{number}")
        booked = int(job["energy_by_component_uj"]["gpu"]) if job else 0
        slack = _SECOND_NS if any(stay.node == NODES[-1].name for stay in found) else 0
        yield Reckoning(number, booked, truth(gpus, found, slack), any(map(soak.disturbed, found)))


def report(reckonings: list[Reckoning], balance: Any) -> bool:
    """Print what came out; tell whether all that can be exact is."""
    calm = [one for one in reckonings if not one.disturbed]
    for title, some in (("undisturbed", calm), ("agent away at an edge", reckonings)):
        chosen = [one for one in some if one.disturbed] if some is reckonings else some
        outside = [one for one in chosen if one.booked_uj not in one.true]
        errors = sorted(one.error for one in outside)
        worst = (
            f", worst {errors[-1]:.2%}, median {statistics.median(errors):.2%}" if errors else ""
        )
        print(f"{title}: {len(chosen)} jobs, {len(outside)} outside of the truth{worst}")
        for one in outside:
            print(f"  job {one.job}: {one.booked_uj / 1e6:.1f} J, true {one.true}")
    print(f"residual {balance['residual_uj']} µJ, problems {balance['problems']}")
    return balance["residual_uj"] == "0" and all(one.booked_uj in one.true for one in calm)


def _quiet(soak: Soak) -> Callable[[], bool]:
    last: list[object] = [None]

    def quiet() -> bool:
        alive = soak.cluster.run("squeue", "-h", check=False)
        jobs = (soak.metering.ask("/v1/jobs?limit=10000") or {"jobs": []})["jobs"]
        now = {(job["job_id"], job["run"]): (job["energy_uj"], job["state"]) for job in jobs}
        before, last[0] = last[0], now
        time.sleep(5)
        return not alive and now == before and len(now) > 0

    return quiet


def main() -> int:
    """Soak, and say what came out."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--jobs", type=int, default=200)
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--seed", type=int, default=20_261_123)
    options.add_argument("--keep", type=Path, help="where to put logs and ledger afterwards")
    chosen = options.parse_args()
    reason = missing()
    if reason:
        print(f"no Slurm cluster can be started: {reason}", file=sys.stderr)
        return 2
    end_at_sigterm()
    with Cluster(NODES) as cluster, tempfile.TemporaryDirectory() as library:
        gpus = Gpus(cluster.folder / "gpus", [node.name for node in NODES])
        metering = Metering(cluster, gpus, compile_library(Path(library)))
        try:
            metering.start()
            soak = Soak(cluster, metering, random.Random(chosen.seed))
            soak.run(chosen.jobs, chosen.minutes * 60)
            until("everything has settled", _quiet(soak), deadline_s=300)
            good = report(list(reckon(soak, gpus)), metering.ask("/v1/balance"))
        finally:
            metering.close()
            if chosen.keep:
                for name in ("log", "aggregator"):
                    shutil.copytree(cluster.folder / name, chosen.keep / name, dirs_exist_ok=True)
            gpus.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
