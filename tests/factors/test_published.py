"""The arithmetic reproduces what papers printed."""

from decimal import Decimal

import pytest

from wattkeeper.factors.series import constant
from wattkeeper.factors.units import PUE, carbon_unit
from wattkeeper.factors.weights import Amount, Valuation, apportion, value
from wattkeeper.model.microjoules import UJ_PER_KWH

SLOT_MS = 900_000
MG_PER_LB = Decimal("453592.37")


def valuation(pue: str, intensity: str, unit: str) -> Valuation:
    """Return the valuation by two constants."""
    return value(
        None,
        constant(carbon_unit(unit).rate(Decimal(intensity))),
        constant(PUE.rate(Decimal(pue))),
        since_ms=0,
        until_ms=SLOT_MS,
        slot_ms=SLOT_MS,
    )


def energy_uj(watts: str, hours: str, devices: int = 1) -> int:
    """Return what that many devices use."""
    return round(Decimal(watts) * Decimal(hours) * devices * UJ_PER_KWH / 1000)


def milligrams(found: Amount, by: Valuation) -> int:
    """Return an amount's carbon."""
    assert found.carbon is not None
    return apportion([found.carbon], by.per_gram)[0]


STRUBELL = [
    ("Transformer base, 8 P100", "1415.78", "12", 27, 26),
    ("Transformer big, 8 P100", "1515.43", "84", 201, 192),
    ("ELMo, 3 P100", "517.66", "336", 275, 262),
    # The table rounds its 3.3 days to 79 h; the text has 79.2.
    ("BERT base, 64 V100", "12041.51", "79.2", 1507, 1438),
    ("NAS, 8 P100", "1515.43", "274120", 656_347, 626_155),
]


@pytest.mark.parametrize(("watts", "hours", "kwh", "pounds"), [row[1:] for row in STRUBELL])
def test_strubell_2019_table_3(watts: str, hours: str, kwh: int, pounds: int) -> None:
    """`kWh = 1.58 t W / 1000`, `lbs = 0.954 kWh` (Strubell, Ganesh, McCallum: ACL 2019)."""
    own = valuation("1.58", "0.954", "lb/kWh")
    used = energy_uj(watts, hours)
    assert kwh == round(Decimal("1.58") * used / UJ_PER_KWH)
    assert pounds == round(milligrams(own.amount({0: used}), own) / MG_PER_LB)


PATTERSON = [
    ("Evolved Transformer", "7.5", "1.10", "0.431", "3.2"),
    ("T5", "85.7", "1.12", "0.545", "46.7"),
    ("GShard-600B, net", "24.1", "1.09", "0.177", "4.3"),
    ("Switch Transformer, net", "179", "1.10", "0.330", "59.1"),
    ("GPT-3", "1287", "1.10", "0.429", "552.1"),
]


@pytest.mark.parametrize(("mwh", "pue", "intensity", "tonnes"), [row[1:] for row in PATTERSON])
def test_patterson_2021_table_4(mwh: str, pue: str, intensity: str, tonnes: str) -> None:
    """Energy of the facility times intensity (Patterson et al.: arXiv 2104.10350).

    Their energies hold the PUE already, so what the machines used is that, over the PUE.
    """
    own = valuation(pue, intensity, "kg/kWh")
    machines = round(Decimal(mwh) * 1000 * UJ_PER_KWH / Decimal(pue))
    found = Decimal(milligrams(own.amount({0: machines}), own)) / 10**9
    assert Decimal(tonnes) == round(found, 1)


@pytest.mark.parametrize(
    ("devices", "watts", "days", "pue", "mwh"),
    [
        (512, "310", "20", "1.12", 85.7),  # T5
        (1024, "289", "30", "1.09", 232),  # Meena
        (1024, "288", "3.1", "1.09", 24.1),  # GShard-600B
        (1024, "245", "27", "1.10", 179),  # Switch Transformer
        (10_000, "330", "14.8", "1.10", 1287),  # GPT-3
    ],
)
def test_patterson_2021_energy(devices: int, watts: str, days: str, pue: str, mwh: float) -> None:
    """Chips, watts, days and PUE come to the energy printed, as far as they are printed."""
    used = energy_uj(watts, str(Decimal(days) * 24), devices)
    assert mwh == pytest.approx(float(Decimal(pue) * used / UJ_PER_KWH / 1000), rel=0.01)


@pytest.mark.parametrize(
    ("kwh", "pue", "grams", "tonnes"),
    [
        ("433196", "1", "57", "24.7"),  # BLOOM, dynamic energy
        ("433000", "1.2", "57", "30"),  # the same with the PUE of its centre
        ("1066000", "1.08", "330", "380"),  # Gopher
    ],
)
def test_luccioni_2022(kwh: str, pue: str, grams: str, tonnes: str) -> None:
    """Carbon of BLOOM and of its like (Luccioni, Viguier, Ligozat: arXiv 2211.02001)."""
    own = valuation(pue, grams, "gCO2eq/kWh")
    found = Decimal(milligrams(own.amount({0: int(kwh) * UJ_PER_KWH}), own)) / 10**9
    digits = len(tonnes.partition(".")[2])
    assert Decimal(tonnes) == round(found, digits)
