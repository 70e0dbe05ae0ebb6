"""The filters of a question about history, in a store's words."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from wattkeeper.aggregator import job_ids
from wattkeeper.aggregator.fleet import Fleet
from wattkeeper.aggregator.groups import kind_of
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.aggregator.telemetry_query import PAYERS, STORED, TelemetryQuery
from wattkeeper.ledger.queries.holders import HolderKey, holders_of
from wattkeeper.ledger.queries.named import named
from wattkeeper.ledger.queries.scope import Scope
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.meter import Component
from wattkeeper.schedulers.hostlist import expand
from wattkeeper.telemetry.base import ADDITIVE, Question

MOST_HOLDERS = 100_000
"""Holders of jobs that filters may mean."""

_JOBS = ("user", "account", "partition", "namespace")
_METERED = tuple(part.value for part in Component if part is not Component.HOST)
_TELLING = ("component", "meter", "device", "payer")


@dataclass(frozen=True, slots=True)
class Filters:
    """What a query wants of all that there is, in a scope: of its jobs alone."""

    query: TelemetryQuery
    fleet: Fleet
    scope: Scope | None

    def narrow(self, question: Question, ledger: Ledger) -> Question:
        """Return the question about nothing else than what is wanted.

        Raises:
            ProblemError: a value that cannot be, or one that means too many jobs.

        """
        where = self._stored()
        found = self._holders(ledger, question.since_ms, question.until_ms)
        if found is None:
            return replace(question, where=where)
        clusters = {key.cluster for key in found}
        where["cluster"] = tuple(sorted(clusters.intersection(where.get("cluster", clusters))))
        holders = frozenset((key.manager, key.raw_id, key.birth_ms) for key in found)
        return replace(question, where=where, holders=holders)

    def _stored(self) -> dict[str, tuple[str, ...]]:
        """Return what a store can filter by itself.

        Host meters see the watts of the others again: unless they are told apart, they are left
        out of what is summed.
        """
        query = self.query
        _check("component", query.component, tuple(Component))
        _check("payer", query.payer, PAYERS)
        where: dict[str, tuple[str, ...]] = {
            name: values for api, name in STORED.items() if (values := getattr(query, api))
        }
        told = (*query.by, *(name for name in _TELLING if getattr(query, name)))
        if query.metric in ADDITIVE and not set(told).intersection(_TELLING):
            where["component"] = _METERED
        if query.node:
            where["node"] = _nodes(query.node)
        if query.group:
            members = self._members()
            where["node"] = tuple(sorted(members.intersection(where.get("node", members))))
        return where

    def _members(self) -> set[str]:
        members: set[str] = set()
        for value in self.query.group:
            kind, _, name = value.rpartition(":")
            try:
                own = self.fleet.members(kind_of(kind, self.fleet.group_kinds))
            except ValueError as error:
                detail = f"group={value[:80]}: {error}; a filter is rack:r12"
                raise ProblemError(400, "bad-parameter", detail, "group") from error
            members.update(node for node, group in own.items() if group == name)
        return members

    def _holders(self, ledger: Ledger, since_ms: int, until_ms: int) -> set[HolderKey] | None:
        query = self.query
        wanted = {name: values for name in _JOBS if (values := getattr(query, name))}
        jobs = None
        if query.job:
            try:
                jobs = set(named(ledger, job_ids.expand(",".join(query.job)), scope=self.scope))
            except ValueError as error:
                raise ProblemError(400, "bad-parameter", str(error), "job") from error
        elif not wanted and self.scope is None:
            return None
        found = holders_of(ledger, wanted, jobs, since_ms, until_ms, self.scope)
        if len(found) > MOST_HOLDERS:
            field = next(iter(wanted), "job")
            detail = (
                f"{field}: means {len(found):,} holders of jobs in this time, more than "
                f"{MOST_HOLDERS:,}; ask for a shorter time, or group by it instead"
            )
            raise ProblemError(400, "too-many-jobs", detail, field)
        return found


def _nodes(patterns: Iterable[str]) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(expand(",".join(patterns))))
    except ValueError as error:
        raise ProblemError(400, "bad-parameter", f"node: {error}", "node") from error


def _check(name: str, values: Iterable[str], known: Collection[str]) -> None:
    for value in values:
        if value not in known:
            detail = f"{name}: {value[:80]!r} is none of {', '.join(known)}"
            raise ProblemError(400, "bad-parameter", detail, name)
