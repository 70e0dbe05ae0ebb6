"""A chip's power stays within its limits and its holders' true energy adds up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.simulation.chip import Chip, ChipKind, Demand
from wattkeeper.simulation.waveform import Pattern

KIND = ChipKind(idle_mw=70_000, peak_mw=720_000, limit_mw=700_000)
HOT = ChipKind(idle_mw=70_000, peak_mw=720_000, limit_mw=700_000, rise_mc_per_w=120)


def test_an_exclusive_holder_pays_for_everything_from_edge_to_edge() -> None:
    """Idle power before its first kernel is its own as well."""
    chip = Chip(KIND, 0)
    chip.attach(1_000, "a", Demand(Pattern((1, 0))))
    chip.attach(1_500, "a", Demand(Pattern((60, 400_000), (40, 100_000))))
    used = chip.detach(3_500, "a")
    assert used == 70_000 * 2_500 + 280_000 * 2_000
    assert chip.wave.energy_uj(3_500) - chip.wave.energy_uj(1_000) == used


def test_the_power_limit_caps_and_counts_throttled_time() -> None:
    """What is asked beyond the limit is not drawn, and that time is counted."""
    chip = Chip(KIND, 0)
    chip.attach(0, "a", Demand(Pattern((30, 690_000), (70, 100_000))))
    assert chip.wave.power_mw(10) == 700_000
    assert chip.wave.power_mw(50) == 170_000
    assert chip.throttled.energy_uj(1_000) == 300


def test_warms_to_its_steady_temperature_with_its_time_constant() -> None:
    """First order: 63 % of the way after one time constant."""
    chip = Chip(KIND, 0, ambient_mc=30_000)
    cool = chip.temperature_mc(0)
    chip.attach(0, "a", Demand(Pattern((1, 400_000))))
    steady = 30_000 + 470 * 80
    assert cool == 30_000 + 70 * 80
    assert chip.temperature_mc(KIND.inertia_ms) == pytest.approx(
        steady + (cool - steady) * 0.367879, abs=1
    )
    assert chip.temperature_mc(20 * KIND.inertia_ms) == pytest.approx(steady, abs=1)


def test_a_hot_chip_slows_itself_down_and_stays_there() -> None:
    """Beyond the slowdown temperature it draws what it can hold."""
    chip = Chip(HOT, 0, ambient_mc=35_000)
    chip.attach(0, "a", Demand(Pattern((1, 600_000))))
    assert chip.wave.power_mw(0) == 670_000
    assert chip.wave.power_mw(200_000) == 433_333
    assert HOT.slowdown_mc == chip.temperature_mc(200_000)
    assert 0 < chip.throttled.energy_uj(200_000) < 200_000
    late = [chip.temperature_mc(at) for at in range(0, 200_000, 250)]
    assert max(late) <= HOT.slowdown_mc
    chip.detach(200_000, "a")
    assert chip.wave.power_mw(200_001) == 70_000


loads = st.lists(
    st.tuples(st.integers(1, 5_000), st.integers(1, 4_000), st.integers(0, 300_000)),
    min_size=1,
    max_size=4,
)


@given(loads)
def test_holders_of_a_shared_chip_and_idle_add_up(loads: list[tuple[int, int, int]]) -> None:
    """Static by reservation, the rest by what each asked: nothing is booked twice."""
    chip = Chip(KIND, 0)
    edges: list[tuple[int, int, int | None]] = []
    for number, (start, lasts, power) in enumerate(loads):
        edges += [(start, number, power), (start + lasts, number, None)]
    used = 0
    for at_ms, number, power_mw in sorted(edges, key=lambda edge: (edge[0], edge[2] is not None)):
        if power_mw is None:
            used += chip.detach(at_ms, str(number))
        else:
            demand = Demand(Pattern((1, power_mw)), reserved_ppm=250_000, exclusive=False)
            chip.attach(at_ms, str(number), demand)
    end = max(at_ms for at_ms, _, _ in edges)
    total = chip.wave.energy_uj(end)
    idle = KIND.idle_mw * end
    reserved = sum(KIND.idle_mw * lasts * 250_000 // 1_000_000 for _, lasts, _ in loads)
    assert 0 <= total - idle + reserved - used <= 8 * len(edges)
