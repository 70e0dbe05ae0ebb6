"""The roles of `docs/security.md` are those that are enforced."""

import re
from pathlib import Path

from tests.aggregator.test_access import MAY

_PAGE = (Path(__file__).parents[2] / "docs/security.md").read_text()


def test_the_table_of_roles() -> None:
    """Every endpoint stands in it, with everybody who may ask."""
    told: dict[tuple[str, str], set[str]] = {}
    lines = iter(_PAGE.partition("| asked for |")[2].splitlines())
    roles = [one.strip() for one in next(lines).split("|")[:-1]]
    next(lines)
    for line in lines:
        if not line:
            break
        _, asked, *marks, _ = line.split("|")
        may = {role for role, mark in zip(roles, marks, strict=True) if mark.strip()}
        for method, path in re.findall(r"`(GET|POST) (\S+)`", asked):
            told[method, path] = may
    assert MAY == told
