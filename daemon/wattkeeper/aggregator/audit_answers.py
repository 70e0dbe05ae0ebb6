"""`GET /v1/audit`: the audit log as the API tells it."""

from collections.abc import Callable

from pydantic import Field

from wattkeeper.aggregator.access.roles import OPERATORS
from wattkeeper.aggregator.answers import Answer, Instant
from wattkeeper.aggregator.endpoint import Endpoint, Query, alike
from wattkeeper.aggregator.times import parse, rfc3339
from wattkeeper.ledger import audit
from wattkeeper.ledger.audit import Entry
from wattkeeper.ledger.store import Ledger


class AuditQuery(Query):
    """Which entries."""

    since: str = Field("-7d", description="instant, or relative: -24h")
    until: str = Field("now", description="the same")
    who: str | None = Field(None, description="of this user or token")
    act: str | None = Field(None, description="of this kind: job, report, forget, configuration")
    limit: int = Field(1000, ge=1, le=10_000, description="at most so many, the newest")


class AuditEntry(Answer):
    """What somebody did. `times`: since the entry before it that is alike."""

    at: Instant
    who: str | None = Field(description="user, or name of a token; null where nothing was proven")
    role: str
    address: str | None = Field(description="where the request came from; null: a unix socket")
    act: str
    what: str
    result: str = Field(description="HTTP status, or what became of it")
    times: int


class AuditLog(Answer):
    """Entries, the newest first."""

    entries: list[AuditEntry]


def endpoint(ledger: Ledger, now_ms: Callable[[], int]) -> Endpoint[AuditQuery]:
    """Return what tells the log."""

    def answer(query: AuditQuery) -> AuditLog:
        at_ms = now_ms()
        since_ms = parse(query.since, at_ms, "since")
        until_ms = at_ms + 1 if query.until == "now" else parse(query.until, at_ms, "until")
        only = {"who": query.who, "act": query.act}
        asked = {name: value for name, value in only.items() if value is not None}
        found = audit.entries(ledger, since_ms, until_ms, asked, query.limit)
        return AuditLog(entries=[_told(entry) for entry in found])

    summary = "Who read about others, who changed what"
    return Endpoint("/v1/audit", summary, AuditQuery, AuditLog, alike(answer), who=OPERATORS)


def _told(entry: Entry) -> AuditEntry:
    return AuditEntry(
        at=rfc3339(entry.at_ms),
        who=entry.who or None,
        role=entry.role,
        address=entry.address or None,
        act=entry.act,
        what=entry.what,
        result=entry.result,
        times=entry.times,
    )
