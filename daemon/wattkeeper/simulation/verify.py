"""The verdict on a simulated run: residual, coverage, and every job's error against the truth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.job import Job as BookedJob
from wattkeeper.ledger.queries.job import JobFilter, jobs
from wattkeeper.ledger.runs import TOUCH_MS
from wattkeeper.ledger.store import Ledger
from wattkeeper.simulation.faults import AGENT_DOWN, Fault, Kind
from wattkeeper.simulation.figures import JobFigure, Summary, summarise, table
from wattkeeper.simulation.fleet import DELIVERY_MS
from wattkeeper.simulation.jobs import Job
from wattkeeper.simulation.machine import Machine
from wattkeeper.simulation.names import CLUSTER
from wattkeeper.simulation.truth import (
    EDGE_MS,
    LOST_MS,
    WINDOW_MS,
    Judge,
    booked_until,
    unmeasured,
)

_PERIOD_MS = 1_000
_ALL = 10_000_000
_TOUCHING = AGENT_DOWN | {Kind.GPU_SILENT}
"""Faults through which a job's edge may go unseen. All others must not show in any figure."""
_LOSING = frozenset({Kind.WIPED, Kind.CLONED})
"""With the agent's files goes its open window, and what was done since the last delivery."""

EXCLUSIVE_MARKED = "exclusive GPUs, marks"
EXCLUSIVE_UNMARKED = "exclusive GPUs, no marks"
MISSED_EPILOG = "exclusive GPUs, missed epilog"
SHARED = "shared GPU"
MIG = "MIG instance"
CPU = "CPU job"
UNTOLD = ", gone unasked"
"""The scheduler was not asked while it ran: nobody knows which GPUs it held."""
THROUGH = ", through a fault"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. `wrong`: every difference that is not excused, in words."""

    residual_uj: int
    coverage: float | None
    meters: int
    measured_uj: int
    gap_uj: int
    unmeasured_s: float
    summaries: list[Summary]
    figures: list[JobFigure]
    faults: int
    wrong: list[str] = field(default_factory=list)

    def report(self) -> str:
        """Return the figures as text."""
        energy = f"{self.meters} meters, {self.measured_uj / 3.6e12:.3f} kWh measured, "
        energy += f"{self.faults} faults (everything simulated)"
        books = f"residual {self.residual_uj} µJ; coverage {self.coverage or 0:.4%}; "
        books += f"{self.unmeasured_s:.0f} meter-seconds unmeasured; "
        books += f"gap {self.gap_uj / max(1, self.measured_uj):.4%} of the energy"
        lines = [
            energy,
            books,
            "",
            table(self.summaries),
            "",
            *(f"WRONG {line}" for line in self.wrong[:40]),
            f"{len(self.wrong)} differences between books and truth",
        ]
        return "\n".join(lines)


def verify(
    ledger: Ledger,
    machines: Sequence[Machine],
    ran: Sequence[Job],
    faults: Sequence[Fault],
    end_ms: int,
) -> Verdict:
    """Hold a ledger, to which everything up to `end_ms` was delivered, against the truth."""
    books = balance(ledger)
    ends = booked_until(ledger, machines)
    judge = Judge(machines, faults, unmeasured(ledger, machines), ends, end_ms)
    listed = jobs(ledger, JobFilter(cluster=CLUSTER, limit=_ALL))
    booked = {(job.raw_id, job.start_ms): job for job in listed}
    figures = [judge_job(job, booked, faults, end_ms) for job in comparable(ran, ends, end_ms)]
    figures = _with_siblings(figures)
    wrong = list(judge.differences(books.meters))
    return Verdict(
        residual_uj=books.residual_uj,
        coverage=books.coverage,
        meters=len(books.meters),
        measured_uj=books.total_uj,
        gap_uj=sum(row.gap_uj for row in books.meters),
        unmeasured_s=sum(row.unmeasured_seconds for row in books.meters),
        summaries=summarise(figures),
        figures=figures,
        faults=len(faults),
        wrong=wrong + [problem for problem in books.problems if problem not in "\n".join(wrong)],
    )


def comparable(
    ran: Sequence[Job], ends: Mapping[tuple[str, str], int], end_ms: int
) -> Iterator[Job]:
    """Yield the jobs that have ended, and the running ones that are booked up to the end."""
    for job in ran:
        meters = [
            (place.machine.name, device.name)
            for place in job.places
            for device in job.devices(place)
        ]
        if not job.running or all(ends.get(meter) == end_ms for meter in meters):
            yield job


def judge_job(
    job: Job,
    booked: Mapping[tuple[str, int | None], BookedJob],
    faults: Sequence[Fault],
    end_ms: int,
) -> JobFigure:
    """Return one job's error up to `end_ms`: on its GPUs if it has any, else on the sockets."""
    parts = ("gpu",) if job.plan.gpus else ("cpu", "dram")
    prefix = "gpu/" if job.plan.gpus else "cpu/"
    mine = booked.get((job.plan.job_id, job.start_ms))
    true, idle = job.measure(end_ms), job.measure_idle(end_ms)
    gpus = [name for name in true if name[1].startswith("gpu/")]
    return JobFigure(
        kind=classify(job, faults),
        job_id=job.plan.job_id,
        true_uj=sum(uj for (_, meter), uj in true.items() if meter.startswith(prefix)),
        booked_uj=sum(mine.energy_by_component_uj.get(part, 0) for part in parts) if mine else 0,
        within_uj=_period_uj(job, prefix, _edges(job) if job.marked else _turns(job)),
        seconds=(min(job.end_ms, end_ms) - job.start_ms) / 1000,
        true_idle_uj=sum(idle[name] for name in gpus),
        booked_idle_uj=mine.allocated_idle_uj if mine else 0,
        idle_within_uj=_period_uj(job, "gpu/", _turns(job)),
    )


def classify(job: Job, faults: Sequence[Fault]) -> str:
    """Name the class of a job; one whose edges or records a fault may have hidden is apart."""
    kind = _kind(job)
    nodes = {place.machine.name for place in job.places}
    for fault in faults:
        from_ms, until_ms = fault.at_ms - 2_000, fault.until_ms + 2_000
        if fault.kind in _LOSING:
            from_ms -= WINDOW_MS + DELIVERY_MS
        if abs(fault.step_ms) > TOUCH_MS and fault.node in nodes:
            # The births that this node reports no longer fit what the scheduler says.
            until_ms = job.start_ms
        elif fault.kind is Kind.AGGREGATOR_RESTORED:
            from_ms = fault.at_ms - fault.backup_ms - LOST_MS
        elif fault.kind not in _TOUCHING or fault.node not in nodes:
            continue
        if job.start_ms <= until_ms and job.end_ms >= from_ms:
            return kind + THROUGH
    return kind


def _with_siblings(figures: Sequence[JobFigure]) -> list[JobFigure]:
    """What a fault did to one run of a job may show in the others: they share an id."""
    touched = {figure.job_id for figure in figures if figure.kind.endswith(THROUGH)}
    return [
        figure
        if figure.job_id not in touched or figure.kind.endswith(THROUGH)
        else replace(figure, kind=figure.kind + THROUGH)
        for figure in figures
    ]


def _kind(job: Job) -> str:
    if not job.plan.gpus:
        return CPU
    if job.plan.shard_ppm:
        return MIG if job.plan.compute_ppm else SHARED
    if not job.marked:
        return EXCLUSIVE_UNMARKED if job.told else EXCLUSIVE_UNMARKED + UNTOLD
    return EXCLUSIVE_MARKED if job.epilog else MISSED_EPILOG


def _edges(job: Job) -> list[int]:
    return [job.start_ms] if job.running else [job.start_ms, job.end_ms]


def _turns(job: Job) -> list[int]:
    """Its edges, and when its processes began and ended to work: all that unmarked nodes see."""
    turns = [job.start_ms + ms for piece in job.plan.work_ms for ms in piece]
    return [*_edges(job), *(at_ms for at_ms in turns if at_ms < job.end_ms)]


def _period_uj(job: Job, prefix: str, edges: Sequence[int]) -> int:
    """What its devices drew within one sampling period after each of these instants."""
    total = 0
    for place in job.places:
        for device in job.devices(place):
            if device.name.startswith(prefix):
                wave = device.chip.wave
                for edge_ms in edges:
                    until_ms = edge_ms + _PERIOD_MS + EDGE_MS
                    total += wave.energy_uj(until_ms) - wave.energy_uj(edge_ms - EDGE_MS)
    return total
