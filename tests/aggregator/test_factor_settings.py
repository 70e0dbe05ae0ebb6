"""The section `factors`, as the aggregator reads it from file and environment."""

from decimal import Decimal
from pathlib import Path

import pytest

from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.aggregator.opening import StartError, open_factors
from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.ledger.store import Ledger
from wattkeeper.settings import ConfigError, load

FILE = """\
[factors.price]
value = 0.2147
unit = "EUR/kWh"
[factors.pue]
value = 1.2
"""


def read(tmp_path: Path, text: str, **environ: str) -> AggregatorSettings:
    """Load a file and variables."""
    path = tmp_path / "aggregator.toml"
    path.write_text(text, "utf-8")
    named = {f"WATTKEEPER_AGGREGATOR_FACTORS__{name}": value for name, value in environ.items()}
    return load(AggregatorSettings, program="aggregator", config_path=path, environ=named)


def test_file_and_environment(tmp_path: Path) -> None:
    """The environment beats the file, key by key."""
    found = read(tmp_path, FILE, PRICE__VALUE="0.3", CARBON__VALUE="380").factors
    assert (Decimal("0.3"), "EUR/kWh") == (found.price.value, found.price.unit)
    assert (Decimal(380), Decimal("1.2")) == (found.carbon.value, found.pue.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[factors.price]\nvalue = 0.2\n", "factors.price"),
        ("[factors.price]\nprice = 0.2\n", "unknown key"),
        ("[factors.pue]\nvalue = 0.2\n", "not below 1"),
        ("[factors.water]\nvalue = 0.2\n", "factors.water: unknown key"),
    ],
)
def test_what_cannot_be_meant_names_the_key(tmp_path: Path, text: str, said: str) -> None:
    """As everywhere in the configuration."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"), [("time,value\n2026-01-01,-5\n", "not below 0"), (None, "cannot be read")]
)
def test_an_aggregator_does_not_start_without_its_table(
    tmp_path: Path, content: str | None, said: str
) -> None:
    """The message names the key, the file and the reason."""
    path = tmp_path / "carbon.csv"
    if content is not None:
        path.write_text(content, "utf-8")
    settings = read(tmp_path, f'[factors.carbon]\nfile = "{path}"\n')
    ledger = Ledger.open("sqlite://")
    with pytest.raises(StartError) as caught:
        open_factors(settings, ledger, Troubles())
    ledger.close()
    assert f"factors.carbon.file: {path}" in str(caught.value)
    assert said in str(caught.value)
