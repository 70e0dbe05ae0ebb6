"""What people ask of history, in the words of the API, and what that is in a store's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from wattkeeper.aggregator.endpoint import Query
from wattkeeper.aggregator.groups import is_group, kind_of
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.ledger.queries import holders
from wattkeeper.model.holder import Account
from wattkeeper.telemetry.base import ADDITIVE, METER_LABELS, Aggregation, Metric

STORED = {
    **{name: name for name in METER_LABELS},
    "payer": "account",
    "manager": "manager",
    "workload": "workload",
}
"""Dimensions that a store knows, by their names in the API, where `account` is a job's."""
PAYERS = ("workload", *(account.name.lower() for account in Account))
GROUP = "group:"
MOST_SERIES = 200_000
"""Series that can be asked for at once."""


def _listed(value: Any) -> Any:
    """Take lists apart at their commas, but not at those in brackets: `n[1,3],n7`."""
    texts = value if isinstance(value, list | tuple) else [value]
    found = []
    for text in texts:
        depth, begin = 0, 0
        for at, char in enumerate(f"{text},"):
            depth += (char == "[") - (char == "]")
            if char == "," and (depth <= 0 or at == len(text)):
                found.append(text[begin:at].strip())
                begin = at + 1
    return tuple(word for word in found if word)


Values = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""Several values, separated by commas or as a parameter that is given again."""


class TelemetryQuery(Query):
    """Which history. Filters take several values, any of which is wanted."""

    metric: Metric = Field(description="what was metered")
    by: Values = Field(
        (),
        description=f"one series for each value of {', '.join((*STORED, *holders.DIMENSIONS))}, "
        "group:KIND",
    )
    since: str | None = Field(None, description="2026-11-23T20:15:00Z, -24h; 24 hours before until")
    until: str | None = Field(None, description="the same way; now")
    step: str | None = Field(None, description="10s, 5m, 1h, 1d; what suits the time")
    aggregation: Aggregation | None = Field(
        None,
        description="how the meters of a series become one: sum of power, energy and memory, "
        "max of temperatures, mean of the rest",
    )
    limit: int = Field(100, ge=1, le=MOST_SERIES, description="series at most, the greatest")
    cluster: Values = Field((), description="of these clusters")
    node: Values = Field((), description="of these nodes: n1,n2 or gpu[001-018]")
    meter: Values = Field((), description="of these meters: gpu/GPU-5c1f…, cpu/0/package")
    component: Values = Field((), description="gpu, cpu, dram or host")
    device: Values = Field((), description="of GPUs with these UUIDs, of these sockets")
    gpu: Values = Field((), description="of GPUs with these indices")
    model: Values = Field((), description="of these models")
    payer: Values = Field((), description=f"of these parts of the energy: {', '.join(PAYERS)}")
    manager: Values = Field((), description="slurm, kubernetes, simulated")
    workload: Values = Field((), description="of these ids by which nodes call a job")
    user: Values = Field((), description="of jobs of these users")
    account: Values = Field((), description="of jobs of these accounts")
    partition: Values = Field((), description="of jobs in these partitions")
    namespace: Values = Field((), description="of pods in these namespaces")
    job: Values = Field((), description="of these jobs: 123, 123_[0-99], 100-180")
    group: Values = Field((), description="of nodes in these groups: rack:r12")


@dataclass(frozen=True, slots=True)
class By:
    """Dimensions of an answer's series: those of a store, of the ledger, and groups of nodes."""

    names: tuple[str, ...]

    @property
    def of_ledger(self) -> tuple[str, ...]:
        """Those that only the ledger knows."""
        return tuple(name for name in self.names if name in holders.DIMENSIONS)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of groups of nodes."""
        return tuple(name.removeprefix(GROUP) for name in self.names if name.startswith(GROUP))

    @property
    def of_store(self) -> tuple[str, ...]:
        """Those that a store knows, as it calls them."""
        return tuple(STORED[name] for name in self.names if name in STORED)


def dimensions(names: Iterable[str], kinds: Sequence[str]) -> By:
    """Return the dimensions that are asked for.

    Who pays is told wherever jobs are: what is nobody's is not a job whose user is not known.

    Raises:
        ProblemError: a dimension that does not exist; says which do.

    """
    found: dict[str, None] = {}
    for name in names:
        if is_group(name):
            try:
                found[f"{GROUP}{kind_of(name, kinds)}"] = None
            except ValueError as error:
                raise ProblemError(400, "bad-parameter", f"by: {error}", "by") from error
        elif name in STORED or name in holders.DIMENSIONS:
            found[name] = None
        else:
            known = ", ".join((*STORED, *holders.DIMENSIONS))
            detail = f"by: {name[:80]!r} is none of {known}, group:KIND"
            raise ProblemError(400, "bad-parameter", detail, "by")
    asked = By(tuple(found))
    return By((*asked.names, "payer")) if asked.of_ledger and "payer" not in found else asked


def usual(metric: Metric) -> Aggregation:
    """Return how the meters of a series become one where nothing else is asked for."""
    if metric in ADDITIVE or metric is Metric.MEMORY:
        return Aggregation.SUM
    return Aggregation.MAX if metric is Metric.TEMPERATURE else Aggregation.MEAN
