"""A job's power on one line, where there is a history of it."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from wattkeeper.cli.client import ask
from wattkeeper.cli.command import CommandError

_LEVELS = "▁▂▃▄▅▆▇█"
_PLAIN = "._-=+*#@"
_WIDTH = 48
_PATIENCE_S = 5.0
"""A history that is slow does not hold up what the books say."""


def traced(url: str | None, job: Mapping[str, Any], *, plain: bool) -> str:
    """Return the total power over the job's life as a line of bars; empty without a history.

    A dot is a time that nothing is known of. `plain`: in ASCII.
    """
    path = f"/v1/jobs/{quote(job['cluster'], safe='')}/{quote(job['job_id'], safe='')}/trace"
    try:
        answer = ask(url, path, {"run": str(job["run"])}, patience_s=_PATIENCE_S)
    except CommandError:
        return ""
    columns = zip(*(series["values"] for series in answer["series"]), strict=True)
    return bars([_sum(column) for column in columns], plain=plain)


def _sum(column: Sequence[float | None]) -> float | None:
    known = [value for value in column if value is not None]
    return sum(known) if known else None


def bars(values: Sequence[float | None], *, plain: bool) -> str:
    """Draw values as bars from zero to the greatest, at most _WIDTH of them, each a mean."""
    count = min(_WIDTH, len(values))
    means = []
    for number in range(count):
        begin, end = number * len(values) // count, (number + 1) * len(values) // count
        known = [value for value in values[begin:end] if value is not None]
        means.append(sum(known) / len(known) if known else None)
    levels = _PLAIN if plain else _LEVELS
    most = max((mean for mean in means if mean is not None), default=0.0)
    return "".join(
        "·" if mean is None and not plain
        else " " if mean is None
        else levels[min(7, int(mean / most * 8)) if most > 0 else 0]
        for mean in means
    )  # fmt: skip
