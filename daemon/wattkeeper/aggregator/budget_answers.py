"""`GET /v1/budgets`: its answers, from how budgets stand and from their history."""

import json
from typing import Literal

from pydantic import Field

from wattkeeper.aggregator.answers import Answer, Instant, Microjoules
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.budgets.budget import Kind
from wattkeeper.budgets.levels import Level
from wattkeeper.budgets.status import Status
from wattkeeper.ledger.breaches import Breach
from wattkeeper.model.microjoules import kwh

State = Literal["ok", "warn", "forecast", "hard", "off", "unknown"]
LevelName = Literal["warn", "forecast", "hard"]


class BudgetLevel(Answer):
    """A level that is reached, since when."""

    level: LevelName
    since: Instant


class BudgetForecast(Answer):
    """Where the running interval will end, as parts of the limit.

    `low_ratio` to `high_ratio` holds nine of ten of the method's earlier errors; null while too
    little is remembered.
    """

    ratio: float
    low_ratio: float | None
    high_ratio: float | None
    method: str


class BudgetContributor(Answer):
    """Who used much of an energy budget's period (`energy_uj`), or draws much of it now (`watts`).

    `energy_uj` is of the closed slots: some minutes of the newest are missing.
    """

    kind: Literal["job", "account", "node", "user"]
    name: str
    watts: float | None
    energy_uj: Microjoules | None


class BudgetPeak(Answer):
    """The billed interval of the month with the highest mean power: that is what is paid for.

    `ratio`: as a part of the limit of now.
    """

    start: Instant
    watts: float
    ratio: float


class BudgetBreach(Answer):
    """A level that was reached; `end` is null while it still is.

    `worst_ratio`: the most that was seen, as a part of the limit, and `coverage` how complete that
    reading was. `contributors`: who drew most then.
    """

    level: LevelName
    start: Instant
    end: Instant | None
    worst_ratio: float
    coverage: float | None
    contributors: list[BudgetContributor]


class Budget(Answer):
    """How a budget stands. Its limit is in watts, or of energy in microjoules for each period.

    `used_ratio` is what is compared with the limit: power, or what is used of the running interval,
    of which `unbooked_uj` was drawn since the books end. `before_ratio`: the billed interval
    before. `coverage`: how complete the reading is; `silent_nodes` are missing in it.
    `silent_watts`: what those drew that fell silent within the hour; the forecast takes that to go
    on.
    """

    name: str
    kind: Literal["watts", "energy", "demand"]
    scope: str
    inside: str | None = Field(description="the budget that it is shown under")
    state: State
    since: Instant | None = Field(description="of the level that it has reached")
    levels: list[BudgetLevel]
    limit_watts: float | None
    limit_uj: Microjoules | None
    limit_kwh: float | None
    warn_ratio: float
    watts: float | None
    used_uj: Microjoules | None
    used_kwh: float | None
    unbooked_uj: Microjoules | None
    used_ratio: float | None
    before_ratio: float | None
    peak: BudgetPeak | None
    start: Instant | None
    end: Instant | None
    forecast: BudgetForecast | None
    coverage: float | None
    silent_nodes: int
    silent_watts: float
    contributors: list[BudgetContributor]
    history: list[BudgetBreach]
    as_of: Instant


class Budgets(Answer):
    """Every budget, each after the one that it is inside of."""

    as_of: Instant
    budgets: list[Budget]


def budget(found: Status, history: list[Breach]) -> Budget:
    """Return how a budget stands, with its last breaches."""
    of_energy = found.kind == Kind.ENERGY
    lasts = found.kind != Kind.WATTS
    return Budget.model_validate(
        {
            "name": found.name,
            "kind": found.kind,
            "scope": found.scope,
            "inside": found.parent or None,
            "state": found.state,
            "since": _instant(found.since_ms),
            "levels": [
                {"level": level.value, "since": rfc3339(found.levels[level.value])}
                for level in Level
                if level.value in found.levels
            ],
            "limit_watts": None if of_energy else found.limit / 1000,
            "limit_uj": found.limit if of_energy else None,
            "limit_kwh": kwh(found.limit) if of_energy else None,
            "warn_ratio": found.warn_at,
            "watts": found.watts,
            "used_uj": found.used_uj,
            "used_kwh": None if found.used_uj is None else kwh(found.used_uj),
            "unbooked_uj": found.live_uj,
            "used_ratio": found.ratio,
            "before_ratio": found.before_ratio,
            "peak": _peak(found),
            "start": rfc3339(found.start_ms) if lasts else None,
            "end": rfc3339(found.end_ms) if lasts else None,
            "forecast": _forecast(found),
            "coverage": found.coverage,
            "silent_nodes": found.silent_nodes,
            "silent_watts": found.silent_watts,
            "contributors": [
                _contributor(one.kind, one.name, one.watts, one.uj) for one in found.top
            ],
            "history": [_breach(one) for one in history],
            "as_of": rfc3339(found.at_ms),
        }
    )


def _peak(found: Status) -> BudgetPeak | None:
    peak, ratio = found.peak, found.peak_ratio
    if peak is None or ratio is None:
        return None
    return BudgetPeak(start=rfc3339(peak.start_ms), watts=peak.watts, ratio=ratio)


def _forecast(found: Status) -> BudgetForecast | None:
    if found.forecast is None:
        return None
    ahead = found.forecast
    return BudgetForecast(
        ratio=ahead.ratio,
        low_ratio=ahead.low_ratio,
        high_ratio=ahead.high_ratio,
        method=ahead.method,
    )


def _breach(found: Breach) -> BudgetBreach:
    told = json.loads(found.detail or "{}")
    return BudgetBreach.model_validate(
        {
            "level": found.level,
            "start": rfc3339(found.from_ms),
            "end": _instant(found.to_ms),
            "worst_ratio": found.worst,
            "coverage": found.coverage,
            "contributors": [
                _contributor(one["kind"], one["name"], one["watts"], one.get("uj"))
                for one in told.get("top", [])
            ],
        }
    )


def _contributor(kind: str, name: str, watts: float | None, uj: str | None) -> dict[str, object]:
    energy_uj = None if uj is None else int(uj)
    return {"kind": kind, "name": name, "watts": watts, "energy_uj": energy_uj}


def _instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)


def in_order(found: list[Status]) -> list[Status]:
    """Return them so that each comes after the one it is inside of, and beside its own."""
    children: dict[str, list[Status]] = {}
    for one in found:
        children.setdefault(one.parent, []).append(one)
    ordered: list[Status] = []
    waiting = children.get("", [])[::-1]
    while waiting:
        one = waiting.pop()
        ordered.append(one)
        waiting += children.get(one.name, [])[::-1]
    return ordered
