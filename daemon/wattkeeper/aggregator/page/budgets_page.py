"""`/budgets`: what may be used, what is, where it will end, and who draws most."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from wattkeeper.aggregator.endpoint import Query
from wattkeeper.aggregator.page.asking import Asker
from wattkeeper.aggregator.page.view import View

_NOW_S = 2.0
_BREACHES = 40
"""Breaches that are listed, the newest."""
SAID = {
    "ok": "ok",
    "warn": "near its limit",
    "forecast": "will exceed",
    "hard": "exceeded",
    "off": "off",
    "unknown": "unknown",
}


class BudgetsQuery(Query):
    """Every budget."""


async def see_budgets(asker: Asker, _: BudgetsQuery) -> View:
    """Ask how the budgets stand."""
    found = await asker.ask("/v1/budgets", _NOW_S)
    return View("budgets.html", partial(_budgets, found))


def nearest(budgets: Sequence[Any]) -> tuple[float, str, str] | None:
    """Return what is used or will be of the budget of which that is most, its name, and which."""
    reached = [(one.used_ratio, one.name, "used") for one in budgets if one.used_ratio is not None]
    reached += [(one.forecast.ratio, one.name, "forecast") for one in budgets if one.forecast]
    return max(reached, default=None)


def _budgets(found: Any) -> Mapping[str, Any]:
    depth: dict[str | None, int] = {None: -1}
    for one in found.budgets:
        depth[one.name] = depth.get(one.inside, -1) + 1
    breaches = [(one.name, breach) for one in found.budgets for breach in one.history]
    breaches.sort(key=lambda named: named[1].start, reverse=True)
    return {
        "here": "/budgets",
        "as_of": found.as_of,
        "budgets": found.budgets,
        "depth": depth,
        "said": SAID,
        "breaches": breaches[:_BREACHES],
    }
