"""Rows and questions that hypothesis makes, with texts that a query language stumbles over."""

from collections.abc import Sequence

from hypothesis import strategies as st
from msgspec.structs import replace

from wattkeeper.model.window import Spread, Stats
from wattkeeper.telemetry.base import (
    HOLDER_LABELS,
    METER_LABELS,
    Aggregation,
    Metric,
    Part,
    Place,
    Question,
    Row,
)

GRID_MS = 10_000

PLACES = (
    Place("c", "n1", "gpu/GPU-a", "gpu", "GPU-a", "0", "NVIDIA H100", "nvml"),
    Place("c", "n1", "gpu/GPU-b", "gpu", "GPU-b", "1", "NVIDIA H100", "nvml"),
    Place("c", 'n"2\\', "cpu/0/package", "cpu", "0/package", "", "", "rapl"),
    Place("c", 'n"2\\', "cpu/0/dram", "dram", "0/dram", "", "EPYC {x}|.*", "rapl"),
    Place("d'--", "n1", "gpu/GPU-a", "gpu", "GPU-a", "0", "ü\n%", "nvml"),
    Place("d'--", "n3", "host/dcmi", "host", "dcmi", "", "", "dcmi"),
)
"""Meters of two clusters; names of nodes and meters recur."""

HOLDERS = (
    ("workload", "slurm", "7", 1_790_000_000_000),
    ("workload", "slurm", "7", 1_790_000_100_000),  # requeued
    ("workload", "kubernetes", 'a"b\\c|.*\n{d}', 0),
    ("idle", "", "", 0),
    ("system", "", "", 0),
    ("gap", "", "", 0),
)
_UJ = st.one_of(st.just(0), st.integers(1, 10), st.integers(0, 7_000_000_000))


def _spreads(most: int) -> st.SearchStrategy[Spread | None]:
    values = st.lists(st.integers(0, most), min_size=3, max_size=3)
    return st.none() | values.map(lambda three: Spread(*sorted(three)))


STATS = st.none() | st.builds(
    Stats,
    _spreads(1_000_000),
    _spreads(110_000),
    _spreads(1_000_000),
    _spreads(192 << 30),
    _spreads(2_000_000),
    st.none() | st.integers(0, GRID_MS),
)


@st.composite
def _parts(draw: st.DrawFn, length_ms: int, *, unique: bool = True) -> tuple[Part, ...]:
    key = (lambda holder: holder) if unique else None
    parts = []
    for holder in draw(st.lists(st.sampled_from(HOLDERS), min_size=1, max_size=4, unique_by=key)):
        uj = draw(_UJ)
        from_ms, to_ms = sorted(
            draw(st.tuples(*[st.sampled_from((0, length_ms // 2, length_ms))] * 2))
        )
        idle_uj = draw(st.integers(0, uj)) if holder[0] == "workload" else 0
        parts.append(Part(*holder, from_ms, to_ms, uj, idle_uj))
    return tuple(parts)


@st.composite
def row_at(draw: st.DrawFn, place: Place, start_ms: int, end_ms: int, *, tidy: bool = True) -> Row:
    """A row of a meter over an interval; not `tidy`: a holder may have several parts."""
    length = end_ms - start_ms
    parts = draw(_parts(length, unique=tidy))
    return Row(
        place,
        start_ms,
        end_ms,
        draw(st.sampled_from((length, length, length // 2, 0))),
        sum(part.uj for part in parts),
        draw(st.sampled_from(("counter", "counter", "integrated", "estimated"))),
        draw(st.booleans()),
        parts,
        draw(STATS),
    )


@st.composite
def tidy_rows(draw: st.DrawFn, origin_ms: int, cells: Sequence[int]) -> list[Row]:
    """At most one row for each meter and cell, all of the grid's length, oldest first.

    `cells`: numbers of cells of `GRID_MS` from `origin_ms`, of which some get rows.
    """
    keys = st.tuples(st.sampled_from(cells), st.sampled_from(PLACES))
    chosen = sorted(draw(st.lists(keys, min_size=1, max_size=25, unique=True)))
    rows = []
    for cell, place in chosen:
        start_ms = origin_ms + cell * GRID_MS
        rows.append(draw(row_at(place, start_ms, start_ms + GRID_MS)))
    return rows


@st.composite
def wild_rows(draw: st.DrawFn, origin_ms: int, cells: Sequence[int]) -> list[Row]:
    """Rows of any length that cross no line of five minutes; any order, overlapping, repeated."""
    rows = []
    for _ in range(draw(st.integers(1, 25))):
        start_ms = origin_ms + draw(st.sampled_from(cells)) * GRID_MS
        room_ms = 300_000 - start_ms % 300_000
        length_ms = draw(st.sampled_from((1, 999, GRID_MS, 15_000, room_ms)))
        end_ms = start_ms + min(length_ms, room_ms)
        row = draw(row_at(draw(st.sampled_from(PLACES)), start_ms, end_ms, tidy=False))
        nothing = draw(st.integers(0, 9)) == 0
        rows.append(replace(row, covered_ms=0, uj=0, parts=()) if nothing else row)
    return rows


STEPS_MS = (10_000, 20_000, 60_000, 300_000, 420_000, 600_000, 3_600_000, 7_200_000)
_WANTED = {
    **{
        name: st.sampled_from(sorted({getattr(place, name) for place in PLACES} | {"nowhere"}))
        for name in METER_LABELS
    },
    **{
        name: st.sampled_from(sorted({str(holder[at]) for holder in HOLDERS} | {"nobody"}))
        for at, name in enumerate(HOLDER_LABELS)
    },
}
_LABELS = st.sampled_from((*METER_LABELS, *HOLDER_LABELS))


@st.composite
def questions(
    draw: st.DrawFn, origin_ms: int, span_ms: int, *, steps_ms: Sequence[int] = STEPS_MS
) -> Question:
    """Any question about a stretch around `span_ms` from `origin_ms`, in at most 2,000 steps."""
    step_ms = draw(st.sampled_from([s for s in steps_ms if span_ms / s < 2000] or [steps_ms[-1]]))
    since_ms = (origin_ms + draw(st.sampled_from((-60_000, 0, span_ms // 3)))) // step_ms * step_ms
    steps = -(-(origin_ms + span_ms - since_ms) // step_ms)
    wanted = {
        name: tuple(draw(st.lists(_WANTED[name], min_size=1, max_size=3)))
        for name in draw(st.lists(_LABELS, max_size=2))
    }
    workloads = [holder[1:] for holder in HOLDERS if holder[0] == "workload"]
    return Question(
        metric=draw(st.sampled_from(Metric)),
        since_ms=since_ms,
        until_ms=since_ms + draw(st.sampled_from((steps, max(1, steps // 2)))) * step_ms,
        step_ms=step_ms,
        aggregation=draw(st.sampled_from(Aggregation)),
        by=tuple(draw(st.lists(_LABELS, max_size=3, unique=True))),
        where=draw(st.sampled_from((wanted or None, wanted))),
        holders=draw(st.none() | st.frozensets(st.sampled_from(workloads), max_size=3)),
        most_series=draw(st.sampled_from((1000, 1000, 1, 3))),
    )
