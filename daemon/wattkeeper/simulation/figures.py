"""How far metered energy is from the truth: figures per class of job, and a table of them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JobFigure:
    """One job: what it truly used and what the books say, in whole microjoules.

    `within_uj`: how far off it may be by one sampling period of power at each edge.
    """

    kind: str
    job_id: str
    true_uj: int
    booked_uj: int
    within_uj: int
    seconds: float

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
        )
        for kind, group in sorted(by_kind.items())
    ]


def table(summaries: Sequence[Summary]) -> str:
    """Return the summaries as lines of text."""
    head = f"{'error of the energy of jobs':<34}{'jobs':>6}{'median':>10}{'p95':>10}{'max':>10}"
    lines = [head + f"{'> 1 period':>12}"]
    lines += [
        f"{s.kind:<34}{s.jobs:>6}{s.median:>10.3%}{s.p95:>10.3%}{s.greatest:>10.3%}"
        f"{s.beyond_period:>12}"
        for s in summaries
    ]
    return "\n".join(lines)
