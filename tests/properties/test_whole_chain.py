"""From marks and sightings to the settled books: whatever comes when, nobody pays for another."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.properties.accounts import Payer, charges, everything, posted, settlements
from tests.properties.centre import granted
from tests.properties.fakes import ZERO_MS
from tests.properties.ownership import Ownership
from tests.properties.stories import GPUS, Job, Told, stories
from tests.properties.world import CENTRE_TURNS, NODE_TURNS, Play, World, played
from wattkeeper.holders.paths import SLURM
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.holder import Account
from wattkeeper.model.window import Split

BOOKS, OTHER_BOOKS = Ledger.open("sqlite://"), Ledger.open("sqlite://")
ROUNDING_UJ = 20
"""One for each piece of an interval."""
TICK_MS = 10
"""A process tells its start to the clock tick."""

PLAYS = st.builds(
    Play,
    stories(),
    st.lists(st.sampled_from(NODE_TURNS), min_size=1, max_size=30),
    st.lists(st.sampled_from(CENTRE_TURNS), min_size=1, max_size=30),
    st.lists(st.integers(20, 600), min_size=1, max_size=20),
)


@pytest.mark.parametrize("part", range(6))
def test_nobody_pays_for_another_and_the_accounts_sum_to_the_meter(part: int) -> None:
    """Marks, cgroups, environments, pods, processes, samples, restarts, deliveries, answers."""

    # Beyond its first ten a run of hypothesis mostly varies what it had; each part is new.
    @seed(part)
    @settings(
        max_examples=10, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(PLAYS)
    def hold(play: Play) -> None:
        check(asyncio.run(played(play, BOOKS)))

    hold()


ONCE_WRONG = {
    "a run that ended at once, and the next": Play(
        [
            Job(SLURM, "101", (0, 1), 1_489, 1_915),
            Job(SLURM, "101", (2,), 4_218, 7_853, 1, start=Told(4_076, 4_076), shown=4_326),
        ]
    ),
    "an epilog that was missed, and the next cgroup before its prolog": Play(
        [
            Job(SLURM, "101", (1,), 1_034, 4_521, start=Told(1_261, 1_261)),
            Job(SLURM, "101", (0,), 7_000, 12_000, 1, start=Told(8_200, 8_200), shown=7_100),
        ]
    ),
    "epilog, prolog and cgroup in one look": Play(
        [
            Job(SLURM, "101", (1,), 1_034, 3_521, start=Told(900, 900), end=Told(4_200, 6_900)),
            Job(SLURM, "101", (0,), 6_800, 12_000, 1, start=Told(6_500, 6_900), seen=False),
        ]
    ),
    "a start while no GPU answers, and a restart": Play(
        [Job(SLURM, "101", (0, 1), 2_093, 6_258, start=Told(2_095, 2_112), shown=2_551)],
        node=["mute", "kill", "calm", "calm", "calm", "calm", "calm", "calm"],
    ),
    "a prolog before the last cgroup is found gone": Play(
        [
            Job(
                SLURM, "101", (1,), 1_498, 6_310, seen=False, shown=1_845,
                start=Told(1_652, 1_652), end=Told(4_211, 4_211),
            ),
            Job(SLURM, "103", (0, 1), 7_500, 9_000, seen=False, start=Told(7_270, 7_270)),
        ]
    ),
}  # fmt: skip


@pytest.mark.parametrize("play", ONCE_WRONG.values(), ids=ONCE_WRONG)
def test_stories_that_once_went_wrong(play: Play) -> None:
    """Found by the test above."""
    check(asyncio.run(played(play, BOOKS)))


def test_a_story_with_known_figures() -> None:
    """Jobs between two marks, a prolog, an epilog, one that only Slurm knows, one that strays."""
    marked = Job(
        SLURM, "101", (0,), 3_500, 20_500, checks=(1_200, 3_100),
        start=Told(3_100, 3_100), end=Told(21_300, 21_300),
    )  # fmt: skip
    healed = Job(
        SLURM, "104", (0,), 31_500, 36_500, checks=(37_300, 39_100), named=False,
        start=Told(31_100, 31_100), end=Told(37_300, 37_300),
    )  # fmt: skip
    idle = Job(SLURM, "102", (1,), 5_000, 17_000)
    strays = Job(SLURM, "103", (2,), 6_200, 15_100, works=(8_100, 12_300), strays=0)
    world = asyncio.run(played(Play([marked, healed, idle, strays], centre=["round"]), BOOKS))
    check(world)
    sums: Counter[tuple[object, ...]] = Counter()
    for (_, meter, payer, _, split, _), (uj, *_) in everything(BOOKS).items():
        name = payer[0] if isinstance(payer, tuple) else payer
        if meter in GPUS and name != Account.IDLE:
            sums[name, meter, split] += uj
    # 100 W: between two marks, by the scheduler's whole seconds, while a process is there.
    assert sums == {
        (Account.SYSTEM, GPUS[0], Split.EXCLUSIVE): 190_000_000 + 180_000_000,
        ("101", GPUS[0], Split.EXCLUSIVE): 1_820_000_000,
        ("101", GPUS[0], Split.SETTLED): 70_000_000,
        ("104", GPUS[0], Split.EXCLUSIVE): 620_000_000,
        ("102", GPUS[1], Split.SETTLED): 1_200_000_000,
        ("103", GPUS[2], Split.EXCLUSIVE): 420_000_000,
    }


def check(world: World) -> None:
    """Assert all that must hold of a story."""
    check_sums(world, BOOKS)
    check_owners(world)
    check_grants(world)
    check_names(world)
    check_rhythm(world)


def check_sums(world: World, ledger: Ledger) -> None:
    """Assert that the accounts sum to what each counter has advanced while it was read."""
    answer = balance(ledger)
    assert answer.problems == []
    assert answer.residual_uj == 0
    assert {row.meter: row.measured_uj for row in answer.meters} == world.node.metered_uj


def check_owners(world: World) -> None:
    """Assert that each is charged within its ownership, and what is its own where that is sure."""
    own = Ownership(world)
    sums: Counter[tuple[Payer, str]] = Counter()
    by_job: Counter[tuple[int, str]] = Counter()
    for charge in charges(world.centre.delivered()):
        sums[charge.payer, charge.meter] += charge.uj
        if isinstance(charge.payer, int):
            continue
        number = whose(world.jobs, *charge.payer)
        by_job[number, charge.meter] += charge.uj
        span = own.of(world.jobs[number], charge.meter)
        if span is None:
            assert charge.uj == 0, charge
            continue
        # Shares tell times by whole intervals between two readings.
        assert own.read_before(span[0], charge.meter) <= charge.begin, (charge, span)
        assert charge.end <= own.read(span[1], charge.meter), (charge, span)
    assert posted(world.centre.ledger) == {key: uj for key, uj in sums.items() if uj}
    for number, job in enumerate(world.jobs):
        for meter in world.node.reads:
            charged_uj, span = by_job[number, meter], own.of(job, meter)
            most_uj = own.drawn_uj(meter, *span) if span else 0
            assert charged_uj <= most_uj + ROUNDING_UJ, (job, meter, span)
            owed_uj = own.owed_uj(job, meter)
            assert owed_uj is None or charged_uj >= owed_uj - ROUNDING_UJ, (job, meter)


def check_grants(world: World) -> None:
    """Assert that what was settled lies within its grant, and names its run."""
    for row in settlements(world.centre.ledger):
        [job] = [
            job for job in world.jobs if (job.raw_id, str(job.restarts)) == (row.raw_id, row.run)
        ]
        start_ms, end_ms = granted(job)
        both_ms = max(0, min(end_ms, row.to_ms) - max(start_ms, row.from_ms))
        most_uj = -(-row.idle_uj * both_ms // (row.to_ms - row.from_ms))
        assert job.named, row
        assert row.name in job.meters, row
        assert 0 <= row.ms <= both_ms + 1, (row, start_ms, end_ms)
        assert 0 <= row.uj <= most_uj + 1, (row, start_ms, end_ms)


def check_rhythm(world: World) -> None:
    """Assert that the same records and answers give the same books when they come at once."""
    other = world.centre.told_at_once(OTHER_BOOKS)
    check_sums(world, other.ledger)
    assert everything(other.ledger) == everything(world.centre.ledger)


def check_names(world: World) -> None:
    """Assert that what nodes booked is named by the run that it was booked to."""
    for _, _, payer, _, split, _ in everything(world.centre.ledger):
        if split != Split.SETTLED and isinstance(payer, tuple):
            raw_id, born_ms, run_of, run, *_ = payer
            job = world.jobs[whose(world.jobs, raw_id, born_ms)]
            if job.named and job.manager == SLURM:
                assert (run_of, run) == (job.raw_id, str(job.restarts)), payer


def whose(jobs: Sequence[Job], raw_id: str, born_ms: int) -> int:
    """Return the number of the job that a holder is: the last one that had begun by its birth."""
    born = born_ms - ZERO_MS + TICK_MS
    return max(n for n, job in enumerate(jobs) if job.raw_id == raw_id and job.begins <= born)
