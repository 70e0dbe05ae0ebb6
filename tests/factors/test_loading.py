"""Factors from files, answers and settings: what is read, and what is said where it cannot be."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from wattkeeper.factors.answer import AnswerError, Recipe
from wattkeeper.factors.answer import read as read_answer
from wattkeeper.factors.instants import instant_ms
from wattkeeper.factors.series import Value
from wattkeeper.factors.settings import CarbonSection, FactorsSection, PriceSection
from wattkeeper.factors.table import TableError
from wattkeeper.factors.table import read as read_table
from wattkeeper.factors.units import RATE, carbon_unit, price_unit

EUR, GRAMS = price_unit("EUR/kWh"), carbon_unit("g/kWh")
NOW_MS = instant_ms("2026-03-01T12:00:00Z")


def test_a_table_in_any_order(tmp_path: Path) -> None:
    """Times in any zone, estimated or not; the version is the content's."""
    path = tmp_path / "price.csv"
    path.write_text(
        "time,value,estimated\n2026-02-01,0.3,yes\n\n2026-01-01T00:00:00+01:00,0.25,\n", "utf-8"
    )
    table = read_table(path, EUR)
    assert table.values == (
        Value(instant_ms("2025-12-31T23:00:00Z"), RATE // 4),
        Value(instant_ms("2026-02-01"), 3 * RATE // 10, estimated=True),
    )
    version = table.version
    path.write_text("time,value\n2026-02-01,0.3\n", "utf-8")
    assert version != read_table(path, EUR).version


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "does not begin with"),
        ("when,value\n", "does not begin with"),
        ("time,value\n", "holds no value"),
        ("time,value\n2026-01-01T00:00:00,0.2\n", "line 2: '2026-01-01T00:00:00' has no time zone"),
        ("time,value\n2026-01-01,cheap\n", "line 2: 'cheap' is no number"),
        ("time,value\n2026-01-01,NaN\n", "can be meant"),
        ("time,value\n2026-01-01,1e30\n", "can be meant"),
        ("time,value\n2026-01-01\n", "has 1 values"),
        ("time,value,estimated\n2026-01-01,1,maybe\n", "neither true nor false"),
        ("time,value\n2026-01-01,1\n2026-01-01T00:00Z,2\n", "two values for one time"),
        ("\xff", "no text in UTF-8"),
    ],
)
def test_a_table_that_is_none(tmp_path: Path, content: str, said: str) -> None:
    """The message names the file, the line and what is wrong."""
    path = tmp_path / "price.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(TableError, match=r"price\.csv") as caught:
        read_table(path, EUR)
    assert said in str(caught.value)


ELECTRICITY_MAPS: dict[str, Any] = {
    "zone": "DE",
    "history": [
        {"carbonIntensity": 322, "datetime": "2026-03-01T10:00:00.000Z", "isEstimated": False},
        {"carbonIntensity": 310.5, "datetime": "2026-03-01T11:00:00.000Z", "isEstimated": True},
    ],
}
UK = {
    "data": [
        {
            "from": "2026-03-01T11:30Z",
            "to": "2026-03-01T12:00Z",
            "intensity": {"forecast": 266, "actual": 263, "index": "moderate"},
        },
        {
            "from": "2026-03-01T12:00Z",
            "to": "2026-03-01T12:30Z",
            "intensity": {"forecast": 260, "actual": None, "index": "moderate"},
        },
        {"from": "2026-03-01T12:30Z", "intensity": {"forecast": 250, "actual": None}},
    ]
}


def test_electricity_maps_answer() -> None:
    """A list of hours, each with its mark; numbers keep their digits."""
    recipe = Recipe("carbonIntensity", "datetime", items="history", estimated="isEstimated")
    found = read_answer(json.dumps(ELECTRICITY_MAPS).encode(), recipe, GRAMS, NOW_MS)
    assert found == [
        Value(instant_ms("2026-03-01T10:00Z"), 322 * RATE),
        Value(instant_ms("2026-03-01T11:00Z"), 3105 * RATE // 10, estimated=True),
    ]
    latest = json.dumps(ELECTRICITY_MAPS["history"][0]).encode()
    assert found[:1] == read_answer(latest, Recipe("carbonIntensity", "datetime"), GRAMS, NOW_MS)


def test_uk_answer() -> None:
    """A forecast counts as estimated while there is no value; the future does not count."""
    recipe = Recipe("intensity.actual", "from", items="data", forecast="intensity.forecast")
    found = read_answer(json.dumps(UK).encode(), recipe, GRAMS, NOW_MS)
    assert [(value.rate // RATE, value.estimated) for value in found] == [(263, False), (260, True)]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"\xff", "is no JSON"),
        (b'{"error": "no such zone"}', "has no value at 'v': there is error"),
        (b'{"v": "much", "t": "2026-01-01"}', "'much' at 'v' is no number"),
        (b'{"v": true, "t": "2026-01-01"}', "is no number"),
        (b'{"v": {"a": 1}, "t": "2026-01-01"}', "is no number"),
        (b'{"v": 1}', "has no time at 't'"),
        (b'{"v": 1, "t": 1e2000000}', "not between 1970 and 2100"),
        (b'{"v": 1, "t": -1e2000000}', "not between 1970 and 2100"),
        (b'{"v": 1e2000000, "t": 1}', "can be meant"),
        (b'{"v": -1e-2000000, "t": 1}', "can be meant"),
        (b'{"v": "0e2000000", "t": 1}', "can be meant"),
        (b'{"v": 1%s, "t": 1}' % (b"0" * 5000), "is no JSON"),
        (b'{"v": 1e%s, "t": 1}' % (b"9" * 30), "is no JSON"),
        (b'{"v": 1, "t": "soon"}', "'soon' is no time"),
        (b'{"v": 1, "t": null}', "'None' is no time"),
        (b'{"v": 1e40, "t": "2026-01-01"}', "can be meant"),
        (b"[]", "has no value"),
    ],
)
def test_an_answer_without_a_factor(body: bytes, said: str) -> None:
    """The message says what is there instead."""
    with pytest.raises(AnswerError) as caught:
        read_answer(body, Recipe("v", "t"), EUR, NOW_MS)
    assert said in str(caught.value)


@given(st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("vti"), inner),
    max_leaves=10,
))  # fmt: skip
def test_any_json_is_a_value_or_a_message(answer: Any) -> None:
    """Nothing else is raised, whatever an endpoint sends."""
    recipe = Recipe("v", "t", items="i", estimated="v.t", forecast="t")
    try:
        found = read_answer(json.dumps(answer).encode(), recipe, EUR, NOW_MS)
    except AnswerError:
        return
    assert all(value.at_ms <= NOW_MS for value in found)


def test_unix_times_in_seconds_or_milliseconds() -> None:
    """As exchanges write them."""
    for written in (1_772_366_400, 1_772_366_400_000, Decimal("1772366400.0")):
        assert instant_ms(written) == NOW_MS


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        (PriceSection, {"value": "0.2"}, "is no unit of a price"),
        (PriceSection, {"value": "0.2", "unit": "€/kWh"}, "is no unit of a price"),
        (CarbonSection, {"value": "-1"}, "not below 0"),
        (CarbonSection, {"file": "a.csv", "url": "https://a/b"}, "choose one"),
        (CarbonSection, {"url": "https://a/b"}, "wants value_path and time_path"),
        (CarbonSection, {"value": 1, "value_path": "a"}, "belongs to url"),
        (CarbonSection, {"url": "https://me:secret@a/b"}, "put it into token_file"),
        (CarbonSection, {"url": "ftp://a/b"}, "is no address"),
        (CarbonSection, {"value": 1, "token_header": "a: b"}, "is no name of a header"),
        (CarbonSection, {"value": 1, "holds": "0s"}, "out of range"),
        (FactorsSection, {"pue": {"value": 0.9}}, "not below 1"),
        (FactorsSection, {"pue": {"value": 1.1, "unit": "g/kWh"}}, "'1'"),
        (FactorsSection, {"water": {"value": 1}}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_be_meant_so(section: Any, values: Any, said: str) -> None:
    """The message names what to do."""
    with pytest.raises(ValidationError) as caught:
        section.model_validate(values)
    assert said in str(caught.value)


def test_settings_that_can() -> None:
    """A number of TOML keeps its digits."""
    own = FactorsSection.model_validate(
        {"price": {"value": 0.2147, "unit": "EUR/kWh"}, "pue": {"value": "1.12"}}
    )
    assert own.price.value == Decimal("0.2147")
    assert (own.price.given, own.carbon.given, own.pue.given) == (True, False, True)
    fetched = CarbonSection(url="https://a/b", value_path="v", time_path="t")
    assert (fetched.holds_ms, own.price.holds_ms) == (3_600_000, None)
