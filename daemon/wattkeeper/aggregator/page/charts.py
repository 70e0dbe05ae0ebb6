"""Plots: what uPlot draws from, and a still picture for where no script runs and for paper."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from wattkeeper.model.microjoules import UJ_PER_KWH
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
    """Series over time, one on top of the other. `source`: where every value can be had."""

    title: str
    unit: Literal["W", "kWh"]
    kind: Literal["area", "bars"]
    since_s: float
    step_s: float
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
            "since": self.since_s,
            "step": self.step_s,
            "series": [
                {"name": one.name, "look": one.look, "values": list(map(_short, one.values))}
                for one in self.series
            ],
        }

    @property
    def until_s(self) -> float:
        """The end of the last step, UTC seconds."""
        return self.since_s + self.step_s * max((len(one.values) for one in self.series), default=0)

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
    return "M" + "L".join(dict.fromkeys(points)) + "Z"


def chart(
    answer: Any,
    title: str,
    name: Callable[[Mapping[str, str]], str],
    source: str,
    kind: Literal["area", "bars"] = "area",
) -> Chart:
    """Return the plot of an answer about history; the smallest series become one."""
    named: dict[str, list[float | None]] = {}
    many = len({name(series.labels) for series in answer.series}) > LOOKS
    for series in sorted(answer.series, key=lambda one: (_rank(one.labels), -_sum(one.values))):
        key = name(series.labels)
        if many and key not in named and len(named) >= LOOKS - 1:
            key = "others"
        named[key] = _add(named.get(key), series.values)
    power = answer.unit == "watts"
    say = watts if power else _kwh
    step_s = answer.step_seconds
    if not power:
        named = {key: [_in_kwh(value) for value in values] for key, values in named.items()}
    listed = [
        Series(
            key,
            look,
            values,
            say(_sum(values) / max(1, sum(value is not None for value in values))),
            say(max((value for value in values if value is not None), default=None)),
            _kwh(_sum(values) * (step_s / 3_600_000 if power else 1)),
        )
        for look, (key, values) in enumerate(named.items())
    ]
    note = f"{answer.omitted_series} smaller series are left out" if answer.omitted_series else ""
    since_s = datetime.fromisoformat(answer.since).timestamp()
    most = say(_top(list(named.values())))
    unit: Literal["W", "kWh"] = "W" if power else "kWh"
    return Chart(title, unit, kind, since_s, step_s, listed, most, note, source)


def _top(layers: Sequence[Sequence[float | None]]) -> float:
    """Return the greatest sum of all series."""
    columns = zip(*layers, strict=True)
    return max((sum(value or 0 for value in column) for column in columns), default=0)


def _in_kwh(joules: float | None) -> float | None:
    return None if joules is None else joules / 3_600_000


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
