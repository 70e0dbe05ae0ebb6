"""`/`: the fleet at a glance. `/nodes/…`: one node of it."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import Field

from wattkeeper.aggregator.endpoint import Query
from wattkeeper.aggregator.page.asking import Asker, Part
from wattkeeper.aggregator.page.budgets_page import nearest
from wattkeeper.aggregator.page.charts import Chart, power_chart
from wattkeeper.aggregator.page.heat import MOST_CELLS, Show, heat_map
from wattkeeper.aggregator.page.view import View
from wattkeeper.aggregator.page.words import query as query_string
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.aggregator.telemetry_query import PAYERS
from wattkeeper.model.holder import Account
from wattkeeper.model.meter import Component

NOW_S = 2.0
"""How old live figures may be: many who look at once ask only once."""
HISTORY_S = 30.0
_LISTED = 8
_PAYERS = tuple(payer for payer in PAYERS if payer != Account.COMPONENTS.name.lower())
"""A host meter sees its components again: what is theirs must not be counted twice."""
_POWER: dict[str, Any] = {
    "metric": "power",
    "by": ("component",),
    "since": "-24h",
    "payer": _PAYERS,
}


class FleetQuery(Query):
    """What the heat map shows."""

    show: Show = Field("temperature", description="what the colours tell")
    group: str | None = Field(None, description="groups of nodes, such as rack")


class NodeQuery(Query):
    """One node."""

    cluster: str = Field(description="its cluster")
    node: str = Field(description="its name")


@dataclass(slots=True)
class Drawing:
    """A run and what its GPUs draw now; a GPU that several runs have is split evenly."""

    run: Any
    gpus: float = 0.0
    watts: float = 0.0
    idle: int = 0


async def see_fleet(asker: Asker, query: FleetQuery) -> View:
    """Ask for the fleet, its nodes and devices, a day of its power, and who used most."""
    fleet, nodes, devices, power, report, budgets = await asyncio.gather(
        asker.ask("/v1/fleet", NOW_S),
        _nodes(asker),
        _devices(asker),
        asker.part("/v1/telemetry", HISTORY_S, **_POWER),
        asker.part("/v1/report", HISTORY_S, by="account", since="-24h"),
        asker.part("/v1/budgets", NOW_S),
    )
    return View("fleet.html", partial(_fleet, query, fleet, nodes, devices, power, report, budgets))


async def _nodes(asker: Asker) -> Sequence[Any] | None:
    """Ask for every node; None where that is not for everybody."""
    if not asker.may("/v1/nodes"):
        return None
    nodes: Sequence[Any] = (await asker.ask("/v1/nodes", NOW_S)).nodes
    return nodes


async def _devices(asker: Asker) -> Part:
    """Ask for every GPU, unless there are too many for a cell each."""
    fleet = await asker.ask("/v1/fleet", NOW_S)
    if fleet.gpus > MOST_CELLS:
        return Part(None)
    return await asker.part("/v1/devices", NOW_S, 30, component="gpu")


def _fleet(
    query: FleetQuery,
    fleet: Any,
    nodes: Sequence[Any] | None,
    devices: Part,
    power: Part,
    report: Part,
    budgets: Part,
) -> Mapping[str, Any]:
    kinds = sorted({kind for node in nodes or () for kind in node.groups})
    kind = query.group or ("rack" if "rack" in kinds else kinds[0] if kinds else None)
    listed = None if devices.answer is None else devices.answer.devices
    runs = drawing(listed or ())
    live = [node for node in nodes or () if node.gpus is not None]
    return {
        "here": "/",
        "given": query.model_dump(),
        "fleet": fleet,
        "kinds": kinds,
        "kind": kind,
        "uses": None if listed is None else Counter(device.use for device in listed),
        "hottest": max(live, key=lambda node: node.gpus.hottest_celsius or 0, default=None),
        "map": None if nodes is None else heat_map(nodes, listed, query.show, kind),
        "power": _day_of_power(power, {}),
        "power_problem": power.problem,
        "drawing": sorted(runs, key=lambda one: -one.watts)[:_LISTED],
        "runs": len(runs),
        "idle": sorted((one for one in runs if one.idle), key=lambda one: -one.idle)[:_LISTED],
        "report": report.answer,
        "report_problem": report.problem,
        "budget": None if budgets.answer is None else nearest(budgets.answer.budgets),
        "accounts": [] if report.answer is None else _groups(report.answer)[:_LISTED],
    }


def _groups(report: Any) -> Sequence[Any]:
    rows = [row for row in report.rows if row.kind == "group"]
    return sorted(rows, key=lambda row: -row.energy_uj)


def drawing(devices: Iterable[Any]) -> list[Drawing]:
    """Return what each run draws now, of the GPUs among some devices."""
    found: dict[tuple[str, str], Drawing] = {}
    for device in devices:
        for run in device.held_by:
            one = found.setdefault((run.cluster, run.job_id), Drawing(run))
            one.gpus += 1 / len(device.held_by)
            one.watts += (device.watts or 0.0) / len(device.held_by)
            one.idle += device.use == "idle"
    return list(found.values())


def _day_of_power(part: Part, where: Mapping[str, str]) -> Chart | None:
    """Return the plot of power by component, None where there is no history."""
    if part.answer is None or not part.answer.series:
        return None
    source = f"/v1/telemetry{query_string({**_POWER, **where})}"
    return power_chart(part.answer, "Power over 24 hours", _component, source)


def _component(labels: Mapping[str, str]) -> str:
    """What no component saw of a host's power is its overhead."""
    component = labels["component"]
    return "overhead" if component == Component.HOST else component


async def see_node(asker: Asker, query: NodeQuery) -> View:
    """Ask for one node, its devices and a day of its power."""
    nodes = await asker.ask("/v1/nodes", NOW_S)
    named = (query.cluster, query.node)
    node = next((one for one in nodes.nodes if (one.cluster, one.node) == named), None)
    if node is None:
        detail = f"no node {query.node[:80]} of cluster {query.cluster[:80]} is known"
        raise ProblemError(404, "unknown-node", detail, "node")
    where: dict[str, Any] = {"cluster": (query.cluster,), "node": (query.node,)}
    devices, power = await asyncio.gather(
        asker.ask("/v1/devices", NOW_S, cluster=query.cluster, node=query.node),
        asker.part("/v1/telemetry", HISTORY_S, **_POWER, **where),
    )
    return View("node.html", partial(_node, query, node, devices, power))


def _node(query: NodeQuery, node: Any, devices: Any, power: Part) -> Mapping[str, Any]:
    return {
        "here": "/",
        "node": node,
        "devices": devices.devices,
        "power": _day_of_power(power, {"cluster": query.cluster, "node": query.node}),
        "power_problem": power.problem,
        "as_of": devices.as_of,
    }
