"""What cannot be asked of history, what is too much of it, and stores that do not answer."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.aggregator.past import Past
from tests.telemetry.memory_store import MemoryStore
from wattkeeper.aggregator import telemetry_fold
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.telemetry.base import Answer, Question

PATH = "/v1/telemetry"
TRACE = "/v1/jobs/west/123/trace"


def test_more_than_can_be_folded(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says so, rather than answer with less than all."""
    monkeypatch.setattr(telemetry_fold, "MOST_FOLDED", 3)
    problem = past.problem(PATH, metric="power", since="-30m", by="user")
    assert (problem.status, problem.kind, problem.field) == (400, "too-many-series", "by")


def test_filters_that_mean_too_many_jobs(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """Say which one it was."""
    monkeypatch.setattr("wattkeeper.aggregator.telemetry_filters.MOST_HOLDERS", 1)
    problem = past.problem(PATH, metric="power", account="physics,chemistry")
    assert (problem.status, problem.field) == (400, "account")


def test_an_answer_has_a_bounded_number_of_values(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is beyond it is counted as left out."""
    monkeypatch.setattr("wattkeeper.aggregator.telemetry_asking.MOST_VALUES", 360)
    answer = past.get(PATH, metric="power", since="-30m", by="meter")
    assert (len(answer["series"]), answer["omitted_series"]) == (2, 1)


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ({}, "metric", "missing"),
        ({"metric": "watts"}, "metric", "'power'"),
        ({"by": "shoe"}, "by", "user, account"),
        ({"by": "group:row"}, "by", "group:rack"),
        ({"step": "soon"}, "step", "10s"),
        ({"step": "500ms"}, "step", "whole seconds"),
        ({"step": "1s", "since": "-30d"}, "step", "take 300s or more"),
        ({"step": f"{'9' * 400}d"}, "step", "10s"),
        ({"since": f"-{'9' * 400}d"}, "since", "2100"),
        ({"since": "-1h", "until": "-2h"}, "until", "after since"),
        ({"aggregation": "median"}, "aggregation", "'sum'"),
        ({"limit": "0"}, "limit", "greater than"),
        ({"component": "tpu"}, "component", "gpu, cpu"),
        ({"payer": "me"}, "payer", "workload, idle"),
        ({"node": "n[3-1]"}, "node", "backward"),
        ({"node": "n[0-99999],m[0-99999]"}, "node", "more than"),
        ({"job": "9-1"}, "job", "backward"),
        ({"group": "row:1"}, "group", "group:rack"),
        ({"usr": "x"}, "usr", "known: account, aggregation"),
    ],
)
def test_bad_parameters_are_named(past: Past, query: dict[str, str], field: str, says: str) -> None:
    """400, the field, and what would be right."""
    asked = {"metric": "power"} | query if query else {}
    problem = past.problem(PATH, **asked)
    assert (problem.status, problem.field) == (400, field)
    assert says in problem.detail


TEXT = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["-1h", "now", "1e9", "-9e99d", "10s", "0s", "node[1-3]", "[", "],[", "1-5", "1_[", "rack:",
         "group:", "user", "node,user,group:rack", "power", "energy", "mean", "\0", "²", "-1",
         "9" * 30]
    ),
)  # fmt: skip
NAMES = st.sampled_from(
    ["metric", "by", "since", "until", "step", "aggregation", "limit", "node", "component", "payer",
     "user", "job", "group", "cluster", "workload", "manager", "run", "id"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(query=st.lists(st.tuples(NAMES, TEXT), max_size=6), path=st.sampled_from(["", "trace"]))
def test_hostile_parameters_never_fail(past: Past, query: list[tuple[str, str]], path: str) -> None:
    """Whatever is asked, there is an answer or a problem that says what is wrong."""
    named = {name for name, _ in query}
    asked = query if path or "metric" in named else [*query, ("metric", "power")]
    try:
        past.get("/v1/jobs/west/123/trace" if path else PATH, asked)
    except ProblemError as found:
        problem = found
    else:
        return
    assert problem.status in (400, 404)
    assert problem.detail


async def serving(app: web.Application) -> TestClient[Any, Any]:
    """Return a client of an application."""
    client = TestClient(TestServer(app))
    await client.start_server()
    return client


async def test_without_a_store(past: Past) -> None:
    """History says what is missing; everything else answers."""
    with ThreadPoolExecutor(2) as pool:
        client = await serving(past.app(pool, past.bare))
        for path in (f"{PATH}?metric=power", "/v1/jobs/west/123/trace"):
            answer = await client.get(path)
            body = await answer.json(content_type=None)
            assert (answer.status, body["type"]) == (404, "urn:wattkeeper:problem:no-telemetry")
            assert "`telemetry`" in body["detail"]
        for path in ("/v1/jobs/west/123", "/v1/report", "/v1/balance"):
            assert (await client.get(path)).status == 200
        await client.close()


async def test_a_store_that_fails(fresh: Past) -> None:
    """503 in its own words; the ledger's endpoints do not depend on it."""
    fresh.rows.fails = "the disk is full: free some space"
    with ThreadPoolExecutor(2) as pool:
        client = await serving(fresh.app(pool))
        answer = await client.get(PATH, params={"metric": "power", "by": "user"})
        body = await answer.json(content_type=None)
        assert (answer.status, answer.content_type) == (503, "application/problem+json")
        assert "the disk is full" in body["detail"]
        assert (await client.get("/v1/jobs/west/123")).status == 200
        await client.close()


class Stuck(MemoryStore):
    """A store that answers when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def ask(self, question: Question) -> Answer:
        """Answer late."""
        self.let_go.wait(30)
        return super().ask(question)


@pytest.fixture
def stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Past, Stuck]]:
    """A past whose store does not answer within the limit."""
    monkeypatch.setattr("wattkeeper.aggregator.telemetry.LIMIT_S", 0.2)
    store = Stuck()
    with Past(tmp_path, store) as opened:
        yield opened.two_jobs(), store


async def test_a_store_that_is_stuck(stuck: tuple[Past, Stuck]) -> None:
    """More questions than threads: each is a problem in time, and the ledger answers on."""
    past, store = stuck
    with ThreadPoolExecutor(1) as pool:
        client = await serving(past.app(pool))
        try:
            asked = [client.get(PATH, params={"metric": "power"}) for _ in range(8)]
            answers = await asyncio.gather(*asked)
            kinds = {(await one.json(content_type=None))["type"] for one in answers}
            assert kinds == {"urn:wattkeeper:problem:too-slow"}
            assert {one.status for one in answers} == {503}
            assert (await client.get("/v1/balance")).status == 200
        finally:
            store.let_go.set()
        await client.close()


def test_a_question_stops_between_pieces(fresh: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread does not go on for nobody."""
    monkeypatch.setattr("wattkeeper.aggregator.telemetry_asking.LIMIT_S", -1.0)
    problem = fresh.problem(PATH, metric="power", by="user")
    assert (problem.status, problem.kind, fresh.rows.asked) == (503, "too-slow", [])
