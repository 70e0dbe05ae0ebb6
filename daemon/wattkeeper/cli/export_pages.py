"""History page by page: pieces of time, each as long as memory likes it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from wattkeeper.cli.command import CommandError
from wattkeeper.cli.export_files import Row

_LINE_MS = 300_000
"""Rows never cross a line of five minutes, so pages begin and end on one."""
_FIRST_STEPS = 60
_MOST_STEPS = 5_000
_WANTED = 100_000
"""Values of a page."""
_MOST_SERIES = "200000"
"""As many as `/v1/telemetry` takes for its `limit`."""

Ask = Callable[[Mapping[str, str | None]], Any]


@dataclass(slots=True)
class Page:
    """Rows of [`since_ms`, `until_ms`), and how their columns are called."""

    since_ms: int
    until_ms: int
    labels: Sequence[str]
    values: Sequence[str]
    rows: list[Row]


@dataclass(slots=True)
class Pages:
    """Asks for metrics over a period, in steps of `step_ms` or longer ones where rows are.

    `query`: what else is asked for.
    """

    ask: Ask
    metrics: Sequence[str]
    query: Mapping[str, str | None]
    since_ms: int
    until_ms: int
    step_ms: int
    _blocks: int = field(init=False)

    def __post_init__(self) -> None:
        """Begin with few steps: how many series there are is not known yet."""
        self._blocks = max(1, _FIRST_STEPS * self.step_ms // self._block_ms)

    def __iter__(self) -> Iterator[Page]:
        """Yield page after page.

        Raises:
            CommandError: more series than can be asked for at once, or no answer.

        """
        at_ms = self.since_ms - self.since_ms % self.step_ms
        while at_ms < self.until_ms:
            page = self._page(at_ms)
            if page is None:
                continue
            if page.until_ms <= at_ms:
                raise CommandError("the aggregator does not go on in time; is it a newer one?")
            yield page
            at_ms = page.until_ms
            self._fit(len(page.rows) * len(self.metrics))

    @property
    def _block_ms(self) -> int:
        return math.lcm(self.step_ms, _LINE_MS)

    def _page(self, at_ms: int) -> Page | None:
        """Return the page that begins at an instant; None if it was too large, then try again."""
        end_ms = at_ms - at_ms % self._block_ms + self._blocks * self._block_ms
        period = {
            "since": _rfc3339(at_ms),
            "until": _rfc3339(min(end_ms, self.until_ms)),
            "step": f"{self.step_ms // 1000}s",
        }
        found: dict[tuple[int, tuple[str, ...]], list[float | None]] = {}
        names: list[str] = []
        answer: dict[str, Any] = {}
        for number, metric in enumerate(self.metrics):
            answer = self.ask({**self.query, **period, "metric": metric, "limit": _MOST_SERIES})
            if answer["omitted_series"]:
                self._shorten(len(answer["series"]) + answer["omitted_series"])
                return None
            # Of all metrics the same steps, whichever those of the first turned out to be.
            period = {
                "since": answer["since"],
                "until": answer["until"],
                "step": f"{answer['step_seconds']:g}s",
            }
            names.append(f"{metric}_{answer['unit']}")
            self._add(found, answer, number)
        since_ms, step_s = _ms(answer["since"]), answer["step_seconds"]
        rows = [
            Row(since_ms + round(step * step_s * 1000), step_s, labels, values)
            for (step, labels), values in sorted(found.items())
        ]
        return Page(since_ms, _ms(answer["until"]), answer["by"], names, rows)

    def _add(
        self,
        found: dict[tuple[int, tuple[str, ...]], list[float | None]],
        answer: Mapping[str, Any],
        number: int,
    ) -> None:
        for series in answer["series"]:
            labels = tuple(series["labels"].values())
            for step, value in enumerate(series["values"]):
                if value is not None:
                    row = found.setdefault((step, labels), [None] * len(self.metrics))
                    row[number] = value

    def _shorten(self, series: int) -> None:
        if self._blocks == 1:
            raise CommandError(
                f"{series:,} series are more than the aggregator tells at once: take a longer "
                "--step, or fewer of them (--component gpu, --node)"
            )
        self._blocks = max(1, self._blocks // 4)

    def _fit(self, values: int) -> None:
        """Choose how long the next page is: half to twice as long, as many values as wanted."""
        wanted = self._blocks * min(2.0, max(0.5, _WANTED / max(1, values)))
        most = max(1, _MOST_STEPS * self.step_ms // self._block_ms)
        self._blocks = max(1, min(most, round(wanted)))


def _rfc3339(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def _ms(instant: str) -> int:
    return round(datetime.fromisoformat(instant).timestamp() * 1000)
