"""`/health`: do the books balance, is everything metered, and what is wrong where."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from pydantic import Field

from wattkeeper.aggregator.endpoint import Query
from wattkeeper.aggregator.page.asking import Asker, Part
from wattkeeper.aggregator.page.view import View

_NOW_S = 5.0
_BOOKS_S = 60.0
_ROWS = 300
"""Nodes in the list, those in trouble first."""
_WORST = ("conflict", "silent", "absent", "live", "off")
_WELL = (_WORST.index("live"), 0)


class HealthQuery(Query):
    """Which nodes are listed."""

    nodes: Literal["trouble", "all"] = Field("trouble", description="those in trouble, or all")


async def see_health(asker: Asker, query: HealthQuery) -> View:
    """Ask for findings, the balance of a day, and every node."""
    findings, nodes, balance = await asyncio.gather(
        asker.ask("/v1/findings", _NOW_S),
        asker.ask("/v1/nodes", _NOW_S),
        asker.part("/v1/balance", _BOOKS_S, 5, since="-24h"),
    )
    return View("health.html", partial(_health, query, findings, nodes, balance))


def _health(query: HealthQuery, findings: Any, nodes: Any, balance: Part) -> Mapping[str, Any]:
    everyone = query.nodes == "all"
    listed = sorted(
        (node for node in nodes.nodes if everyone or _rank(node) < _WELL),
        key=lambda node: (*_rank(node), node.cluster, node.node),
    )[:_ROWS]
    return {
        "here": "/health",
        "findings": findings.findings,
        "balance": balance.answer,
        "balance_problem": balance.problem,
        "books": _books(balance.answer),
        "all": everyone,
        "nodes": listed,
        "left": len(nodes.nodes) - len(listed),
        "states": Counter(node.state for node in nodes.nodes),
        "as_of": nodes.as_of,
    }


def _rank(node: Any) -> tuple[int, int]:
    """Return how bad it is about a node, the worst first; from _WELL on nothing is."""
    troubles = [source for source in node.sources if source.state not in ("ok", "absent")]
    return _WORST.index(node.state), -len(troubles)


def _books(balance: Any) -> Mapping[str, int]:
    """Return where the energy of all meters went."""
    if balance is None:
        return {}
    return {
        name: sum(getattr(meter, f"{name}_uj") for meter in balance.meters)
        for name in ("measured", "workload", "idle", "system", "overhead", "gap", "components")
    }
