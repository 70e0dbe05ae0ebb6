"""A day of a fleet in small: real agents, real intake and ledger, every fault, known truth."""

import itertools
import logging
from collections.abc import Iterable
from pathlib import Path

import pytest

from wattkeeper.simulation.faults import Kind, schedule
from wattkeeper.simulation.figures import JobFigure, quantile
from wattkeeper.simulation.fleet import Shape
from wattkeeper.simulation.run import Campaign
from wattkeeper.simulation.verify import (
    EXCLUSIVE_MARKED,
    EXCLUSIVE_UNMARKED,
    MISSED_EPILOG,
    THROUGH,
    UNTOLD,
    Verdict,
)

START = 1_790_000_100_000
NODES, GPUS, SECONDS = 24, 8, 900


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Hundreds of agents that lose their aggregator would bury the figures."""
    caplog.set_level(logging.CRITICAL)


async def run(folder: Path, shape: Shape, seconds: int, *, with_faults: bool) -> Verdict:
    """Run a campaign and print its figures."""
    verdict = await Campaign(shape, seconds * 1000, folder, with_faults).run()
    print()
    print(verdict.report())
    return verdict


def idle_beyond(figures: Iterable[JobFigure]) -> list[JobFigure]:
    """Return whose allocated idle energy is off by more than a period at each turn.

    After a missed epilog a job keeps its GPUs for a while, at rest.
    """
    return [
        f
        for f in figures
        if f.kind != MISSED_EPILOG and abs(f.booked_idle_uj - f.true_idle_uj) > f.idle_within_uj
    ]


def beyond(figures: Iterable[JobFigure]) -> list[JobFigure]:
    """Return which jobs with GPUs of their own are off by more than a period at each edge."""
    kinds = {EXCLUSIVE_MARKED, EXCLUSIVE_UNMARKED}
    return [f for f in figures if f.kind in kinds and abs(f.booked_uj - f.true_uj) > f.within_uj]


@pytest.mark.long
async def test_a_day_with_every_fault(tmp_path: Path) -> None:
    """Residual 0 on every meter, coverage as it truly was, no joule lost or booked twice."""
    verdict = await run(tmp_path, Shape(NODES, GPUS, START), SECONDS, with_faults=True)
    assert verdict.wrong == []
    assert verdict.residual_uj == 0
    assert verdict.meters == NODES * (GPUS + 5)
    assert len(Kind) - 1 <= verdict.faults
    unmeasured = verdict.unmeasured_s / (verdict.meters * SECONDS)
    assert verdict.coverage == pytest.approx(1 - unmeasured, abs=0.001)
    undisturbed = [f for f in verdict.figures if THROUGH not in f.kind and UNTOLD not in f.kind]
    assert len(undisturbed) > 200
    assert beyond(undisturbed) == []
    assert idle_beyond(undisturbed) == []
    requeued = len(verdict.figures) - len({figure.job_id for figure in verdict.figures})
    assert requeued > 10


@pytest.mark.long
async def test_without_faults_everything_is_covered(tmp_path: Path) -> None:
    """Nothing is unmeasured, nothing is a gap, and no job is off by a sampling period."""
    verdict = await run(tmp_path, Shape(16, GPUS, START, seed=3), 600, with_faults=False)
    assert verdict.wrong == []
    assert verdict.residual_uj == 0
    assert verdict.gap_uj == 0
    assert verdict.unmeasured_s == 0
    assert pytest.approx(verdict.coverage) == 1.0
    assert beyond(verdict.figures) == []
    assert idle_beyond(f for f in verdict.figures if UNTOLD not in f.kind) == []
    marked = [figure for figure in verdict.figures if figure.kind == EXCLUSIVE_MARKED]
    assert len(marked) > 40
    assert quantile([figure.error for figure in marked], 0.95) <= 0.003
    # Nobody on the node saw these joules: the scheduler's grants brought them to their jobs.
    unmarked = [figure for figure in verdict.figures if figure.kind == EXCLUSIVE_UNMARKED]
    assert len(unmarked) > 25
    true_uj = sum(figure.true_idle_uj for figure in unmarked)
    assert true_uj > 5 * 10**10
    assert sum(figure.booked_idle_uj for figure in unmarked) == pytest.approx(true_uj, rel=0.15)


@pytest.mark.long
async def test_the_same_seed_gives_the_same_books(tmp_path: Path) -> None:
    """Everything that happens, faults included, follows from the seed."""
    shape = Shape(8, 2, START, seed=7)
    one = await run(tmp_path / "one", shape, 400, with_faults=True)
    again = await run(tmp_path / "again", shape, 400, with_faults=True)
    assert one.figures == again.figures
    assert one.measured_uj == again.measured_uj
    assert one.unmeasured_s == again.unmeasured_s


@pytest.mark.parametrize("seed", range(5))
def test_the_schedule_has_every_kind_and_leaves_nodes_time_to_recover(seed: int) -> None:
    """Each kind strikes; no node has two faults at once; all are over before the end."""
    nodes = [f"n{number}" for number in range(64)]
    faults = schedule(seed, nodes, START, SECONDS * 1000)
    assert {kind for kind in Kind if kind is not Kind.BACKED_UP} == {f.kind for f in faults}
    assert all(START < f.at_ms <= f.until_ms <= START + SECONDS * 900 for f in faults)
    for node in nodes:
        own = sorted((f.at_ms, f.until_ms) for f in faults if f.node == node)
        assert all(a[1] < b[0] for a, b in itertools.pairwise(own))
