"""Plots: what uPlot draws from, and a still picture for where no script runs and for paper."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Literal

from wattkeeper.model.microjoules import UJ_PER_KWH, kwh
from wattkeeper.units import energy, watts

LOOKS = 8
"""Colours of series; the stylesheet has as many."""
_WIDTH, _HEIGHT = 600, 150
_ORDER = {"gpu": 0, "cpu": 1, "dram": 2, "host": 3}


@dataclass(frozen=True, slots=True)
class Series:
    """One series, its colour, and what it comes to."""

    name: str
    look: int
    values: Sequence[float | None]
    mean: str
    peak: str
    total: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Series over time, one on top of the other. `source`: where every value can be had.

    `starts_s`: the begins of its steps, UTC seconds; the last one ends at `until_s`.
    """

    title: str
    unit: Literal["W", "kWh"]
    kind: Literal["area", "bars"]
    starts_s: Sequence[float]
    until_s: float
    series: Sequence[Series]
    most: str
    note: str
    source: str

    @property
    def data(self) -> Mapping[str, Any]:
        """What the script draws from."""
        return {
            "unit": self.unit,
            "kind": self.kind,
            "starts": self.starts_s,
            "until": self.until_s,
            "series": [
                {"name": one.name, "look": one.look, "values": list(map(_short, one.values))}
                for one in self.series
            ],
        }

    @property
    def still(self) -> list[tuple[int, str]]:
        """Colour and path of each series, from the top one down, in a box of 600 by 150."""
        top = _top([one.values for one in self.series]) or 1.0
        floor = [0.0] * max((len(one.values) for one in self.series), default=0)
        paths = []
        for one in self.series:
            ceiling = [low + (value or 0) for low, value in zip(floor, one.values, strict=True)]
            paths.append((one.look, _path(floor, ceiling, top)))
            floor = ceiling
        return paths[::-1]


def _short(value: float | None) -> float | None:
    """Leave out digits that no plot shows."""
    return None if value is None else float(f"{value:.4g}")


def _path(floor: Sequence[float], ceiling: Sequence[float], top: float) -> str:
    width = _WIDTH / max(1, len(floor))
    points = [
        f"{(at + side) * width:.0f},{_HEIGHT * (1 - value / top):.0f}"
        for at, value in enumerate(ceiling)
        for side in (0, 1)
    ]
    points += [
        f"{(at + side) * width:.0f},{_HEIGHT * (1 - floor[at] / top):.0f}"
        for at in reversed(range(len(floor)))
        for side in (1, 0)
    ]
    return "M" + "L".join(point for point, _ in groupby(points)) + "Z"


def power_chart(
    answer: Any, title: str, name: Callable[[Mapping[str, str]], str], source: str
) -> Chart:
    """Return the plot of an answer about power; the smallest series become one."""
    named = _named(
        (name(series.labels), series.values)
        for series in sorted(answer.series, key=lambda one: (_rank(one.labels), -_sum(one.values)))
    )
    step_s = answer.step_seconds
    listed = [
        Series(
            key,
            look,
            values,
            watts(_sum(values) / max(1, sum(value is not None for value in values))),
            watts(max((value for value in values if value is not None), default=None)),
            _kwh(_sum(values) * step_s / 3_600_000),
        )
        for look, (key, values) in enumerate(named.items())
    ]
    since_s = _seconds(answer.since)
    steps = max(map(len, named.values()), default=0)
    starts_s = [since_s + step * step_s for step in range(steps)]
    omitted = answer.omitted_series
    return Chart(
        title=title,
        unit="W",
        kind="area",
        starts_s=starts_s,
        until_s=since_s + steps * step_s,
        series=listed,
        most=watts(_top(list(named.values()))),
        note=f"{omitted} smaller series are left out" if omitted else "",
        source=source,
    )


def energy_chart(report: Any, title: str, name: Callable[[Any], str], source: str) -> Chart:
    """Return the plot of a report's energy in each step; the smallest groups become one."""
    rows = sorted(report.series.rows, key=lambda row: (row.kind != "group", -sum(row.energy_uj)))
    named = _named((name(row), list(map(kwh, row.energy_uj))) for row in rows)
    listed = [
        Series(key, look, values, "", _kwh(max(map(_known, values), default=0)), _kwh(_sum(values)))
        for look, (key, values) in enumerate(named.items())
    ]
    return Chart(
        title=title,
        unit="kWh",
        kind="bars",
        starts_s=list(map(_seconds, report.series.starts)),
        until_s=_seconds(report.until),
        series=listed,
        most=_kwh(_top(list(named.values()))),
        note="",
        source=source,
    )


def _named(
    series: Iterable[tuple[str, Sequence[float | None]]],
) -> dict[str, list[float | None]]:
    """Return series by their names, as many as there are colours; the rest as one."""
    listed = list(series)
    many = len({name for name, _ in listed}) > LOOKS
    named: dict[str, list[float | None]] = {}
    for name, values in listed:
        key = "others" if many and name not in named and len(named) >= LOOKS - 1 else name
        named[key] = _add(named.get(key), values)
    return named


def _top(layers: Sequence[Sequence[float | None]]) -> float:
    """Return the greatest sum of all series."""
    columns = zip(*layers, strict=True)
    return max((sum(value or 0 for value in column) for column in columns), default=0)


def _known(value: float | None) -> float:
    return value or 0.0


def _seconds(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()


def _rank(labels: Mapping[str, str]) -> int:
    return _ORDER.get(labels.get("component", ""), len(_ORDER))


def _sum(values: Sequence[float | None]) -> float:
    return sum(value for value in values if value is not None)


def _add(one: Sequence[float | None] | None, other: Sequence[float | None]) -> list[float | None]:
    if one is None:
        return list(other)
    pairs = zip(one, other, strict=True)
    return [a if b is None else b if a is None else a + b for a, b in pairs]


def _kwh(value: float | None) -> str:
    return energy(None if value is None else round(value * UJ_PER_KWH))
