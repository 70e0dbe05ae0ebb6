"""Familiar comparisons for carbon, only ever shown on request.

Source: E. Strubell, A. Ganesh, A. McCallum: Energy and Policy Considerations for Deep Learning in
NLP. ACL 2019, table 1, in pounds of CO2 equivalents.
"""

from decimal import Decimal

SOURCE = "Strubell, Ganesh, McCallum: ACL 2019, table 1"
_GRAMS_PER_POUND = Decimal("453.59237")
_POUNDS = (
    ("a passenger's flight New York - San Francisco and back", 1_984),
    ("a human life of one year, on average", 11_023),
    ("a car's lifetime with its fuel, on average", 126_000),
)


def compare(carbon_g: str) -> list[str]:
    """Return lines that say how many flights, lives and cars an amount of carbon is."""
    lines = []
    for name, pounds in _POUNDS:
        ratio = Decimal(carbon_g) / (pounds * _GRAMS_PER_POUND)
        lines.append(f"{_times(ratio)} {name}")
    return lines


def _times(ratio: Decimal) -> str:
    """Say how often, with two digits: `3.4 times`, `1/270 of`."""
    if ratio >= 100:
        return f"{ratio:,.0f} times"
    if ratio >= Decimal("0.01") or not ratio:
        return f"{float(ratio):.2g} times"
    return f"1/{int(float(f'{1 / float(ratio):.1e}')):,} of"
