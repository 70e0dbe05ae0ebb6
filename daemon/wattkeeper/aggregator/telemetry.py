"""The endpoints of history: what a time-series store has, with the names that the ledger knows."""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from wattkeeper.aggregator import telemetry_answers as answers
from wattkeeper.aggregator import times
from wattkeeper.aggregator.access.roles import USERS
from wattkeeper.aggregator.endpoint import Endpoint
from wattkeeper.aggregator.fleet import Fleet
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.aggregator.telemetry_asking import LIMIT_S, Asking
from wattkeeper.aggregator.telemetry_filters import Filters
from wattkeeper.aggregator.telemetry_fold import Fold
from wattkeeper.aggregator.telemetry_query import TelemetryQuery, dimensions, usual
from wattkeeper.aggregator.telemetry_steps import length
from wattkeeper.aggregator.telemetry_trace import TraceQuery, trace
from wattkeeper.ledger.queries.holders import HolderKey, names_of
from wattkeeper.ledger.queries.scope import Scope
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.grid import DAY_MS
from wattkeeper.telemetry.base import Question, TelemetryStore

_THREADS = 4


class History:
    """Answers from a time-series store, None where there is none. Its methods block.

    They run in threads of their own: however slow a store is, the ledger's questions are answered.
    """

    def __init__(
        self,
        store: TelemetryStore | None,
        ledger: Ledger,
        fleet: Fleet,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._fleet = fleet
        self._now_ms = now_ms
        self._pool = ThreadPoolExecutor(_THREADS, "history")

    def endpoints(self) -> tuple[Endpoint[Any], ...]:
        """Return the endpoints that answer from the store."""
        endpoint = partial(Endpoint, who=USERS, pool=self._pool, limit_s=LIMIT_S)
        return (
            endpoint(
                "/v1/telemetry",
                "What was metered, over time",
                TelemetryQuery,
                answers.Telemetry,
                self._get_telemetry,
            ),
            endpoint(
                "/v1/jobs/{cluster}/{id}/trace",
                "The power of one job over time",
                TraceQuery,
                answers.Trace,
                self._get_trace,
            ),
        )

    def close(self) -> None:
        """Take no more questions, and wait for those that are being answered."""
        self._pool.shutdown(cancel_futures=True)

    def _asking(self) -> Asking:
        if self._store is None:
            detail = (
                "this aggregator keeps no history: it runs without a time-series store (see "
                "`telemetry` in its configuration); jobs, reports and balance do not need one"
            )
            raise ProblemError(404, "no-telemetry", detail)
        return Asking(self._store)

    def _get_trace(self, query: TraceQuery, scope: Scope | None) -> answers.Trace:
        return trace(self._asking(), self._ledger, query, scope, self._now_ms())

    def _get_telemetry(self, query: TelemetryQuery, scope: Scope | None) -> answers.Telemetry:
        asking = self._asking()
        by = dimensions(query.by, self._fleet.group_kinds)
        since_ms, until_ms = times.period(
            query.since, query.until, now_ms=self._now_ms(), slot_ms=1, usual_ms=DAY_MS
        )
        filters = Filters(query, self._fleet, scope)
        question = Question(
            metric=query.metric,
            since_ms=since_ms,
            until_ms=until_ms,
            step_ms=length(query.step, since_ms, until_ms),
            aggregation=query.aggregation or usual(query.metric),
            most_series=query.limit,
        )
        question = filters.narrow(question, self._ledger)
        fold = Fold(
            by,
            {kind: self._fleet.members(kind) for kind in by.kinds},
            _Names(self._ledger),
        )
        answer = asking.over(fold, question)
        return answers.Telemetry(**answers.told(question, answer, by.names))


class _Names:
    """What the ledger calls holders, each looked up once in a request."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[HolderKey, Mapping[str, str]] = {}

    def __call__(self, keys: Collection[HolderKey]) -> Mapping[HolderKey, Mapping[str, str]]:
        unknown = set(keys) - self._known.keys()
        self._known |= {key: {} for key in unknown}
        self._known |= names_of(self._ledger, unknown)
        return self._known
