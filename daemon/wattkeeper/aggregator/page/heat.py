"""The heat map: every GPU as a cell, in its node, in its rack."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from wattkeeper.units import celsius, percent, watts

Show = Literal["temperature", "power", "utilization"]
MOST_CELLS = 4_096
"""GPUs up to which each has a cell; beyond, a cell is a node."""
STEPS = 9
"""Colours of a scale; the stylesheet has as many."""
_BIG, _MIDDLE = 64, 512
_NUMBER = re.compile(r"([0-9]+)")


@dataclass(frozen=True, slots=True)
class Scale:
    """Colours between two values."""

    show: Show
    label: str
    low: float
    high: float

    def step(self, value: float | None) -> str:
        """Return the class of a value's colour."""
        if value is None:
            return "hx"
        part = (value - self.low) / (self.high - self.low)
        return f"h{max(0, min(STEPS - 1, int(part * STEPS)))}"

    def say(self, value: float | None) -> str:
        """Return a value with its unit."""
        return {"temperature": celsius, "power": watts, "utilization": percent}[self.show](value)

    @property
    def legend(self) -> list[tuple[str, str]]:
        """Colour and lower bound of each step."""
        width = (self.high - self.low) / STEPS
        bounds = [self.low + width * step for step in range(STEPS)]
        return [(f"h{step}", self.say(bound)) for step, bound in enumerate(bounds)]


@dataclass(frozen=True, slots=True)
class Cell:
    """A GPU, or a node as a whole: its colour, what it is, and its figure where there is room."""

    look: str
    title: str
    figure: str = ""


@dataclass(frozen=True, slots=True)
class NodeCells:
    """A node and its cells."""

    name: str
    href: str
    label: str
    state: str
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Nodes by the group that they are in. `size`: of the cells, by how many there are."""

    scale: Scale
    size: Literal["big", "middle", "small", "coarse"]
    groups: Mapping[str, Sequence[NodeCells]]


def scale_of(show: Show, values: Iterable[float | None]) -> Scale:
    """Return the scale for what is shown: power up to the greatest value, rounded up."""
    if show == "temperature":
        return Scale(show, "Temperature", 27, 90)
    if show == "utilization":
        return Scale(show, "Utilization", 0, 1)
    most = max(1.0, max((value for value in values if value is not None), default=0.0))
    unit = 10.0 ** math.floor(math.log10(most)) / 2
    return Scale(show, "Power", 0, math.ceil(most / unit) * unit)


def heat_map(
    nodes: Sequence[Any], devices: Sequence[Any] | None, show: Show, kind: str | None
) -> HeatMap:
    """Return the map of nodes and their GPUs (both as the API tells them).

    `devices` None: there are too many, a cell is a node. `kind`: of groups, such as rack.
    """
    groups: dict[str, list[NodeCells]] = {}
    clusters = {node.cluster for node in nodes}
    by_node: dict[tuple[str, str], list[Any]] = {}
    for device in devices or ():
        by_node.setdefault((device.cluster, device.node), []).append(device)
    figures = [node.gpus for node in nodes] if devices is None else devices
    scale = scale_of(show, [_value(one, show) for one in figures if one is not None])
    big = devices is not None and len(devices) <= _BIG
    for node in sorted(nodes, key=lambda node: as_counted(node.node)):
        place = node.groups.get(kind, f"no {kind}") if kind else ""
        name = " ".join(filter(None, (node.cluster if len(clusters) > 1 else "", place)))
        if devices is None:
            cells = [_node_cell(node, scale)]
        else:
            own = by_node.get((node.cluster, node.node), ())
            cells = [_cell(device, scale, figure=big) for device in own]
        groups.setdefault(name, []).append(_node(node, cells))
    size: Literal["big", "middle", "small", "coarse"] = "coarse"
    if devices is not None:
        size = "big" if big else "middle" if len(devices) <= _MIDDLE else "small"
    names = sorted(groups, key=lambda name: (name.endswith(f"no {kind}"), as_counted(name)))
    return HeatMap(scale, size, {name: groups[name] for name in names})


def as_counted(name: str) -> list[tuple[int, str]]:
    """Return by what names are ordered as people count: r9 before r10."""
    pieces = _NUMBER.split(name)
    return [(int(piece) if piece.isdecimal() else -1, piece) for piece in pieces]


def _value(one: Any, show: Show) -> float | None:
    """Return what is shown of a GPU, or of the GPUs of a node: the hottest, the mean of each."""
    if hasattr(one, "count"):
        mean = None if one.watts is None or not one.count else one.watts / one.count
        told = {"temperature": one.hottest_celsius, "power": mean}
        value = told.get(show, one.mean_utilization)
    else:
        told = {"temperature": one.celsius, "power": one.watts}
        value = told.get(show, one.utilization)
    return None if value is None else float(value)


def _node(node: Any, cells: Sequence[Cell]) -> NodeCells:
    if not cells and node.state != "live":
        cells = [Cell("hx", node.state)] * min(node.gpus_expected or 1, 16)
    href = f"/nodes/{quote(node.cluster, safe='')}/{quote(node.node, safe='')}"
    gpus = node.gpus
    if node.state != "live" or gpus is None:
        label = f"{node.node}: {node.state}"
    else:
        hottest = celsius(gpus.hottest_celsius)
        label = f"{node.node}: {gpus.count} GPUs, {watts(node.watts)}, hottest {hottest}"
    return NodeCells(node.node, href, label, node.state, cells)


def _node_cell(node: Any, scale: Scale) -> Cell:
    value = None if node.gpus is None else _value(node.gpus, scale.show)
    said = scale.say(value) if node.state == "live" else node.state
    return Cell(scale.step(value), f"{node.node} · {said}")


def _cell(device: Any, scale: Scale, *, figure: bool) -> Cell:
    value = _value(device, scale.show)
    index = device.meter if device.gpu is None else f"GPU {device.gpu}"
    said = [index, watts(device.watts), celsius(device.celsius), percent(device.utilization)]
    said += [f"{run.job_id} {run.user or run.account or ''}".strip() for run in device.held_by]
    if not device.held_by:
        said.append("free")
    look = scale.step(value) + (" idle" if device.use == "idle" else "")
    return Cell(look, " · ".join(said), scale.say(value) if figure else "")
