"""The tables of "Worked examples" in `docs/accounting.md` are what the splitter computes."""

from fractions import Fraction
from pathlib import Path

import pytest

from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.metering.splitting import Part, split
from wattkeeper.model.holder import Account
from wattkeeper.model.meter import Component

PAGE = Path(__file__).parents[2] / "docs/accounting.md"
TABLES = {"MIG": Component.GPU, "turns": Component.GPU, "socket": Component.CPU}


def table(name: str) -> list[list[str]]:
    """Return the rows of the table whose first heading is `name`."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith(f"| {name} | reserved |"))
    rows = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def number(cell: str) -> Fraction:
    """Return a cell's number without its unit."""
    return Fraction(cell.partition(" ")[0])


def claim(row: list[str]) -> Claim:
    """Return the claim that a row describes."""
    name, reserved, active = row[:3]
    ppm = round(number(reserved) * 10**6)
    return Claim(
        None if name == "system" else HolderKey("doc", name, 0),
        weight=round(number(active) * 10**6),
        reserved_ppm=ppm or None,
        compute_ppm=round(number(active) * 10**6) if "g." in name else None,
        allocated=name != "system",
    )


@pytest.mark.parametrize("name", TABLES)
def test_the_table_is_what_is_booked(name: str) -> None:
    """Every row pays what the page says, to a microjoule, and the rows are all there is."""
    rows = table(name)
    micro = [[round(number(cell) * 10**6) for cell in row[3:]] for row in rows]
    static, dynamic, pays = (sum(row[i] for row in micro) for i in range(3))
    total = round(pays, -3)
    claims = [claim(row) for row in rows if row[0] != "idle"]
    if name == "turns":
        claims = [Claim(c.holder, c.weight, allocated=True) for c in claims]
    parts = split(TABLES[name], total, round(static, -3), claims)
    assert (abs(total - pays) <= 2, abs(total - static - dynamic) <= 2) == (True, True)
    assert [who(part) for part in parts] == [row[0] for row in rows]
    for part, row in zip(parts, micro, strict=True):
        assert abs(part.uj - row[2]) <= 2
        assert abs((part.uj if part.idle else 0) - row[3]) <= 2


def who(part: Part) -> str:
    """Return the row's name of a payer."""
    if isinstance(part.payer, Account):
        return part.payer.name.lower()
    return part.payer.raw_id
