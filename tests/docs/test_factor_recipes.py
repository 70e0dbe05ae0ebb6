"""The recipes of docs/operations.md for factors are settings, and read what the services answer."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.factors.test_loading import ELECTRICITY_MAPS, NOW_MS, UK
from wattkeeper.factors.answer import read
from wattkeeper.factors.settings import FactorSection, FactorsSection
from wattkeeper.factors.table import read as read_table
from wattkeeper.factors.units import price_unit, rate_text

_PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text("utf-8")
_SECTION = _PAGE.split("## Price, carbon and PUE")[1].split("\n## ")[0]
_BLOCKS = re.findall(r"```toml\n(.*?)```", _SECTION, re.DOTALL)


@pytest.mark.parametrize("block", _BLOCKS)
def test_every_block_is_valid(block: str) -> None:
    """As the aggregator reads it."""
    FactorsSection.model_validate(tomllib.loads(block)["factors"])


def _fetched(host: str) -> FactorSection:
    (block,) = (block for block in _BLOCKS if host in block)
    return FactorsSection.model_validate(tomllib.loads(block)["factors"]).carbon


@pytest.mark.parametrize(
    ("host", "answer", "expected"),
    [("electricitymaps", ELECTRICITY_MAPS, ["322", "310.5"]), ("org.uk", UK, ["263", "260"])],
)
def test_services_are_read(host: str, answer: dict[str, object], expected: list[str]) -> None:
    """What the recipe finds in an answer as the service documents it."""
    section = _fetched(host)
    found = read(json.dumps(answer).encode(), section.recipe, section.measure, NOW_MS)
    assert expected == [rate_text(value.rate) for value in found]
    assert [False, True] == [value.estimated for value in found]


def test_the_table_is_one(tmp_path: Path) -> None:
    """With prices per MWh."""
    (table,) = re.findall(r"```\n(time,value\n.*?)```", _SECTION, re.DOTALL)
    path = tmp_path / "price.csv"
    path.write_text(table, "utf-8")
    values = read_table(path, price_unit("EUR/MWh")).values
    assert ["0.2147", "0.1982"] == [rate_text(value.rate) for value in values]
