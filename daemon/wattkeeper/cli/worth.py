"""Cost and carbon for people: amounts, and by which factors they were computed."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from wattkeeper.cli.output import UNKNOWN, percent

_MASSES = ((Decimal(1_000_000), "t"), (Decimal(1000), "kg"), (Decimal(1), "g"))
_KINDS = {"average": "average", "marginal": "marginal"}
_MARKETS = {"location": "location-based", "market": "market-based"}


def money(text: str | None, currency: str | None) -> str:
    """Return an amount with its currency; below a hundredth with as many digits as it needs."""
    if text is None:
        return UNKNOWN
    amount = Decimal(text)
    shown = f"{amount:,.2f}" if abs(amount) >= Decimal("0.1") or not amount else f"{amount:.4f}"
    return f"{shown} {currency or ''}".rstrip()


def carbon(text: str | None) -> str:
    """Return grams of CO2 equivalents as t, kg or g."""
    if text is None:
        return UNKNOWN
    grams = Decimal(text)
    for size, unit in _MASSES:
        if grams >= size or unit == "g":
            value = grams / size
            digits = 0 if value >= 100 else 1 if value >= 10 else 2
            return f"{value:,.{digits}f} {unit}"
    return UNKNOWN


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
        word
        for word in (_MARKETS.get(factor["market"] or ""), _KINDS.get(factor["kind"] or ""))
        if word
    )
    version = f"version {factor['version']}" if factor["version"] else ""
    return [part for part in (*factor["sources"], words, version) if part]


def _of(parts: Iterable[str]) -> str:
    said = ", ".join(parts)
    return f" ({said})" if said else ""
