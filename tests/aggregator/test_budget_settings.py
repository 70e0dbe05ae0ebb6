"""Mistakes in `budgets` and `alerts`: each is told with its field and what to write instead."""

from pathlib import Path

import pytest

from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.settings import ConfigError, load, load_with_origins

GOOD = """
[groups.rack]
r12 = ["node[001-018]"]
[budgets.site]
demand = "1.2 MW"
interval = "30m"
timezone = "Europe/Berlin"
days = ["mon", "fri"]
hours = "07:00-20:00"
holidays = ["12-25", "2026-04-03"]
[budgets.rack]
watts = "40kW"
group = "rack=r12"
inside = "site"
[budgets.vision]
energy = "40MWh"
per = "day"
account = "vision"
cluster = "west"
warn = 0.8
[alerts]
via = "webhook"
url = "https://hooks.example/power"
"""


def read(tmp_path: Path, text: str) -> AggregatorSettings:
    """Load a configuration file."""
    path = tmp_path / "aggregator.toml"
    path.write_text(text)
    return load(AggregatorSettings, program="aggregator", config_path=path, environ={})


def test_a_good_one(tmp_path: Path) -> None:
    """As the documentation has it."""
    found = read(tmp_path, GOOD)
    vision = found.budgets["vision"].budget("vision")
    assert (vision.limit, vision.warn_at, str(vision.scope)) == (
        144 * 10**15, 0.8, "account vision of cluster west",
    )  # fmt: skip
    assert found.alerts.url == ("https://hooks.example/power",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[budgets.b]\nwatts = "40"', r"budgets\.b\.watts: '40' is no power; write a number"),
        ('[budgets.b]\nenergy = "4kW"', r"budgets\.b\.energy: '4kW' is no energy"),
        ("[budgets.b]\n", r"budgets\.b: .*none is set"),
        ('[budgets.b]\nwatts = "4W"\ndemand = "4W"', r"budgets\.b: .*watts and demand are set"),
        ('[budgets.b]\nwatts = "4W"\nuser = "a"\nnode = "n"', r"budgets\.b: user: node is set too"),
        ('[budgets.b]\nwatts = "4W"\nper = "day"', r"budgets\.b: per: belongs to energy"),
        ('[budgets.b]\nenergy = "4Wh"\ninterval = "15m"', r"interval: belongs to demand"),
        ('[budgets.b]\nenergy = "4Wh"\ndays = ["mon"]', r"energy counts at any time"),
        ('[budgets.b]\ndemand = "4W"\ninterval = "20m"', r"budgets\.b\.interval: .*15m or 30m"),
        ('[budgets.b]\nwatts = "4W"\nhours = "7-20"', r"budgets\.b\.hours: .*like 07:00"),
        ('[budgets.b]\nwatts = "4W"\nholidays = ["Xmas"]', r"budgets\.b\.holidays\.0: .*no date"),
        ('[budgets.b]\nwatts = "4W"\ntimezone = "Berlin"', r"budgets\.b\.timezone: .*no time zone"),
        ('[budgets.b]\nwatts = "4W"\ngroup = "r12"', r"budgets\.b\.group: .*like rack=r12"),
        ('[budgets.b]\nwatts = "4W"\ngroup = "row=a"', r"b\.group: there are no groups 'row'"),
        ('[budgets.b]\nwatts = "4W"\ninside = "c"', r"b\.inside: there is no budget 'c'"),
        (
            '[budgets.b]\nwatts = "4W"\ninside = "c"\n[budgets.c]\nwatts = "4W"\ninside = "b"',
            r"b\.inside: goes round: b in c in b",
        ),
        ('[budgets."a b"]\nwatts = "4W"', r"'a b' is no name"),
        (
            '[ledger]\nslot = "30m"\n[budgets.b]\ndemand = "4W"',
            r"b\.interval: .*shorter than slots",
        ),
        (
            '[ledger]\nslot = "30m"\n[budgets.b]\nenergy = "4Wh"\ntimezone = "Asia/Kathmandu"',
            r"b\.timezone: .*begin within slots of 30m",
        ),
        ('[budgets.b]\nwatt = "4W"', r"budgets\.b\.watt: unknown key; did you mean watts\?"),
        ('[alerts]\nvia = "webhook"', r"alerts: url: is missing"),
        ('[alerts]\nurl = "http://am"', r"alerts: .*belong to via"),
        ('[alerts]\nvia = "webhook"\nurl = "am:9093"', r"alerts\.url: .*no address"),
        ('[alerts]\nvia = "webhook"\nurl = "http://a:bc@d"', r"alerts\.url: .*holds a password"),
        ('[alerts]\nvia = "webhook"\nurl = ["http://a", "http://b"]', r"a webhook is one address"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    """One line, with file and field."""
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, text)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(str(tmp_path / "aggregator.toml"))


def test_the_environment() -> None:
    """Fields of one budget may stand there, and their origin is told."""
    name = "WATTKEEPER_AGGREGATOR_BUDGETS__SITE__WATTS"
    found = load_with_origins(
        AggregatorSettings, program="aggregator", environ={name: "3MW"}, overrides={}
    )
    assert found.settings.budgets["site"].watts == "3MW"
    wrong = {name.replace("WATTS", "WATT"): "3MW"}
    with pytest.raises(ConfigError, match="did you mean WATTKEEPER_AGGREGATOR_BUDGETS__SITE__WAT"):
        load(AggregatorSettings, program="aggregator", environ=wrong)
