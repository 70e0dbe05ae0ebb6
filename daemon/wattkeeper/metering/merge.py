"""Merging the oldest windows per meter and hour: a journal stays small and loses nothing."""

from collections.abc import Sequence

from wattkeeper.model import grid
from wattkeeper.model.window import ClockStep, Point, Record, Share, Split, Spread, Stats, Window

HOUR_MS = 3_600_000


def merge(records: Sequence[Record]) -> list[Record]:
    """Merge windows that follow each other in one hour, epoch and policy of one meter.

    A merged window stands between two points at its own ends, because slot lines inside it are
    no longer known: it is laid over slots like a recovered one, and so is what checks it.
    Everything else stays, in its meter's order.
    """
    merged: list[Record] = []
    by_meter: dict[int, list[Record]] = {}
    for record in records:
        if isinstance(record, ClockStep):
            merged.append(record)
        else:
            by_meter.setdefault(record.meter, []).append(record)
    for own in by_meter.values():
        merged += _merge_meter(own)
    return merged


def _merge_meter(records: Sequence[Record]) -> list[Record]:
    out: list[Record] = []
    run: list[Window] = []
    points: list[Point] = []
    for record in records:
        if isinstance(record, Window):
            if run and not _joins(run, record):
                out += _finish(out[-1] if out else None, run, points)
                run, points = [], []
            run.append(record)
        elif isinstance(record, Point) and run and _ends(run[-1], record):
            points.append(record)
        else:
            out += _finish(out[-1] if out else None, run, points)
            run, points = [], []
            out.append(record)
    return out + _finish(out[-1] if out else None, run, points)


def _joins(run: Sequence[Window], window: Window) -> bool:
    first, last = run[0], run[-1]
    return (
        (last.epoch, last.method, last.policy, last.last_uj, last.end_ms)
        == (window.epoch, window.method, window.policy, window.first_uj, window.start_ms)
        and grid.floor(first.start_ms, HOUR_MS) == grid.floor(window.start_ms, HOUR_MS)
        and window.end_ms - first.start_ms <= HOUR_MS
    )


def _ends(window: Window, point: Point) -> bool:
    return (window.epoch, window.end_ms, window.last_uj) == (
        point.epoch,
        point.at_ms,
        point.value_uj,
    )


def _finish(newest: Record | None, run: Sequence[Window], points: Sequence[Point]) -> list[Record]:
    if len(run) < 2:
        return [*run, *points]
    first, last = run[0], run[-1]
    offset_ms = last.boot_ms - last.end_ms
    whole = Window(
        meter=first.meter,
        epoch=first.epoch,
        start_ms=first.start_ms,
        end_ms=last.end_ms,
        boot_ms=last.boot_ms,
        first_uj=first.first_uj,
        last_uj=last.last_uj,
        covered_ms=sum(window.covered_ms for window in run),
        method=first.method,
        shares=_shares(run),
        stats=_stats(run),
        policy=first.policy,
    )
    start, end = whole.start_ms, whole.end_ms
    before = Point(first.meter, first.epoch, start, start + offset_ms, whole.first_uj)
    return [
        # Merged before, it has its point already.
        *(() if _checks_begin(newest, before) else (before,)),
        whole,
        Point(first.meter, first.epoch, end, end + offset_ms, whole.last_uj),
    ]


def _checks_begin(newest: Record | None, before: Point) -> bool:
    """Tell whether the newest record is this point; a late reading may differ in boot time."""
    return isinstance(newest, Point) and (newest.epoch, newest.at_ms, newest.value_uj) == (
        before.epoch,
        before.at_ms,
        before.value_uj,
    )


def _shares(run: Sequence[Window]) -> tuple[Share, ...]:
    shares: dict[tuple[int, Split], Share] = {}
    for window in run:
        shift = window.start_ms - run[0].start_ms
        for part in window.shares:
            key = (part.holder, part.split)
            before = shares.get(key)
            shares[key] = Share(
                part.holder,
                part.uj + (before.uj if before else 0),
                before.from_ms if before else part.from_ms + shift,
                part.to_ms + shift,
                part.split,
                part.idle_uj + (before.idle_uj if before else 0),
                part.idle_ms + (before.idle_ms if before else 0),
            )
    return tuple(shares.values())


def _stats(run: Sequence[Window]) -> Stats:
    seen = [(window.stats, max(1, window.covered_ms)) for window in run if window.stats]
    throttled = [stats.throttled_ms for stats, _ in seen if stats.throttled_ms is not None]
    return Stats(
        _join([(stats.power_mw, weight) for stats, weight in seen]),
        _join([(stats.temperature_mc, weight) for stats, weight in seen]),
        _join([(stats.utilization_ppm, weight) for stats, weight in seen]),
        _join([(stats.memory_used_bytes, weight) for stats, weight in seen]),
        _join([(stats.clock_khz, weight) for stats, weight in seen]),
        sum(throttled) if throttled else None,
    )


def _join(spreads: Sequence[tuple[Spread | None, int]]) -> Spread | None:
    known = [(spread, weight) for spread, weight in spreads if spread is not None]
    if not known:
        return None
    return Spread(
        min(spread.least for spread, _ in known),
        sum(spread.mean * weight for spread, weight in known) // sum(w for _, w in known),
        max(spread.greatest for spread, _ in known),
    )
