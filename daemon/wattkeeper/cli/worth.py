"""By which factors costs and carbon were computed, for people."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from wattkeeper.units import percent

_MARKETS = {"location": "location-based", "market": "market-based"}


def factor_words(factor: Mapping[str, Any]) -> str:
    """Say a factor, and whose word it is: `380 g/kWh (Grid & Co, location-based average)`."""
    if factor["mean"] is None:
        return "no value is known yet"
    unit = "" if factor["unit"] == "1" else f" {factor['unit']}"
    value = f"{short(factor['mean'])}{unit}"
    if factor["least"] != factor["most"]:
        value += f" on average, {short(factor['least'])} to {short(factor['most'])}"
    ratio = factor["estimated_ratio"]
    guessed = f", estimated for {percent(ratio)} of the time" if ratio else ""
    return f"{value}{_of(_origin(factor))}{guessed}"


def short(text: str) -> str:
    """Return a decimal with four digits after the point at most."""
    return f"{round(Decimal(text), 4).normalize():f}"


def by_name(factors: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return factors by what they are: price, carbon, pue."""
    return {factor["factor"]: factor for factor in factors}


def _origin(factor: Mapping[str, Any]) -> list[str]:
    words = " ".join(
        word for word in (_MARKETS.get(factor["market"] or ""), factor["kind"]) if word
    )
    version = f"version {factor['version']}" if factor["version"] else ""
    return [part for part in (*factor["sources"], words, version) if part]


def _of(parts: Iterable[str]) -> str:
    said = ", ".join(parts)
    return f" ({said})" if said else ""
