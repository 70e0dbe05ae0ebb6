"""What the verdict excuses, and what it does not."""

import logging
from dataclasses import dataclass
from pathlib import Path

import pytest

from wattkeeper.simulation.faults import Fault, Kind
from wattkeeper.simulation.fleet import Fleet, Shape
from wattkeeper.simulation.run import Campaign

START = 1_790_000_100_000


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Agents say a lot about faults."""
    caplog.set_level(logging.CRITICAL)


@dataclass(slots=True)
class Stepped(Campaign):
    """One clock steps by a part of a second while jobs run."""

    def _faults(self, fleet: Fleet) -> list[Fault]:
        at_ms = fleet.time.now_ms + 90_000
        return [Fault(at_ms, at_ms, Kind.CLOCK_STEP, "sim002", -700)]


async def test_a_grid_between_the_readings_is_no_difference(tmp_path: Path) -> None:
    """After a step by -0.7 s windows end 0.3 s before a reading: busy GPUs draw 190 J in that."""
    verdict = await Stepped(Shape(2, 8, START), 180_000, tmp_path).run()
    assert verdict.residual_uj == 0
    assert verdict.wrong == []
