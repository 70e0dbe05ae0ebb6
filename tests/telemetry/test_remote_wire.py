"""What is sent, as protobuf and Snappy read it."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby, pairwise
from operator import itemgetter

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple, replace
from tests.telemetry.made import PLACES, row_at, wild_rows
from tests.telemetry.remote_write import Sample, samples

from wattkeeper.telemetry.base import Place, Row
from wattkeeper.telemetry.remote_series import bounded
from wattkeeper.telemetry.remote_wire import encode, encode_one

_ORIGIN_MS = 1_790_035_200_000
_SPREADS = {
    "power_watts": ("power_mw", 1e-3),
    "temperature_celsius": ("temperature_mc", 1e-3),
    "utilization_ratio": ("utilization_ppm", 1e-6),
    "memory_used_bytes": ("memory_used_bytes", 1.0),
    "clock_hertz": ("clock_khz", 1e3),
}


def _expected(row: Row) -> list[tuple[dict[str, str], int, float]]:
    """Say what docs/telemetry-remote.md promises of a row."""
    values = {"energy_joules": row.uj / 1e6, "covered_seconds": row.covered_ms / 1e3}
    if row.stats is not None:
        for name, (field, unit) in _SPREADS.items():
            spread = getattr(row.stats, field)
            if spread is not None:
                values[f"{name}_min"] = spread.least * unit
                values[f"{name}_mean"] = spread.mean * unit
                values[f"{name}_max"] = spread.greatest * unit
        if row.stats.throttled_ms is not None:
            values["throttled_seconds"] = row.stats.throttled_ms / 1e3
    place = row.place._asdict()
    found = [({"__name__": f"wattkeeper_window_{k}", **place}, v) for k, v in values.items()]
    shares: Counter[tuple[str, str, str, int]] = Counter()
    idle: Counter[tuple[str, str, str, int]] = Counter()
    for part in row.parts:
        shares[astuple(part)[:4]] += part.uj
        idle[astuple(part)[:4]] += part.idle_uj
    for name, of in (("share_joules", shares), ("share_idle_joules", idle)):
        for holder, uj in of.items():
            labels = dict(zip(("account", "manager", "workload", "birth_ms"), holder, strict=True))
            if uj or of is shares:
                named = {"__name__": f"wattkeeper_window_{name}", **place}
                found.append((named | {k: str(v) for k, v in labels.items()}, uj / 1e6))
    at_ms = row.end_ms - 1 + row.end_ms % 2
    return [({k: v for k, v in labels.items() if v}, at_ms, value) for labels, value in found]


def _comparable(found: Sequence[tuple[dict[str, str], int, float]]) -> Sequence[object]:
    return sorted((sorted(labels.items()), at_ms, f"{v:.9e}") for labels, at_ms, v in found)


@settings(max_examples=50, deadline=None)
@given(wild_rows(_ORIGIN_MS, (0, 1, 2, 30)))
def test_every_value_of_every_row_is_sent(rows: list[Row]) -> None:
    """Under its name, with its labels, at its time, and nothing else."""
    rows.sort(key=lambda row: row.end_ms)
    sent = list(samples(encode(rows)))
    assert _comparable([one for row in rows for one in _expected(row)]) == _comparable(
        [(dict(labels), at_ms, value) for labels, at_ms, value in sent]
    )
    _check_series(sent)


def _check_series(sent: Sequence[Sample]) -> None:
    """Each stands once, its labels sorted, unique and not empty, its samples oldest first."""
    series = [(labels, list(found)) for labels, found in groupby(sent, key=itemgetter(0))]
    assert len({labels for labels, _ in series}) == len(series)
    for labels, found in series:
        names = [name for name, _ in labels]
        assert sorted(set(names)) == names
        assert all(value for _, value in labels)
        assert all(one[1] <= other[1] for one, other in pairwise(found))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_times_and_texts_of_any_length(data: st.DataObject) -> None:
    """Numbers of other lengths than today's times have; labels longer than a byte counts."""
    start_ms = data.draw(st.integers(0, 1 << 50)) // 2 * 2
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
    place = Place(*data.draw(st.tuples(*[texts] * 8)))
    row = data.draw(row_at(place, start_ms, start_ms + 10_000))
    sent = [(dict(labels), at_ms, value) for labels, at_ms, value in samples(encode([row]))]
    expected = [
        ({name: bounded(text) for name, text in labels.items()}, at_ms, value)
        for labels, at_ms, value in _expected(row)
    ]
    assert _comparable(expected) == _comparable(sent)


def test_a_single_sample() -> None:
    """Without labels but its name."""
    assert [((("__name__", "up"),), 2**41 + 1, 0.5)] == list(
        samples(encode_one("up", 2**41 + 1, 0.5))
    )


def test_many_rows_make_one_series_each() -> None:
    """A backlog of one meter does not repeat its labels."""
    template = Row(PLACES[0], 0, 0, 10_000, 5, "counter", False, (), None)
    rows = [
        replace(template, start_ms=at_ms, end_ms=at_ms + 10_000)
        for at_ms in range(_ORIGIN_MS, _ORIGIN_MS + 3_600_000, 10_000)
    ]
    found = list(samples(encode(rows)))
    assert 2 * 360 == len(found)
    assert 2 == len({labels for labels, _, _ in found})


@given(st.text(max_size=2000), st.text(max_size=2000))
def test_values_of_labels_are_bounded(one: str, other: str) -> None:
    """At most 512 bytes of UTF-8; different ones stay different; short ones stay as they are."""
    short = bounded(one)
    assert len(short.encode()) <= 512
    assert bounded(short) == short
    content = one.encode("utf-8", "replace")
    assert short.encode() == content or len(content) > 512
    if content != other.encode("utf-8", "replace"):
        assert short != bounded(other)
    if one.isprintable() and len(content) > 512:
        assert bounded(one + "x") != short
