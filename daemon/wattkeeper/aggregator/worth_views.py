"""Cost, carbon and factors, as the API tells them."""

from collections.abc import Iterable
from typing import Any

from wattkeeper.aggregator import answers
from wattkeeper.aggregator.pricing import FactorUsed
from wattkeeper.factors.units import rate_text
from wattkeeper.factors.worth import Worth


def valued(own: Worth) -> dict[str, Any]:
    """Return the fields of `answers.Valued`."""
    return {
        "cost": own.cost,
        "cost_estimated_ratio": own.money_guessed,
        "carbon_g": own.carbon_g,
        "carbon_estimated_ratio": own.milligrams_guessed,
    }


def factors(used: Iterable[FactorUsed]) -> list[answers.FactorUsed]:
    """Return the factors of a time."""
    told = []
    for one in used:
        rates = [piece.rate for piece in one.pieces]
        told.append(
            answers.FactorUsed.model_validate(
                {
                    "factor": one.factor,
                    "unit": one.unit,
                    "mean": None if one.mean is None else rate_text(one.mean),
                    "least": rate_text(min(rates)) if rates else None,
                    "most": rate_text(max(rates)) if rates else None,
                    "estimated_ratio": one.estimated_ratio,
                    "how": one.how,
                    "sources": one.sources,
                    "version": one.version or None,
                    "kind": one.kind,
                    "market": one.market,
                }
            )
        )
    return told
