"""Power and energy as people write them: `1.2MW`, `400 kWh`."""

import re
from decimal import Decimal

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)")
_POWER_MW = {"W": 10**3, "kW": 10**6, "MW": 10**9, "GW": 10**12}
_ENERGY_UJ = {
    "J": 10**6,
    "kJ": 10**9,
    "MJ": 10**12,
    "GJ": 10**15,
    "Wh": 36 * 10**8,
    "kWh": 36 * 10**11,
    "MWh": 36 * 10**14,
    "GWh": 36 * 10**17,
}


def power_mw(text: str) -> int:
    """Return milliwatts of `400kW`.

    Raises:
        ValueError: no power, or none at all; says how one looks.

    """
    return _read(text, _POWER_MW, "power", "400kW, 1.2MW")


def energy_uj(text: str) -> int:
    """Return microjoules of `40MWh`.

    Raises:
        ValueError: no energy, or none at all; says how one looks.

    """
    return _read(text, _ENERGY_UJ, "energy", "500kWh, 40MWh")


def _read(text: str, units: dict[str, int], what: str, example: str) -> int:
    found = _QUANTITY.fullmatch(text.strip())
    if found is None or found[2] not in units:
        known = ", ".join(units)
        raise ValueError(
            f"is no {what}; write a number and its unit, like {example} (units: {known})"
        )
    value = round(Decimal(found[1]) * units[found[2]])
    if not value:
        raise ValueError("must be more than nothing")
    return value
