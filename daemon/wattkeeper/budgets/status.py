"""How a budget stands: what is answered, exported, told, and kept for other aggregators."""

from collections.abc import Mapping

import msgspec

from wattkeeper.budgets.budget import Budget, Kind
from wattkeeper.budgets.calendar import Period, period_interval
from wattkeeper.budgets.levels import Level
from wattkeeper.budgets.readings import Reading

OK, OFF, UNKNOWN = "ok", "off", "unknown"
STATES = (OK, Level.WARN.value, Level.FORECAST.value, Level.HARD.value, OFF, UNKNOWN)


class Contributor(msgspec.Struct, frozen=True):
    """Who draws much of it now, or used much of its period. `kind`: job, account, node, user.

    `watts`: power now; `uj`: what it used of the period's closed slots, null where that is not
    what it is named for.
    """

    kind: str
    name: str
    watts: float | None
    uj: str | None = None


class Ahead(msgspec.Struct, frozen=True):
    """Where the running interval will end, as parts of the limit."""

    ratio: float
    low_ratio: float | None
    high_ratio: float | None
    method: str


class Peak(msgspec.Struct, frozen=True):
    """The billed interval of a month with the highest mean power, which is what is paid for.

    `start_ms`: when it began, `month_ms`: when its month did, by the budget's clock. Its energy is
    kept, not the part of a limit: the limit may change within the month.
    """

    start_ms: int
    month_ms: int
    length_ms: int
    uj: int

    @property
    def watts(self) -> float:
        """Its mean power."""
        return self.uj / self.length_ms / 1000


class Status(msgspec.Struct, frozen=True):
    """One budget at one instant. Instants are UTC milliseconds, energies microjoules.

    `state`: the highest level that is reached; `ok`; `off` outside of the calendar; `unknown`
    where nothing is known. `levels`: since when each is reached. `ratio`: what is compared with
    the limit: power, or what is used of the running interval. `before_ratio`: the billed interval
    before it. `live_uj`: the part of `used_uj` that is not in the books yet.
    """

    name: str
    kind: str
    scope: str
    scope_kind: str
    parent: str
    limit: int
    warn_at: float
    at_ms: int
    start_ms: int
    end_ms: int
    state: str
    levels: dict[str, int]
    watts: float | None
    ratio: float | None
    used_uj: int | None
    live_uj: int | None
    before_ratio: float | None
    forecast: Ahead | None
    coverage: float | None
    silent_nodes: int
    silent_watts: float
    top: list[Contributor]
    peak: Peak | None = None

    @property
    def since_ms(self) -> int | None:
        """Since when it is in its state, as far as that is a level."""
        return self.levels.get(self.state)

    @property
    def peak_ratio(self) -> float | None:
        """The peak as a part of the limit of now."""
        return None if self.peak is None else self.peak.watts * 1000 / self.limit


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Status)


def dump(status: Status) -> str:
    """Return a status as it is kept."""
    return _encoder.encode(status).decode()


def load(text: str) -> Status | None:
    """Read one that was kept; None for that of another version."""
    try:
        return _decoder.decode(text)
    except msgspec.DecodeError:
        return None


def status(budget: Budget, reading: Reading, levels: Mapping[Level, int], at_ms: int) -> Status:
    """Return how a budget stands by a reading and the levels that are reached, since when."""
    interval = reading.interval
    found = ratio(budget, reading)
    state = OK if found is not None else UNKNOWN
    for level in Level:
        state = level.value if level in levels else state
    of_energy = budget.kind is not Kind.WATTS and reading.used_uj is not None
    return Status(
        name=budget.name,
        kind=budget.kind.value,
        scope=str(budget.scope),
        scope_kind=budget.scope.kind.value,
        parent=budget.parent,
        limit=budget.limit,
        warn_at=budget.warn_at,
        at_ms=at_ms,
        start_ms=interval.start_ms,
        end_ms=interval.end_ms,
        state=state if interval.counts else OFF,
        levels={level.value: since_ms for level, since_ms in levels.items()},
        watts=reading.watts,
        ratio=found,
        used_uj=reading.used_uj if of_energy else None,
        live_uj=reading.live_uj if of_energy else None,
        before_ratio=before_ratio(budget, reading),
        forecast=ahead(budget, reading),
        coverage=reading.coverage,
        silent_nodes=reading.silent_nodes,
        silent_watts=reading.silent_watts,
        top=_contributors(reading),
    )


def _contributors(reading: Reading) -> list[Contributor]:
    """Return who used most of a period, then who draws most now; nobody twice."""
    drawn = {(kind, name): watts for kind, some in reading.top.items() for name, watts in some}
    used = [
        Contributor(kind, name, drawn.pop((kind, name), None), str(uj))
        for kind, name, uj in reading.spent
    ]
    return [*used, *(Contributor(kind, name, watts) for (kind, name), watts in drawn.items())]


def ratio(budget: Budget, reading: Reading) -> float | None:
    """Return what is compared with the limit, as a part of it."""
    if budget.kind is Kind.WATTS:
        return None if reading.watts is None else reading.watts * 1000 / budget.limit
    if reading.used_uj is None:
        return None
    return reading.used_uj / budget.allowance_uj(reading.interval)


def before_ratio(budget: Budget, reading: Reading) -> float | None:
    """Return what the billed interval before used of its limit."""
    if reading.before_uj is None:
        return None
    return reading.before_uj / budget.allowance_uj(reading.interval)


def peak(budget: Budget, reading: Reading, known: Peak | None) -> Peak | None:
    """Return the peak of the month, by the one that was known and the interval that has ended."""
    if budget.kind is not Kind.DEMAND:
        return None
    if reading.before_uj is None:
        return known
    length_ms = reading.interval.length_ms
    start_ms = reading.interval.start_ms - length_ms
    month_ms = period_interval(start_ms, Period.MONTH, budget.calendar.zone).start_ms
    ended = Peak(start_ms, month_ms, length_ms, reading.before_uj)
    if known is not None and (known.month_ms, known.watts) >= (month_ms, ended.watts):
        return known
    return ended


def ahead(budget: Budget, reading: Reading) -> Ahead | None:
    """Return where the running interval will end."""
    expected = reading.forecast
    if expected is None:
        return None
    whole = budget.allowance_uj(reading.interval)
    return Ahead(
        expected.uj / whole,
        None if expected.low_uj is None else expected.low_uj / whole,
        None if expected.high_uj is None else expected.high_uj / whole,
        expected.method,
    )
