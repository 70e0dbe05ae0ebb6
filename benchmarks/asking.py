"""Questions put to an aggregator under load, one after the other, and how long each took."""

import threading
import time
from typing import Self

from benchmarks.processes import fetch

QUESTIONS = (
    "/v1/fleet",
    "/v1/telemetry?metric=power&since=-1h&step=1m",
    "/v1/telemetry?metric=power&since=-1h&step=10s&node=node00007&by=device",
    "/v1/telemetry?metric=temperature&aggregation=max&since=-15m&step=15m&by=device&limit=10",
    "/v1/report?by=account&since=-24h",
    "/v1/jobs?limit=50",
    "/metrics",
)
_PAUSE_S = 0.5
_PATIENCE_S = 120


class Asker:
    """Asks from `with` on, until its end. `took`: seconds of each answer by question."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="asker")
        self.took: dict[str, list[float]] = {question: [] for question in QUESTIONS}
        self.failed: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while True:
            for question in QUESTIONS:
                began = time.perf_counter()
                try:
                    fetch(self._url + question, timeout_s=_PATIENCE_S)
                except OSError as error:
                    self.failed.append(f"{question}: {error}")
                else:
                    self.took[question].append(time.perf_counter() - began)
                if self._over.wait(_PAUSE_S):
                    return

    def print(self) -> None:
        """Print a row a question."""
        print("| asked meanwhile | answers | median | p90 | longest |")
        print("|---|---|---|---|---|")
        for question, took in self.took.items():
            ordered = [1000 * one for one in sorted(took)]
            if not ordered:
                print(f"| `{question}` | 0 | | | |")
                continue
            middle, high = ordered[len(ordered) // 2], ordered[len(ordered) * 9 // 10]
            print(
                f"| `{question}` | {len(ordered)} | {middle:.0f} ms | {high:.0f} ms "
                f"| {ordered[-1]:.0f} ms |"
            )
        for what in self.failed[:5]:
            print(f"\nnot answered: {what}")
        print()
