"""The answers of the API. `*_uj` are whole microjoules as decimal strings: they outgrow 64 bits."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from wattkeeper.model.state import State

Microjoules = Annotated[
    int,
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^-?[0-9]+$"}),
]
Instant = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


class Answer(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(frozen=True)


class FactorUsed(Answer):
    """A factor by which energy was valued; `mean`, `least` and `most` over the time.

    They are decimals as text, null where no value is known. `estimated_ratio`: the part of the
    time for which it is estimated, by its source or because there was a gap.
    """

    factor: Literal["price", "carbon", "pue"]
    unit: str
    mean: str | None
    least: str | None
    most: str | None
    estimated_ratio: float
    how: Literal["constant", "table", "fetched"]
    sources: list[str]
    version: str | None
    kind: str | None = Field(description="average or marginal")
    market: str | None = Field(description="location or market based")


class Valued(Answer):
    """What energy came to. Decimals as text, null where price or carbon intensity is not known.

    Costs have six decimals, grams three; those of rows add up to those of the whole.
    `…_estimated_ratio`: the part of the energy that was valued by estimated factors.
    """

    cost: str | None
    cost_estimated_ratio: float | None
    carbon_g: str | None
    carbon_estimated_ratio: float | None


class Hardware(Answer):
    """Devices of one kind that energy was metered on; `model` is null where it is not told."""

    component: str
    model: str | None
    count: int


class Job(Valued):
    """What a job used, and how sure that is. `end` is null while it runs.

    `run` of `runs`: a requeued job, or a reused id, is another run. `allocated_idle_…`: the parts
    of energy and GPU-seconds in which its devices were its own and nothing of it ran. `final`: no
    figure of it will change any more; null in lists, as `peak_watts`, `coverage`, cost and carbon
    are. `accuracy`: the class, A to D, that 95 % of the energy is of, or better.
    """

    cluster: str
    job_id: str
    run: int
    runs: int
    manager: str
    user: str | None
    account: str | None
    partition: str | None
    namespace: str | None
    owner_kind: str | None
    owner_name: str | None
    array: str | None
    name: str | None
    state: str | None
    start: Instant | None
    end: Instant | None
    nodes: list[str]
    energy_uj: Microjoules
    energy_kwh: float
    energy_by_component_uj: dict[str, Microjoules]
    energy_by_source_uj: dict[str, Microjoules]
    energy_by_split_uj: dict[str, Microjoules]
    allocated_idle_uj: Microjoules
    allocated_idle_kwh: float
    mean_watts: float | None
    peak_watts: float | None
    gpu_seconds: float
    allocated_idle_gpu_seconds: float
    coverage: float | None
    as_of: Instant | None
    final: bool | None
    energy_by_accuracy_uj: dict[str, Microjoules]
    accuracy: str | None
    hardware: list[Hardware] = Field(description="empty in lists")
    currency: str | None
    factors: list[FactorUsed] = Field(description="of its time; empty in lists")


class Jobs(Answer):
    """Jobs, newest first. `more`: there are more than `limit`."""

    since: Instant
    limit: int
    more: bool
    as_of: Instant
    jobs: list[Job]


class MeterBalance(Answer):
    """One meter: what it counted, and where that was booked.

    `open_uj` is the part of `measured_uj` that was booked after the newest check point: not yet
    checked.
    """

    node: str
    meter: str
    measured_uj: Microjoules
    open_uj: Microjoules
    workload_uj: Microjoules
    idle_uj: Microjoules
    system_uj: Microjoules
    overhead_uj: Microjoules
    gap_uj: Microjoules
    components_uj: Microjoules
    residual_uj: Microjoules
    covered_seconds: float
    unmeasured_seconds: float
    problems: list[str]


class MissingNode(Answer):
    """A node that should be metered, by its scheduler, and is not, or not all of its GPUs.

    Seconds are of its meters, together. A node without any counts as one, or by its GPUs.
    """

    cluster: str
    node: str
    scheduler_state: str
    gpus: int | None
    metered_gpus: int
    expected_seconds: float
    covered_seconds: float


class Balance(Answer):
    """Do the books balance? They do if `balanced`: no residual and no problem on any meter.

    `coverage` is covered over `expected_seconds` of all meters, those that should be there by a
    scheduler's inventory among them; `missing_nodes` are the ones that are not.
    """

    since: Instant
    until: Instant
    as_of: Instant
    balanced: bool
    coverage: float | None
    expected_seconds: float
    residual_uj: Microjoules
    energy_uj: Microjoules
    meters: list[MeterBalance]
    missing_nodes: list[MissingNode]
    problems: list[str]


class Source(Answer):
    """State of one source of a node."""

    subject: str
    state: str
    detail: str


class NodeGpus(Answer):
    """The GPUs of a node together; null is what none of them tells."""

    count: int
    watts: float | None
    hottest_celsius: float | None
    mean_utilization: float | None


class Node(Answer):
    """A node as its last delivery left it. `gpus`: null unless it is live.

    `absent`: its scheduler has it, and expects it to be there, but no agent ever delivered.
    `off`: the same, while it is powered down or yet to come. `scheduler_state` and
    `gpus_expected` are the scheduler's word, null where there is none.
    """

    cluster: str
    node: str
    state: Literal["live", "silent", "conflict", "absent", "off"]
    last_seen: Instant | None
    scheduler_state: str | None
    gpus_expected: int | None
    agent: str | None
    watts: float | None
    gpus: NodeGpus | None
    meters: int
    pending_records: int | None
    clock_offset_seconds: float | None
    refused_records: int
    events: dict[str, int]
    groups: dict[str, str]
    sources: list[Source]


class Nodes(Answer):
    """Every node that ever delivered, or that a scheduler has."""

    as_of: Instant
    nodes: list[Node]


class Fleet(Answer):
    """The fleet now."""

    as_of: Instant
    nodes: dict[str, int]
    watts: float
    watts_by_component: dict[str, float]
    gpus: int
    allocated_idle_gpus: dict[str, int]


class Target(Answer):
    """Targets of one node for Prometheus' `http_sd_configs`."""

    targets: list[str]
    labels: dict[str, str]


class Finding(Answer):
    """How one part of the aggregator is, why, and what to do."""

    subject: str = Field(description="ledger, scheduler/NAME, or a part of the history")
    state: State
    detail: str
    fix: str


class Findings(Answer):
    """How the aggregator is, part by part."""

    as_of: Instant
    findings: list[Finding]


class Health(Answer):
    """The aggregator can take deliveries."""

    status: Literal["ok"]
    version: str = Field(description="of the aggregator")
    holds_lease: bool = Field(
        description="whether it asks schedulers, settles and exports totals, as one of several does"
    )
