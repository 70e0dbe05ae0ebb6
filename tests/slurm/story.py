"""What happens on the cluster: every kind of job that has to be accounted for, in a minute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.programs import until
from tests.slurm.cluster import Cluster
from tests.slurm.edges import Stay, held_s, since_granted, stays
from tests.slurm.metering import Metering
from tests.slurm.records import starts_ns

ARRAY = 20
_OVER = frozenset({"COMPLETED", "CANCELLED", "FAILED"})


def _twice(watts: int) -> str:
    """Return the work of a job that would not end soon, but for its second run."""
    return f"work {watts} $((SLURM_RESTART_COUNT ? 4 : 60))"


@dataclass(frozen=True, slots=True)
class Job:
    """A job, array or task of one: what people call it, and Slurm's own number of it."""

    id: str
    number: int
    user: str


@dataclass
class Story:
    """Tells Slurm what to run, and does to it and to the programs what happens in a fleet."""

    cluster: Cluster
    metering: Metering
    jobs: dict[str, Job] = field(default_factory=dict)
    starts_ns: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def happen(self) -> None:
        """Live through all of it, until the last epilog has run."""
        self._side_by_side()
        self._await_over("exclusive", "left", "right")
        self._in_many_places()
        self._await_over(*self.jobs)
        self._outages()
        self._await_over(*self.jobs)
        self.starts_ns = starts_ns(self.cluster, self._edges)

    def stays(self, *jobs: Job) -> list[Stay]:
        """Return where jobs were and when: one stay per node and run."""
        numbers = {job.number for job in jobs}
        ended = [stay for stay in stays(self._edges) if stay.job in numbers]
        return since_granted(ended, self.starts_ns)

    def tasks(self, name: str) -> list[Job]:
        """Return the tasks of an array; each has a number of its own, the last the array's."""
        array = self.jobs[name]
        lines = self.cluster.run("squeue", "-h", "-r", "-t", "all", "-o", "%F %A %K").splitlines()
        of_array = [line.split() for line in lines if line.startswith(f"{array.number} ")]
        return [Job(f"{array.id}_{task}", int(own), array.user) for _, own, task in of_array]

    def _side_by_side(self) -> None:
        """Fill n1 and n2 with jobs, n3 with some of which two do not go as planned."""
        whole = ("-w", "n1", "--exclusive", "--gpus-per-node=4")
        self._submit("exclusive", "ada", *whole, work="work 300 5")
        self._submit("left", "bob", "-w", "n2", "--gpus=2", work="work 250 7")
        self._submit("right", "ada", "-w", "n2", "--gpus=2", work="work 400 5")
        self._submit("idle", "bob", "-w", "n3", "--gpus=1", work="sleep 5")
        self._submit("short", "bob", "-w", "n3", "--gpus=1", work="work 500 2")
        self._submit("cancelled", "eve", "-w", "n3", "--gpus=1", work="work 300 600")
        self._submit("requeued", "bob", "-w", "n3", "--gpus=1", "--requeue", work=_twice(350))
        bare = ("-p", "bare")
        self._submit("bare", "ada", *bare, "--gpus=2", work="work 300 8")
        self._submit("bare_step", "bob", *bare, "--gpus=1", work="srun work 200 8")
        self._submit("bare_idle", "eve", *bare, "--gpus=1", work="sleep 8")
        self._await_held(3.0, "cancelled", "requeued")
        self.cluster.run("scancel", self.jobs["cancelled"].id, user="eve")
        again = self._requeue("requeued")
        until("it waits to run again", lambda: self._state(again) == "PENDING")
        self.cluster.run("scontrol", "update", f"jobid={again}", "reqnodelist=n2")

    def _in_many_places(self) -> None:
        """Run a job on two nodes at once, one twice on one, and an array where there is room."""
        two_nodes = ("-N2", "-w", "n1,n2", "--gpus-per-node=2", "--ntasks-per-node=1")
        self._submit("two_nodes", "ada", *two_nodes, work="srun work 350 5")
        # slurmd knows a job for two minutes and lets its second run begin without a prolog.
        self._submit("requeued_here", "bob", "-w", "n3", "--gpus=1", "--requeue", work=_twice(300))
        self._submit("array", "eve", f"--array=0-{ARRAY - 1}", "--gpus=1", work="work 200 2")
        self._await_held(2.0, "requeued_here")
        self._requeue("requeued_here")

    def _outages(self) -> None:
        """Kill an agent under one job, and slurmctld under another that ends meanwhile."""
        done = self.cluster.folder / "out/done"
        self._submit("agent_killed", "bob", "-w", "n3", "--gpus=2", work="work 400 9")
        self._submit("no_slurmctld", "ada", "-w", "n1", "--gpus=2", work=f"work 300 4; >{done}")
        self._await_held(2.0, "agent_killed", "no_slurmctld")
        self.metering.kill("n3")
        self.cluster.stop_slurmctld()
        # It holds its GPUs until slurmctld is back and lets the epilog run.
        until("a job ends without slurmctld", done.exists)
        self.metering.start_agent("n3")
        self.cluster.bring_slurmctld_back()

    def _submit(self, name: str, user: str, *args: str, work: str) -> None:
        number = self.cluster.submit(user, f"--job-name={name}", *args, work=work)
        self.jobs[name] = Job(str(number), number, user)

    def _await_held(self, seconds: float, *names: str) -> None:
        numbers = [self.jobs[name].number for name in names]
        what = f"{', '.join(names)} run for {seconds} s"
        until(what, lambda: all(held_s(self._edges, number) > seconds for number in numbers))

    def _requeue(self, name: str) -> str:
        """Requeue a job once slurmdbd has heard of it; sooner, it forgets the run's start."""
        number = self.jobs[name].id
        ask = ("sacct", "-nXP", "-j", number, "-o", "JobName,State")
        until(f"{name} is on record", lambda: self.cluster.run(*ask) == f"{name}|RUNNING")
        self.cluster.run("scontrol", "requeue", number)
        return number

    def _state(self, number: str) -> str:
        return self.cluster.run("squeue", "-h", "-t", "all", "-o", "%T", "-j", number)

    def _await_over(self, *names: str) -> None:
        numbers = {str(self.jobs[name].number) for name in names}

        def over() -> bool:
            lines = self.cluster.run("squeue", "-h", "-r", "-t", "all", "-o", "%F %T", check=False)
            states = [line.split() for line in lines.splitlines()]
            ended = {number for number, state in states if state in _OVER}
            alive = {number for number, state in states if state not in _OVER}
            return numbers <= ended - alive

        until(f"{', '.join(names)} have ended", over, deadline_s=90)

    @property
    def _edges(self) -> Path:
        return self.cluster.folder / "log/edges"
