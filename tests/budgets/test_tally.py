"""The same joules count in every budget whose scope they are in, once in each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.budgets.made import NOW, Meter, Node, known, of
from wattkeeper.budgets.budget import Budget
from wattkeeper.budgets.scopes import Scopes
from wattkeeper.budgets.tally import Names, Now, Tally
from wattkeeper.ledger.queries.spent import NodeNow
from wattkeeper.ledger.queries.whose import Whose

ANN, BO = Whose("c", "7", "ann", "lab", "gpu"), Whose("c", "8", "bo", "lab", "cpu")
GROUPS = {"rack": {"n0": "a", "n1": "a", "n2": "b"}}


def tally(
    budgets: list[Budget],
    nodes: list[tuple[Node | None, NodeNow | None]],
    names: Names | None = None,
    from_ms: int = NOW - 3_600_000,
) -> list[Now]:
    """Tally some nodes."""
    begins = [from_ms] * len(budgets)
    found = Tally(Scopes(budgets, GROUPS), names or Names(), begins, NOW, 120_000)
    for seen, booked in nodes:
        found.add(seen, booked, None)
    return found.found


POWERS = st.none() | st.integers(0, 10**6)
SHARES = st.lists(st.integers(0, 500_000), min_size=2, max_size=2).map(tuple)


@given(st.lists(st.tuples(POWERS, POWERS, POWERS, SHARES), min_size=3, max_size=3))
def test_nested_scopes_add_up(drawn: list[tuple[int | None, int | None, int | None, object]]) -> (
    None
):  # fmt: skip
    """Racks to the fleet, nodes to their rack, users to their account; power, energy and meters."""
    nodes = [
        Node(f"n{number}", (
            Meter("gpu", gpu, (16,), (1_000_000,)),
            Meter("cpu", cpu, (16, 17), shares),  # type: ignore[arg-type]
            Meter("host", host),
        ))
        for number, (gpu, cpu, host, shares) in enumerate(drawn)
    ]  # fmt: skip
    names = Names({(node.journal, 16 + one): (ANN, BO)[one] for node in nodes for one in (0, 1)})
    budgets = [
        of("fleet"), of("group", "a", "rack"), of("group", "b", "rack"),
        of("node", "n0"), of("node", "n1"),
        of("account", "lab"), of("user", "ann"), of("user", "bo"), of("partition", "gpu"),
        of("job", "8"),
    ]  # fmt: skip
    seen = [(node, known(node.node)) for node in nodes]
    fleet, a, b, n0, n1, lab, ann, bo, gpu, job = tally(budgets, seen, names)  # type: ignore[arg-type]
    for whole, parts in ((fleet, (a, b)), (a, (n0, n1)), (lab, (ann, bo))):
        for value in ("watts", "since_booked_uj"):
            total = sum(getattr(part, value) for part in parts)
            assert getattr(whole, value) == pytest.approx(total, rel=1e-9)
    assert (fleet.heard, fleet.expected) == (a.heard + b.heard, a.expected + b.expected)
    assert ann.watts == pytest.approx(gpu.watts)
    assert bo.watts == pytest.approx(job.watts)
    for node, (gpu_mw, cpu_mw, host_mw, _) in zip(nodes, drawn, strict=True):
        parts_w = ((gpu_mw or 0) + (cpu_mw or 0)) / 1000
        assert fleet.nodes[node.node] == max(parts_w, (host_mw or 0) / 1000)


def test_what_was_drawn_since_the_books_end() -> None:
    """From there, or from where the interval began, to now; of silent nodes to their last word."""
    node = Node("n0", (Meter("gpu", 500_000),))
    (now,) = tally([of("fleet")], [(node, known("n0", NOW - 20_000))])
    assert now.since_booked_uj == 500 * 20_000 * 1000
    (now,) = tally([of("fleet")], [(node, known("n0", NOW - 20_000))], from_ms=NOW - 5_000)
    assert now.since_booked_uj == 500 * 5_000 * 1000
    silent = Node("n0", (Meter("gpu", 500_000),), NOW - 200_000)
    (now,) = tally([of("fleet")], [(silent, known("n0", NOW - 230_000))])
    assert (now.watts, now.silent_watts, now.silent_nodes) == (0, 500, 1)
    assert now.since_booked_uj == 500 * 30_000 * 1000
    assert now.coverage == 0
    gone = Node("n0", (Meter("gpu", 500_000, (16,)),), NOW - 3_700_000)
    names = Names({(gone.journal, 16): ANN}, silent={1: {ANN}})
    for now in tally([of("fleet"), of("user", "ann")], [(gone, known("n0"))], names):
        assert (now.silent_nodes, now.silent_watts) == (1, 0)


def test_what_is_expected() -> None:
    """By the books, by a scheduler's count of GPUs; not what is off, nor what is long gone."""
    node = Node("n0", (Meter("gpu", 1000), Meter("cpu", None)))
    day = 86_400_000
    for booked, expected in (
        (known("n0"), 2),
        (known("n0", meters=2, gpus_expected=8), 9),
        (None, 1),
    ):
        (now,) = tally([of("fleet")], [(node, booked)])
        assert (now.heard, now.expected) == (1, expected)
    away = [
        known("n1", NOW - 2 * day, seen_ms=NOW - 2 * day),
        known("n1", NOW - 2 * day, seen_ms=NOW - 2 * day, listed=True),
        known("n1", None, meters=0, gpus=0, seen_ms=None, listed=True, gpus_expected=4),
        known("n1", listed=True, expected=False),
    ]
    found = [tally([of("fleet")], [(None, one)])[0].expected for one in away]
    assert found == [0, 2, 4, 0]


def test_whose_it_is() -> None:
    """By its node's shares; equal parts where these are not known; by grant where nobody holds."""
    node = Node("n0", (
        Meter("gpu", 100_000, (16, 17)),
        Meter("gpu", 200_000, gpu=1),
        Meter("gpu", 400_000, gpu=2),
    ))  # fmt: skip
    names = Names({(node.journal, 16): ANN, (node.journal, 17): BO}, {("c", "n0", 1): [BO]})
    ann, bo, fleet = tally(
        [of("user", "ann"), of("user", "bo"), of("fleet")], [(node, None)], names
    )
    assert (ann.watts, bo.watts, fleet.watts) == (50, 250, 700)
    assert fleet.jobs == {"7": 50, "8": 250}
    assert (ann.heard, ann.expected) == (1, 1)


def test_workloads_on_silent_nodes() -> None:
    """They are missing in the reading, also if nothing is remembered of what they drew."""
    names = Names(silent={1: {ANN}})
    (now,) = tally([of("account", "lab")], [(None, known("n0"))], names)
    assert (now.coverage, now.silent_nodes, now.watts) == (0, 1, 0)


def test_workloads_that_ended_on_silent_nodes() -> None:
    """Nobody waits for them, and what they drew last does not go on."""
    node = Node("n0", (Meter("gpu", 100_000, (16,)), Meter("gpu", 50_000, (17,))), NOW - 200_000)
    holders = {(node.journal, 16): ANN, (node.journal, 17): BO}
    names = Names(holders, silent={1: {BO}})
    ann, bo = tally([of("user", "ann"), of("user", "bo")], [(node, known("n0"))], names)
    assert (ann.expected, ann.silent_watts) == (0, 0)
    assert (bo.expected, bo.heard, bo.silent_watts) == (1, 0, 50)


def test_what_another_aggregator_hears() -> None:
    """The books have the node's power; of the workloads on it nothing is known, which is told."""
    budgets = [of("fleet"), of("user", "ann"), of("user", "bo")]
    names = Names(silent={1: {ANN}})
    found = Tally(Scopes(budgets, GROUPS), names, [NOW - 3_600_000] * 3, NOW, 120_000)
    found.add(None, known("n0"), 500.0)
    fleet, ann, bo = found.found
    assert (fleet.watts, fleet.coverage, fleet.silent_nodes) == (500, 1, 0)
    assert (ann.watts, ann.coverage, ann.silent_nodes) == (0, 0, 1)
    assert (bo.coverage, bo.silent_nodes) == (None, 0)
