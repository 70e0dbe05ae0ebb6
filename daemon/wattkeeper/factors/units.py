"""Units of factors, and the whole numbers that rates are kept as, so that sums of money are exact.

A rate is kept in billionths of its base unit: a currency per kWh, grams per kWh, or one. Further
digits of a factor are rounded away, half to even.
"""

import re
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction

RATE = 10**9
"""A rate of one base unit, as it is kept."""
_MOST = 9_000_000_000
"""Base units of a rate, at most: what 64 bits hold."""
_MAGNITUDE = 30
_NEAR = Context(prec=60)

_PRICE = re.compile(r"([A-Z]{3})/(kWh|MWh)")
_CARBON = re.compile(r"(mg|g|kg|t|lb)(?:CO2(?:e|eq)?)?/(kWh|MWh)")
_GRAMS = {
    "mg": Fraction(1, 1000),
    "g": Fraction(1),
    "kg": Fraction(1000),
    "t": Fraction(1_000_000),
    "lb": Fraction("453.59237"),
}
_KWH = {"kWh": 1, "MWh": 1000}


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of a factor. `base` is what rates are kept in, `scale` how much of it the unit is."""

    base: str
    scale: Fraction

    def rate(self, amount: Decimal) -> int:
        """Return an amount of this unit as a rate.

        Raises:
            ValueError: not a number, or beyond what is kept.

        """
        if modest(amount):
            rate = Fraction(_NEAR.plus(amount)) * self.scale * RATE
            if abs(rate) <= _MOST * RATE:
                return round(rate)
        shown = str(amount)[:40]
        raise ValueError(f"{shown} is no factor that can be meant; check value and unit")


def modest(amount: Decimal) -> bool:
    """Tell whether a number is of a size that whole numbers and fractions are quick for.

    `1e2000000` is a few bytes of an answer, and a minute of exact arithmetic.
    """
    return amount.is_finite() and abs(amount.adjusted()) <= _MAGNITUDE


PUE = Unit("1", Fraction(1))


def price_unit(text: str) -> Unit:
    """Return the unit `EUR/kWh` or `USD/MWh`.

    Raises:
        ValueError: not such a unit.

    """
    found = _PRICE.fullmatch(text)
    if found is None:
        raise ValueError("is no unit of a price; write EUR/kWh, USD/MWh or the like")
    return Unit(f"{found[1]}/kWh", Fraction(1, _KWH[found[2]]))


def carbon_unit(text: str) -> Unit:
    """Return the unit `g/kWh`, `kg/MWh`, `lb/kWh`, `gCO2e/kWh`.

    Raises:
        ValueError: not such a unit.

    """
    found = _CARBON.fullmatch(text)
    if found is None:
        raise ValueError("is no unit of carbon intensity; write g/kWh, kg/MWh, t/MWh or lb/kWh")
    return Unit("g/kWh", _GRAMS[found[1]] / _KWH[found[2]])


def rate_text(rate: int) -> str:
    """Return a rate in its base unit, as a decimal without trailing zeros."""
    text = decimal_text(rate, 9).rstrip("0").removesuffix(".")
    return text or "0"


def decimal_text(whole: int, digits: int) -> str:
    """Return a number of units of the last of `digits` decimals: 1234567, 6 → 1.234567."""
    sign, whole = ("-", -whole) if whole < 0 else ("", whole)
    return f"{sign}{whole // 10**digits}.{whole % 10**digits:0{digits}}"
