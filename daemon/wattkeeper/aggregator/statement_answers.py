"""Statements as the API tells them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from wattkeeper.aggregator.answers import Answer, Instant, Microjoules


class StatementRef(Answer):
    """A statement of the list. `intact`: it is what was closed, and follows the one before."""

    number: int
    period: str
    since: Instant
    until: Instant
    closed: Instant
    hash: str = Field(description="SHA-256 of the statement's bytes")
    previous: str | None = Field(description="hash of the statement before")
    intact: bool


class Statements(Answer):
    """All statements, in their order. `intact`: all of them are."""

    intact: bool
    statements: list[StatementRef]


class Line(Answer):
    """What was used; whole numbers and decimals as text."""

    jobs: int
    energy_uj: Microjoules
    energy_by_component_uj: dict[str, Microjoules]
    allocated_idle_uj: Microjoules
    gpu_ms: str
    allocated_idle_gpu_ms: str
    cost: str | None
    carbon_g: str | None


class AccountLine(Line):
    """A line of an account in a cluster, or of what was nobody's."""

    cluster: str
    kind: Literal["group", "idle", "system", "overhead", "gap", "other"]
    account: str


class FactorStated(Answer):
    """A factor over the period, as `/v1/report` tells it; ratios as text."""

    factor: str
    unit: str
    mean: str | None
    least: str | None
    most: str | None
    estimated_ratio: str
    how: str
    sources: list[str]
    version: str | None
    kind: str | None
    market: str | None


class Adjustment(Answer):
    """What changed in a period that was closed before, since it was last told."""

    statement: int
    period: str
    currency: str | None
    rows: list[AccountLine]
    total: Line


class Statement(Answer):
    """A closed period: canonical JSON, byte by byte what its hash was made of."""

    format: Literal["wattkeeper-statement/1"]
    tool: str
    number: int
    previous: str | None
    period: str
    timezone: str
    since: Instant
    until: Instant
    closed: Instant
    balanced: bool
    residual_uj: Microjoules
    coverage: str | None
    currency: str | None
    factors: list[FactorStated]
    rows: list[AccountLine]
    total: Line
    adjustments: list[Adjustment]


class Check(Answer):
    """Whether a statement still tells what the books say.

    `intact`: all statements are what was closed, and follow one another; `broken` are the numbers
    of those that do not. `moved`: the books of its period have changed since it and its adjustments
    were told, null where that cannot be known; `rows` say by how much, as the next statement will.
    """

    number: int
    period: str
    hash: str
    intact: bool
    broken: list[int]
    moved: bool | None
    rows: list[AccountLine]
    total: Line


class Close(BaseModel):
    """What to close."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    period: str = Field(description="2026-03, 2026-Q1, 2026, 2026-W10, 2026-03-14")
    timezone: str = Field("UTC", max_length=100, description="whose days they are: Europe/Berlin")
