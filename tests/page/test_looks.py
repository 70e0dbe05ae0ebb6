"""Colours that every eye can read, and pictures that are true to their figures."""

import re
from importlib import resources
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.aggregator.page.charts import LOOKS, Chart, power_chart
from wattkeeper.aggregator.page.heat import STEPS, heat_map, scale_of

CSS = (resources.files("wattkeeper.aggregator.page") / "static" / "page.css").read_text()


def _colours(theme: str) -> dict[str, str]:
    """Return the colours of a theme, `light` or `dark`, by their names."""
    light, dark = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)[:2]
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", light))
    return found if theme == "light" else found | dict(re.findall(r"--([\w-]+): (#\w+)", dark))


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * one for one in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast(theme: str) -> None:
    """WCAG 2.2 AA: 4.5 to 1 for text on every ground that it stands on."""
    colours = _colours(theme)
    for ground in ("paper", "wash"):
        for ink in ("ink", "muted", "accent", "good", "bad"):
            assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


@pytest.mark.parametrize(("theme", "first_light"), [("light", 6), ("dark", 0)])
def test_heat_is_told_by_lightness_alone(theme: str, first_light: int) -> None:
    """Its colours are ordered by luminance, and the figures on them can be read."""
    colours = _colours(theme)
    scale = [colours[f"h{step}"] for step in range(STEPS)]
    order = sorted(scale, key=_luminance, reverse=theme == "light")
    assert order == scale
    for step, colour in enumerate(scale):
        light = step >= first_light if theme == "light" else step < 5
        assert _contrast(colour, colours["light-ink" if light else "dark-ink"]) >= 4.5, step


@given(st.lists(st.none() | st.floats(0, 5000), max_size=20))
def test_every_value_has_a_colour_and_greater_ones_are_no_cooler(
    values: list[float | None],
) -> None:
    """On each scale; what is not known has a look of its own."""
    for scale in (scale_of("power", values), scale_of("temperature", values)):
        known = sorted(value for value in values if value is not None)
        steps = [int(scale.step(value)[1:]) for value in known]
        assert sorted(steps) == steps
        assert set(steps) <= set(range(STEPS))
        assert scale.step(None) == "hx"


def _top(drawn: Chart) -> float:
    columns = zip(*(one.values for one in drawn.series), strict=True)
    return max(sum(value or 0 for value in column) for column in columns)


def test_a_large_fleet_has_a_cell_for_each_node() -> None:
    """By the hottest of its GPUs, the mean of their power; racks and nodes as people count."""
    nodes = [
        SimpleNamespace(
            cluster="west", node=f"n{number}", state="live" if number else "silent", watts=1000.0,
            groups={"rack": f"r{number % 11}"}, gpus_expected=8,
            gpus=SimpleNamespace(
                count=8, watts=800.0, hottest_celsius=89.0, mean_utilization=0.5
            ) if number else None,
        )
        for number in range(22)
    ]  # fmt: skip
    drawn = heat_map(nodes, None, "temperature", "rack")
    assert drawn.size == "coarse"
    assert list(drawn.groups) == [f"r{number}" for number in range(11)]
    assert [node.name for node in drawn.groups["r10"]] == ["n10", "n21"]
    looks = {node.name: [cell.look for cell in node.cells] for node in drawn.groups["r0"]}
    assert looks == {"n0": ["hx"], "n11": ["h8"]}
    (cell,) = heat_map(nodes, None, "power", "rack").groups["r1"][0].cells
    assert cell.title == "n1 · 100 W"


def _answer(series: list[list[float | None]]) -> Any:
    listed = [
        SimpleNamespace(labels={"component": f"c{number}"}, values=values)
        for number, values in enumerate(series)
    ]
    return SimpleNamespace(
        series=listed, unit="watts", step_seconds=10, omitted_series=0, since="2026-11-23T20:15:00Z"
    )


@given(st.integers(1, 30).flatmap(lambda n: st.lists(
    st.lists(st.none() | st.floats(0, 1e6), min_size=n, max_size=n), min_size=1, max_size=12,
)))  # fmt: skip
def test_a_plot_loses_nothing(series: list[list[float | None]]) -> None:
    """However many series there are, they have a colour each, and every instant its sum."""
    drawn = power_chart(_answer(series), "Power", lambda labels: labels["component"], "/v1")
    assert len(drawn.series) == min(len(series), LOOKS)
    assert [one.look for one in drawn.series] == list(range(len(drawn.series)))
    for at in range(len(series[0])):
        before = sum(values[at] or 0 for values in series)
        after = sum(one.values[at] or 0 for one in drawn.series)
        assert pytest.approx(before) == after
    for (_, path), one in zip(drawn.still, reversed(drawn.series), strict=True):
        corners = [tuple(map(float, point.split(","))) for point in path[1:-1].split("L")]
        area = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise((*corners, corners[0])))
        share = sum(value or 0 for value in one.values) / (len(one.values) * (_top(drawn) or 1))
        assert abs(abs(area) / 2 / (600 * 150) - share) < 0.05
