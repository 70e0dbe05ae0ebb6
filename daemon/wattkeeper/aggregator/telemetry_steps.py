"""The steps of a question about history: how long they are, and where they begin."""

from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.model import grid
from wattkeeper.telemetry.base import MOST_STEPS
from wattkeeper.values import milliseconds, parse_duration

_S, _M, _H, _D = 1_000, 60_000, 3_600_000, grid.DAY_MS
USUAL_MS = (
    10 * _S, 30 * _S, _M, 2 * _M, 5 * _M, 10 * _M, 15 * _M, 30 * _M,
    _H, 2 * _H, 3 * _H, 6 * _H, 12 * _H, _D, 7 * _D,
)  # fmt: skip
"""Steps that are chosen where none is asked for: what people read easily, on the lines of rows."""
MOST_POINTS = 600
"""Steps where none is asked for: as many as a plot can show."""
_LONGEST_MS = 366 * _D


def length(step: str | None, since_ms: int, until_ms: int) -> int:
    """Return the length of a step in milliseconds: as asked for, or what suits the period.

    Raises:
        ProblemError: not a length, or it makes more than MOST_STEPS steps.

    """
    span_ms = until_ms - since_ms
    if step is None:
        return next(ms for ms in USUAL_MS if span_ms <= ms * MOST_POINTS or ms == USUAL_MS[-1])
    try:
        step_ms = milliseconds(parse_duration(step))
    except (ValueError, OverflowError) as error:
        raise _bad(step, "is not a duration; write 10s, 5m, 1h or 1d") from error
    if not 1_000 <= step_ms <= _LONGEST_MS or step_ms % 1_000:
        raise _bad(step, "must be whole seconds, from 1s to 366d")
    if span_ms > step_ms * MOST_STEPS:
        least = next(ms for ms in USUAL_MS if span_ms <= ms * MOST_STEPS)
        raise _bad(
            step,
            f"makes {span_ms // step_ms:,} steps of {rfc3339(since_ms)} to {rfc3339(until_ms)}, "
            f"more than {MOST_STEPS:,}; take {least // 1_000}s or more, or a shorter time",
        )
    return step_ms


def _bad(step: str, what: str) -> ProblemError:
    return ProblemError(400, "bad-parameter", f"step={step[:80]}: {what}", "step")


def widened(since_ms: int, until_ms: int, step_ms: int) -> tuple[int, int]:
    """Return the period widened to whole steps."""
    return grid.floor(since_ms, step_ms), grid.ceil(until_ms, step_ms)
