"""`/jobs`: every job, sorted and searched. `/jobs/…`: one of them, with its trace."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from pydantic import Field

from wattkeeper.aggregator.endpoint import Query
from wattkeeper.aggregator.page.asking import Asker, Part
from wattkeeper.aggregator.page.charts import Chart, power_chart
from wattkeeper.aggregator.page.view import View
from wattkeeper.aggregator.page.words import job_path
from wattkeeper.aggregator.page.words import query as query_string
from wattkeeper.units import CLASSES, SOURCES, SPLITS, seconds_between

_LIST_S, _JOB_S, _TRACE_S = 5.0, 5.0, 15.0
_SEARCHED = 2_000
"""The newest jobs that a list is made of."""
_ROWS = 200
"""Jobs on one page."""

Sort = Literal[
    "start", "job", "name", "user", "account", "state", "ran", "gpu", "energy", "idle", "power"
]


def ran(job: Any) -> float | None:
    """Return for how many seconds a job ran, so far."""
    return seconds_between(job.start, job.end or job.as_of)


_KEYS: dict[str, Callable[[Any], Any]] = {
    "start": lambda job: job.start,
    "job": lambda job: (len(job.job_id), job.job_id),
    "name": lambda job: job.name,
    "user": lambda job: job.user,
    "account": lambda job: job.account,
    "state": lambda job: job.state,
    "ran": ran,
    "gpu": lambda job: job.gpu_seconds,
    "energy": lambda job: job.energy_uj,
    "idle": lambda job: job.allocated_idle_uj,
    "power": lambda job: job.mean_watts,
}
COLUMNS: Sequence[tuple[Sort, str, str]] = (
    ("job", "job", "text"),
    ("name", "name", "text wide"),
    ("user", "user", "text"),
    ("account", "account", "text middle"),
    ("state", "state", "text"),
    ("start", "start", "text middle"),
    ("ran", "ran", "figure middle"),
    ("gpu", "GPU h", "figure middle"),
    ("energy", "energy", "figure"),
    ("idle", "idle", "figure middle"),
    ("power", "mean", "figure middle"),
)
"""Columns of the list: what they sort by, their heading, and their look."""


class JobsPageQuery(Query):
    """Which jobs, in which order."""

    q: str = Field("", max_length=200, description="words, each in id, name, user, account, state")
    since: str = Field("-7d", description="that ran after: -24h, 2026-11-01")
    state: str | None = Field(None, description="in this state")
    user: str | None = Field(None, description="of this user")
    account: str | None = Field(None, description="of this account")
    sort: Sort = Field("start", description="by this column")
    order: Literal["asc", "desc"] = Field("desc", description="the greatest first, or last")
    page: int = Field(1, ge=1, le=1000, description=f"{_ROWS} jobs on each")


class JobPageQuery(Query):
    """One job."""

    cluster: str = Field(description="its cluster")
    id: str = Field(description="its id")
    run: int | None = Field(None, ge=1, description="which run of it; the newest")
    by: Literal["component", "node", "gpu"] = Field("component", description="layers of the trace")


async def see_jobs(asker: Asker, query: JobsPageQuery) -> View:
    """Ask for the newest jobs."""
    found = await asker.ask(
        "/v1/jobs",
        _LIST_S,
        since=query.since,
        state=query.state or None,
        user=query.user or None,
        account=query.account or None,
        limit=_SEARCHED,
    )
    return View("jobs.html", partial(_jobs, query, found))


def _jobs(query: JobsPageQuery, found: Any) -> Mapping[str, Any]:
    given = query.model_dump(exclude_defaults=True)
    words = query.q.lower().split()
    fitting = [job for job in found.jobs if _has(job, words)] if words else found.jobs
    listed = in_order(fitting, query.sort, query.order)
    pages = max(1, -(-len(listed) // _ROWS))
    page = min(query.page, pages)
    return {
        "here": "/jobs",
        "given": given,
        "chips": [
            (name, given[name], query_string(given, page=None, **{name: None}))
            for name in ("user", "account")
            if given.get(name)
        ],
        "asked": query,
        "columns": COLUMNS,
        "jobs": listed[(page - 1) * _ROWS : page * _ROWS],
        "count": len(listed),
        "energy_uj": sum(job.energy_uj for job in listed),
        "page": page,
        "pages": pages,
        "more": found.more,
        "searched": _SEARCHED,
        "since": found.since,
        "as_of": found.as_of,
        "ran": ran,
    }


def in_order(jobs: Sequence[Any], sort: Sort, order: str) -> list[Any]:
    """Return jobs sorted by a column; those without a value come last in either order."""
    key = _KEYS[sort]
    with_value = [job for job in jobs if key(job) is not None]
    without = [job for job in jobs if key(job) is None]
    return sorted(with_value, key=key, reverse=order == "desc") + without


def _has(job: Any, words: Sequence[str]) -> bool:
    texts = (job.job_id, job.name, job.user, job.account, job.partition, job.state, *job.nodes)
    text = "\n".join(filter(None, texts)).lower()
    return all(word in text for word in words)


async def see_job(asker: Asker, query: JobPageQuery) -> View:
    """Ask for a job and its trace."""
    of: dict[str, Any] = {"cluster": query.cluster, "id": query.id, "run": query.run}
    by = () if query.by == "component" else (query.by,)
    job, trace = await asyncio.gather(
        asker.ask("/v1/jobs/{cluster}/{id}", _JOB_S, **of),
        asker.part("/v1/jobs/{cluster}/{id}/trace", _TRACE_S, 5, by=by, **of),
    )
    return View("job.html", partial(_job, query, job, trace))


def _job(query: JobPageQuery, job: Any, trace: Part) -> Mapping[str, Any]:
    return {
        "here": "/jobs",
        "given": {"run": query.run, "by": query.by},
        "job": job,
        "ran_s": ran(job),
        "sure": _sure(job),
        "classes": CLASSES,
        "chart": _trace(query, job, trace),
        "trace_problem": trace.problem,
        "as_of": job.as_of,
    }


def _sure(job: Any) -> list[tuple[str, int]]:
    """Return how each part of the energy was measured, and how it was told from others'."""
    parts = [(SOURCES.get(name, name), uj) for name, uj in job.energy_by_source_uj.items()]
    parts += [(SPLITS.get(name, name), uj) for name, uj in job.energy_by_split_uj.items()]
    return [(words, uj) for words, uj in parts if uj]


def _trace(query: JobPageQuery, job: Any, trace: Part) -> Chart | None:
    if trace.answer is None or not trace.answer.series:
        return None
    asked = query_string({"run": query.run, "by": None if query.by == "component" else query.by})
    source = f"/v1{job_path(job)}/trace{asked}"

    def name(labels: Mapping[str, str]) -> str:
        if query.by == "component":
            return labels["component"]
        return " ".join(filter(None, (labels["component"], labels.get(query.by))))

    return power_chart(trace.answer, "Power over its life", name, source)
