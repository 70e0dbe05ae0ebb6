"""How far metered energy is from the truth: figures per class of job, and a table of them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JobFigure:
    """One job: what it truly used and what the books say, in whole microjoules.

    `within_uj`: how far off it may be by one sampling period of power at each edge; without marks
    also where its processes begin or end to work. Of both figures, `true_idle_uj` and
    `booked_idle_uj` are allocated but idle; `idle_within_uj`: how far off that may be by one
    sampling period wherever its processes begin or end to work.
    """

    kind: str
    job_id: str
    true_uj: int
    booked_uj: int
    within_uj: int
    seconds: float
    true_idle_uj: int = 0
    booked_idle_uj: int = 0
    idle_within_uj: int = 0

    @property
    def error(self) -> float:
        """Relative error, by absolute value."""
        if not self.true_uj:
            return 0.0 if not self.booked_uj else math.inf
        return abs(self.booked_uj - self.true_uj) / self.true_uj


@dataclass(frozen=True, slots=True)
class Summary:
    """The errors of one class of jobs."""

    kind: str
    jobs: int
    median: float
    p95: float
    greatest: float
    beyond_period: int
    true_idle_uj: int
    booked_idle_uj: int
    idle_beyond: int


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value below which `part` of the values lie; the nearest one, never between."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def summarise(figures: Iterable[JobFigure]) -> list[Summary]:
    """Return median, 95th percentile and greatest error of each class, by its name."""
    by_kind: dict[str, list[JobFigure]] = {}
    for figure in figures:
        by_kind.setdefault(figure.kind, []).append(figure)
    return [
        Summary(
            kind,
            len(group),
            quantile([figure.error for figure in group], 0.5),
            quantile([figure.error for figure in group], 0.95),
            max(figure.error for figure in group),
            sum(1 for f in group if abs(f.booked_uj - f.true_uj) > f.within_uj),
            sum(f.true_idle_uj for f in group),
            sum(f.booked_idle_uj for f in group),
            sum(1 for f in group if abs(f.booked_idle_uj - f.true_idle_uj) > f.idle_within_uj),
        )
        for kind, group in sorted(by_kind.items())
    ]


def table(summaries: Sequence[Summary]) -> str:
    """Return the summaries as lines of text."""
    head = f"{'error of the energy of jobs':<42}{'jobs':>6}{'median':>10}{'p95':>10}{'max':>10}"
    lines = [head + f"{'> 1 period':>12}{'idle, kJ':>10}{'off by':>9}{'> 1 p.':>8}"]
    lines += [
        f"{s.kind:<42}{s.jobs:>6}{s.median:>10.3%}{s.p95:>10.3%}{s.greatest:>10.3%}"
        f"{s.beyond_period:>12}{s.true_idle_uj / 1e9:>10.1f}"
        f"{_off(s.booked_idle_uj, s.true_idle_uj):>9}{s.idle_beyond:>8}"
        for s in summaries
    ]
    return "\n".join(lines)


def _off(booked: int, true: int) -> str:
    return f"{(booked - true) / true:+.2%}" if true else "-"
