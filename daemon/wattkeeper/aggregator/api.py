"""The endpoints that ask: what they take, and what they answer."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pydantic import Field

from wattkeeper import __version__
from wattkeeper.aggregator import answers, job_ids, times, views
from wattkeeper.aggregator.access.roles import ANYONE, OPERATORS, PUBLIC, SCRAPERS, USERS
from wattkeeper.aggregator.devices import Devices, DevicesQuery
from wattkeeper.aggregator.endpoint import Endpoint, Query, alike
from wattkeeper.aggregator.fleet import Fleet
from wattkeeper.aggregator.job_worth import value_job
from wattkeeper.aggregator.pricing import Pricing
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.aggregator.reporting import Reporting
from wattkeeper.aggregator.targets import Targets
from wattkeeper.aggregator.telemetry import History
from wattkeeper.factors.settings import FactorsSection
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.job import Job, JobFilter, job, jobs
from wattkeeper.ledger.queries.named import named
from wattkeeper.ledger.queries.scope import Scope
from wattkeeper.ledger.store import Ledger
from wattkeeper.model import grid
from wattkeeper.model.state import Finding
from wattkeeper.telemetry.base import TelemetryStore

_DAY_MS = grid.DAY_MS
_HTTPS = "https://"
"""What agents that speak TLS put before the address that they advertise."""
_SINCE = "from this slot on: 2026-11-23T20:15:00Z, 2026-11-23, -24h"
_UNTIL = "up to the end of this slot; now"


class Nothing(Query):
    """No parameters."""


class JobQuery(Query):
    """One job."""

    cluster: str = Field(description="cluster of the job")
    id: str = Field(description="its id, as its scheduler calls it")
    run: int | None = Field(None, ge=1, description="which run of it; the newest")


class JobsQuery(Query):
    """Which jobs."""

    cluster: str | None = Field(None, description="of this cluster")
    user: str | None = Field(None, description="of this user")
    account: str | None = Field(None, description="of this account")
    partition: str | None = Field(None, description="of this partition")
    state: str | None = Field(None, description="in this state")
    id: str | None = Field(
        None, description="these ids: 123, 123_[0-99], 22+1, 100-180; at any time"
    )
    run: int | None = Field(None, ge=1, description="which run of these ids; the newest")
    since: str = Field("-7d", description=_SINCE)
    limit: int = Field(1000, ge=1, le=10_000, description="at most so many, the newest")


class BalanceQuery(Query):
    """Which time."""

    since: str | None = Field(None, description=_SINCE + "; 24 hours before until")
    until: str | None = Field(None, description=_UNTIL)


class Api:
    """Answers of the aggregator. Its methods block: they run in threads.

    `findings`: how the aggregator is, part by part. `telemetry`: where history is asked for, None
    where none is kept. `pricing`: what energy costs and emits. `leads`: whether it holds the lease,
    where several share a ledger.
    """

    def __init__(
        self,
        ledger: Ledger,
        fleet: Fleet,
        targets: Targets,
        now_ms: Callable[[], int],
        *,
        findings: Callable[[], Sequence[Finding]],
        telemetry: TelemetryStore | None = None,
        pricing: Pricing | None = None,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._targets = targets
        self._leads = leads
        self._now_ms = now_ms
        self._findings = findings
        self._pricing = pricing or Pricing(FactorsSection(), ledger)
        self._reporting = Reporting(ledger, fleet, self._pricing, now_ms)
        self._history = History(telemetry, ledger, fleet, now_ms)

    def endpoints(self) -> tuple[Endpoint[Any], ...]:
        """Return every endpoint that answers with JSON."""
        return (
            Endpoint(
                "/v1/fleet", "The fleet now", Nothing, answers.Fleet, self._get_fleet, who=PUBLIC
            ),
            Endpoint(
                "/v1/nodes",
                "Every node",
                Nothing,
                answers.Nodes,
                alike(self._get_nodes),
                who=OPERATORS,
            ),
            Endpoint(
                "/v1/devices",
                "Every device now, and who has it",
                DevicesQuery,
                Devices,
                alike(self._fleet.devices),
                who=OPERATORS,
            ),
            Endpoint(
                "/v1/jobs",
                "Jobs, newest first",
                JobsQuery,
                answers.Jobs,
                self._get_jobs,
                who=USERS,
            ),
            Endpoint(
                "/v1/jobs/{cluster}/{id}",
                "One job",
                JobQuery,
                answers.Job,
                self._get_job,
                who=USERS,
            ),
            self._reporting.endpoint(),
            Endpoint(
                "/v1/balance",
                "Do the books balance?",
                BalanceQuery,
                answers.Balance,
                alike(self._balance),
                who=OPERATORS,
            ),
            Endpoint(
                "/v1/prometheus/targets",
                "Agents to scrape (http_sd)",
                Nothing,
                answers.Target,
                alike(self._get_targets),
                who=SCRAPERS,
                many=True,
            ),
            Endpoint(
                "/v1/findings",
                "How the aggregator is, part by part",
                Nothing,
                answers.Findings,
                alike(self._get_findings),
                who=OPERATORS,
            ),
            Endpoint(
                "/healthz",
                "Ready to take deliveries",
                Nothing,
                answers.Health,
                alike(self._healthy),
                who=ANYONE,
                at_once=True,
            ),
            *self._history.endpoints(),
        )

    def close(self) -> None:
        """Wait for what is being answered in threads of its own; take no more. Blocks."""
        self._history.close()
        self._reporting.close()

    def _healthy(self, _: Nothing) -> answers.Health:
        return answers.Health(status="ok", version=__version__, holds_lease=self._leads())

    def _get_fleet(self, _: Nothing, scope: Scope | None) -> answers.Fleet:
        return self._fleet.fleet(scope)

    def _get_nodes(self, _: Nothing) -> answers.Nodes:
        return answers.Nodes(as_of=times.rfc3339(self._now_ms()), nodes=self._fleet.nodes())

    def _get_job(self, query: JobQuery, scope: Scope | None) -> answers.Job:
        found = job(self._ledger, query.cluster, query.id, query.run, scope)
        if found is None:
            which = f"{query.id[:80]} of cluster {query.cluster[:80]}"
            raise ProblemError(404, "unknown-job", f"no job {which} is in the books", "id")
        return views.job(found, value_job(self._ledger, self._pricing, found))

    def _get_jobs(self, query: JobsQuery, scope: Scope | None) -> answers.Jobs:
        now_ms = self._now_ms()
        since_ms = grid.floor(times.parse(query.since, now_ms, "since"), self._ledger.slot_ms)
        if query.id is not None:
            found = list(self._by_id(query, scope))
            told = [views.job(one, value_job(self._ledger, self._pricing, one)) for one in found]
        elif query.run is not None:
            raise ProblemError(400, "bad-parameter", "whose run? Give an id too", "run")
        else:
            found = jobs(
                self._ledger,
                JobFilter(
                    cluster=query.cluster,
                    user=query.user,
                    account=query.account,
                    partition=query.partition,
                    state=query.state,
                    since_ms=since_ms,
                    limit=query.limit + 1,
                    scope=scope,
                ),
            )
            told = [views.job(one) for one in found]
        return answers.Jobs(
            since=times.rfc3339(since_ms),
            limit=query.limit,
            more=len(told) > query.limit,
            as_of=times.rfc3339(now_ms),
            jobs=told[: query.limit],
        )

    def _by_id(self, query: JobsQuery, scope: Scope | None) -> Iterator[Job]:
        try:
            ids = job_ids.expand(query.id or "")
        except ValueError as error:
            raise ProblemError(400, "bad-parameter", str(error), "id") from error
        for cluster, one in named(self._ledger, ids, query.cluster, scope)[: query.limit + 1]:
            found = job(self._ledger, cluster, one, query.run, scope)
            if found is not None and _fits(found, query):
                yield found

    def _balance(self, query: BalanceQuery) -> answers.Balance:
        since_ms, until_ms = self._period(query.since, query.until, _DAY_MS)
        return views.balance(balance(self._ledger, since_ms, until_ms), self._now_ms())

    def _period(self, since: str | None, until: str | None, usual_ms: int) -> tuple[int, int]:
        return times.period(
            since,
            until,
            now_ms=self._now_ms(),
            slot_ms=self._ledger.slot_ms,
            usual_ms=usual_ms,
        )

    def _get_findings(self, _: Nothing) -> answers.Findings:
        return answers.Findings(
            as_of=times.rfc3339(self._now_ms()),
            findings=[
                answers.Finding(
                    subject=found.subject, state=found.state, detail=found.detail, fix=found.fix
                )
                for found in self._findings()
            ],
        )

    def _get_targets(self, _: Nothing) -> list[answers.Target]:
        # Meta labels, for relabeling: the series say `node` themselves, and a target's label of
        # the same name would push theirs aside as `exported_node`.
        return [
            answers.Target(
                targets=[address.removeprefix(_HTTPS)],
                labels={
                    f"__meta_wattkeeper_{name}": value
                    for name, value in (
                        ("cluster", cluster),
                        ("node", node),
                        *self._fleet.groups_of(node).items(),
                    )
                }
                | ({"__scheme__": "https"} if address.startswith(_HTTPS) else {}),
            )
            for (cluster, node), address in sorted(self._targets.by_node().items())
        ]


def _fits(found: Job, query: JobsQuery) -> bool:
    return all(
        wanted is None or wanted == had
        for wanted, had in (
            (query.user, found.user),
            (query.account, found.account),
            (query.partition, found.partition),
            (query.state and query.state.lower(), found.state.lower()),
        )
    )
