"""What a time-series store is: rows in, series out."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from wattkeeper.model.state import Finding
from wattkeeper.model.window import Stats


class TelemetryError(Exception):
    """The store does not take or give rows now. The message says why and what to do."""


class Place(NamedTuple):
    """A meter as rows name it. Texts that are not known are empty.

    `meter` is `gpu/<UUID>`, `cpu/<socket>/<domain>` or `host/<meter>`, `component` its first part
    or `dram`; `device` is the GPU's UUID, else what follows the component; `gpu` the GPU's index
    in PCI order; `source` the sensor that reads it.
    """

    cluster: str
    node: str
    meter: str
    component: str
    device: str
    gpu: str
    model: str
    source: str


class Part(msgspec.Struct, frozen=True, gc=False):
    """The part of one holder, or account, in a row.

    `account` is `workload`, or one of the accounts that are nobody's (`idle`, `system`,
    `overhead`, `gap`, `components`, `other`), whose `manager` and `workload` are empty and whose
    `birth_ms` is 0. `from_ms`, `to_ms`: when it held the meter, in milliseconds from the row's
    start. `idle_uj`: the part of `uj` in which the meter was allocated to it and nothing of it ran.
    """

    account: str
    manager: str
    workload: str
    birth_ms: int
    from_ms: int
    to_ms: int
    uj: int
    idle_uj: int


class Row(msgspec.Struct, frozen=True, gc=False):
    """One meter over one interval, which never crosses a line of five minutes.

    `start_ms`, `end_ms`: UTC; `covered_ms`: metered time; `uj`: exact energy, the sum of `parts`;
    `method`: `counter`, `integrated` or `estimated`; `recovered`: a stretch that nobody looked at.
    `parts` has at least one part unless `uj` and `covered_ms` are 0.
    """

    place: Place
    start_ms: int
    end_ms: int
    covered_ms: int
    uj: int
    method: str
    recovered: bool
    parts: Sequence[Part]
    stats: Stats | None


class Cursor(NamedTuple):
    """How far a journal was taken: number and chain value of its last record."""

    seq: int
    hash: bytes


class Metric(enum.StrEnum):
    """What can be asked of a store, in base units, and what a meter's value in a step is.

    POWER: watts, the energy of its rows over their metered time. POWER_PEAK: the greatest power
    sample. ENERGY: joules. IDLE_POWER: as POWER, of what is allocated but idle. TEMPERATURE
    (degrees Celsius), UTILIZATION (ratio), MEMORY (bytes), CLOCK (hertz): the mean of its rows'
    means; the least and the greatest instead where the aggregation is MIN and MAX. THROTTLED: the
    ratio of its metered time.
    """

    POWER = "power"
    POWER_PEAK = "power_peak"
    ENERGY = "energy"
    IDLE_POWER = "idle_power"
    TEMPERATURE = "temperature"
    UTILIZATION = "utilization"
    MEMORY = "memory"
    CLOCK = "clock"
    THROTTLED = "throttled"


ADDITIVE = frozenset({Metric.POWER, Metric.POWER_PEAK, Metric.ENERGY, Metric.IDLE_POWER})
"""Metrics that are summed over meters unless something else is asked for; MEMORY is as well."""

SHARED = frozenset({Metric.POWER, Metric.ENERGY, Metric.IDLE_POWER})
"""Metrics that holders have parts of."""


class Aggregation(enum.StrEnum):
    """How series of several meters become one in each step."""

    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"


METER_LABELS = ("cluster", "node", "meter", "component", "device", "gpu", "model")
"""Dimensions of a meter that a question may group and filter by."""
HOLDER_LABELS = ("account", "manager", "workload", "birth_ms")
"""Dimensions of a holder; `birth_ms` as decimal digits."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question to a store.

    `since_ms`, `until_ms`: UTC, multiples of `step_ms`, at most `MOST_STEPS` steps. A row belongs,
    whole, to the step that holds its last millisecond, `end_ms - 1`. In each step every meter has
    one value (see `Metric`); those of the meters of a group become one by the aggregation.

    `by`: labels of the answer's series, of METER_LABELS and HOLDER_LABELS. `where`: label -> the
    values that are wanted, any of them. `holders`: if not None, only these (manager, workload,
    birth_ms). A question that names a holder's label anywhere, or `holders`, is about parts: of
    SHARED metrics, each meter's value is that of the chosen parts, their power over the metered
    time of all the meter's rows in the step, so that parts sum to the meter; of other metrics, the
    meter's whole value in those steps in which a chosen part stands in one of its rows. A meter's
    chosen parts in one group count together.

    `most_series`: how many series are answered at most, those with the greatest value in any step
    first.
    """

    metric: Metric
    since_ms: int
    until_ms: int
    step_ms: int
    aggregation: Aggregation = Aggregation.SUM
    by: tuple[str, ...] = ()
    where: Mapping[str, tuple[str, ...]] | None = None
    holders: frozenset[tuple[str, str, int]] | None = None
    most_series: int = 1000

    @property
    def about_parts(self) -> bool:
        """Whether it is about holders' parts of meters."""
        named = {*self.by, *(self.where or ())}
        return self.holders is not None or not named.isdisjoint(HOLDER_LABELS)


MOST_STEPS = 11_000
"""As many as Prometheus answers at most."""


@dataclass(frozen=True, slots=True)
class Series:
    """One answered series: a value for each step that has one, None where nothing was metered."""

    labels: Mapping[str, str]
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """`start_ms` of each step is `since_ms + i * step_ms`.

    `omitted`: series beyond `most_series`; `resolution_ms`: the coarsest rows that were read, so
    that a step below it says no more than they do.
    """

    since_ms: int
    step_ms: int
    series: Sequence[Series]
    resolution_ms: int
    omitted: int = 0


class TelemetryStore(Protocol):
    """A store. All methods block and are called in threads; `ask` from several at once."""

    def cursors(self) -> Mapping[str, Cursor]:
        """Return how far each journal is on disk, by the journal's name."""

    def write(self, rows: Sequence[Row], cursors: Mapping[str, Cursor]) -> None:
        """Take rows and move the cursors, both or neither.

        Raises:
            TelemetryError: nothing was taken; the same rows may come again.

        """

    def ask(self, question: Question) -> Answer:
        """Answer a question.

        Raises:
            TelemetryError: it cannot be answered now.

        """

    def tend(self, now_ms: int) -> None:
        """Do what is due: compaction, retention. Called every minute or so; may take long.

        Raises:
            TelemetryError: it could not be done; it is tried again.

        """

    def findings(self) -> Sequence[Finding]:
        """Return how the store is, for health, log and metrics."""

    def counts(self) -> Mapping[str, float]:
        """Return figures for metrics by name, such as bytes on disk or refused samples."""

    def close(self) -> None:
        """Let go of everything; what was written is safe."""
