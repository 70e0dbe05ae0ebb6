"""Too much of anything is refused, cheaply, and others deliver meanwhile."""

import asyncio
import contextlib
import threading
import tracemalloc
import zlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import Feeder
from tests.aggregator.roles import ask, guarded
from wattkeeper.aggregator.limiting import Rates
from wattkeeper.aggregator.report_answers import Report
from wattkeeper.aggregator.reporting import Reporting, ReportQuery
from wattkeeper.delivery import wire
from wattkeeper.ledger.queries.scope import Scope
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.meter import Component, MeterInfo
from wattkeeper.model.window import EpochInfo

FEW = {"limits": {"questions": 0.5, "deliveries": 0.1, "nodes": 2, "bodies": 8}}
HASTE = {"limits": {"header_timeout": "1s", "body_timeout": "1s", "connections_per_address": 40}}


@given(st.lists(st.floats(0, 100), max_size=60), st.floats(0.1, 20))
def test_never_more_than_the_rate_and_never_less(gaps: list[float], rate: float) -> None:
    """Half a minute's at once, then the rate; who waits as told is served."""
    clock = [0.0]
    rates = Rates(rate, now_s=lambda: clock[0])
    served = 0
    for gap in gaps:
        clock[0] += gap
        wait = rates.wait_s("a")
        served += not wait
        assert served <= max(1.0, rate * 30) + clock[0] * rate + 1e-6
        if wait:
            clock[0] += wait + 1e-6
            assert not rates.wait_s("a")
            served += 1
    assert not rates.wait_s("b")


@pytest.mark.parametrize("centre", [FEW], indirect=True)
async def test_too_many_questions_are_429(centre: Centre) -> None:
    """With the time to wait; deliveries go on."""
    statuses = [(await centre.get("/v1/fleet"))[0] for _ in range(20)]
    assert statuses == [200] * 15 + [429] * 5
    async with centre.session.get(f"{centre.aggregator.url}/v1/fleet") as answer:
        assert answer.headers["Retry-After"] == "2"
        assert "limits.questions" in (await answer.json(content_type=None))["detail"]
    assert (await centre.deliver(Feeder().batch([])))[0] == 200
    assert centre.aggregator._counts.taken["refused_questions"] == 6


async def test_one_who_asks_much_at_once_lets_others_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few of the long questions of one are asked at a time: who comes next waits for those."""
    asked: list[str] = []
    gate = threading.Event()
    report = Reporting.report

    def slow(self: Reporting, query: ReportQuery, scope: Scope | None) -> Report:
        assert scope is not None
        asked.append(scope.user)
        gate.wait(10)
        return report(self, query, scope)

    monkeypatch.setattr(Reporting, "report", slow)
    async with guarded(tmp_path) as centre, asyncio.timeout(30), asyncio.TaskGroup() as group:
        many = [group.create_task(ask(centre, "user", "/v1/report")) for _ in range(30)]
        while not asked:
            await asyncio.sleep(0.01)
        assert (await ask(centre, "public", "/healthz"))[0] == 200
        other = group.create_task(ask(centre, "manager", "/v1/report"))
        await ask(centre, "manager", "/v1/fleet")
        gate.set()
        assert (await other)[0] == 200
        assert {(await one)[0] for one in many} == {200}
    assert asked.index("ann") <= 4
    assert len(asked) == 31


@pytest.mark.parametrize("centre", [FEW], indirect=True)
async def test_a_node_that_delivers_without_rest_is_429(centre: Centre) -> None:
    """It alone; the agent waits and sends again."""
    feeder = Feeder()
    statuses = [(await centre.deliver(feeder.batch([])))[0] for _ in range(5)]
    assert statuses == [200] * 3 + [429] * 2
    other = Feeder(node="node002", journal="j2", uuid="GPU-2")
    assert (await centre.deliver(other.batch([])))[0] == 200
    assert centre.aggregator._counts.refused["too-many"] == 2


@pytest.mark.parametrize("centre", [FEW], indirect=True)
async def test_made_up_nodes_have_an_end(centre: Centre) -> None:
    """Those that are known deliver on."""
    feeders = [Feeder(node=f"n{i}", journal=f"j{i}", uuid=f"GPU-{i}") for i in range(3)]
    found = [await centre.deliver(feeder.batch([])) for feeder in feeders]
    assert [status for status, _ in found] == [200, 200, 403]
    assert "limits.nodes" in found[2][1]["detail"]
    assert (await centre.deliver(feeders[0].batch([])))[0] == 200


async def test_holders_that_are_made_up_without_end_are_429(centre: Centre) -> None:
    """30,000 of a node at once, and then as many as there is time for; others are not touched."""
    feeder = Feeder()
    await centre.deliver(feeder.batch([]))
    statuses = []
    for begin in range(17, 48_000, 12_000):
        holders = {n: HolderInfo("slurm", str(n), 1) for n in range(begin, begin + 12_000)}
        batch = msgspec.structs.replace(feeder.batch([]), holders=holders)
        statuses.append((await centre.deliver(batch))[0])
    assert statuses == [200, 200, 429, 429]
    assert (await centre.deliver(feeder.batch(feeder.run(1))))[0] == 200


async def test_journals_that_are_made_up_without_end_are_429(centre: Centre) -> None:
    """Each from a boot of its own, which may take over at once."""
    statuses = []
    for number in range(12):
        feeder = Feeder(journal=f"j{number}", boot=f"b{number}")
        statuses.append((await centre.deliver(feeder.batch([])))[0])
    assert statuses == [200] * 10 + [429] * 2
    assert (await centre.deliver(Feeder(journal="j9", boot="b9").batch([])))[0] == 200


async def test_epochs_of_a_journal_have_an_end(centre: Centre) -> None:
    """By their numbers, which begin at one."""
    batch = msgspec.structs.replace(Feeder().batch([]), epochs={(1 << 16) + 1: EpochInfo("b", "")})
    status, answer = await centre.deliver(batch)
    assert (status, answer["field"]) == (400, "epochs")


async def test_meters_of_a_node_have_an_end(centre: Centre) -> None:
    """Over all of its deliveries."""
    feeder = Feeder()
    await centre.deliver(feeder.batch(feeder.run(1)))
    many = {n: MeterInfo(f"gpu/GPU-{n}", Component.GPU, "nvml") for n in range(3, 4098)}
    for meters, expected in ((dict(list(many.items())[:2000]), 200), (many, 400)):
        batch = msgspec.structs.replace(feeder.batch([]), meters=meters)
        status, answer = await centre.deliver(batch)
        assert (status, answer.get("field", "meters")) == (expected, "meters")


def _lists_of_nothing() -> list[bytes]:
    """Return what takes few bytes and would be a lot of objects."""
    batch: dict[str, Any] = msgspec.to_builtins(Feeder().batch([]))
    deep = msgspec.msgpack.encode
    live: list[Any] = [1, 1, None, None, None, [], []]
    return [
        deep({**batch, "records": [b""] * (1 << 18)}),
        deep({**batch, "snapshot": {"meters": [live] * 400_000}}),
        deep({**batch, "holders": {n: ["a", "b", 1] for n in range(16, 100_000)}}),
        deep({**batch, "holders": {16: ["a", "b", 1, {str(n): "" for n in range(1000)}]}}),
    ]


async def test_bombs_take_neither_memory_nor_the_loop(centre: Centre) -> None:
    """Of zeros, and of lists of nothing: each is refused before it is memory."""
    zeros = zlib.compress(bytes(wire.MAX_BATCH * 2), 1)
    bodies = [zeros, zeros * 10, *(zlib.compress(plain, 1) for plain in _lists_of_nothing())]
    tracemalloc.start()
    try:
        for body in bodies:
            assert len(body) < wire.MAX_BODY
            status, answer = await centre.post(body)
            assert (status, answer["title"], answer["field"]) == (400, "bad delivery", "body")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Inflated, once as the buffer grows and once as a whole.
    assert peak < 3 * wire.MAX_BATCH


async def test_who_leaves_amid_a_body_writes_no_log(
    centre: Centre, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes nothing but a connection, so that it could be done all day."""
    host, _, port = centre.aggregator.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/windows HTTP/1.1\r\nHost: x\r\nContent-Type: {wire.CONTENT_TYPE}\r\n"
    writer.write(f"{head}Content-Length: 1000\r\n\r\nx".encode())
    await writer.drain()
    assert (await centre.deliver(Feeder().batch([])))[0] == 200
    writer.close()
    await writer.wait_closed()
    counts = centre.aggregator._counts.refused
    async with asyncio.timeout(10):
        while not counts["cut-short"]:
            await asyncio.sleep(0.01)
    assert not caplog.records


@pytest.mark.parametrize("centre", [FEW], indirect=True)
async def test_many_large_bodies_at_once_have_room_for_some(centre: Centre) -> None:
    """The others are 429, so that agents send them again; what was received is free again."""
    feeder = Feeder()
    statuses = []
    body = zlib.compress(bytes(1 << 20), 0) * 3 + bytes(1 << 19)

    async def send(data: Any) -> None:
        headers = {"Content-Type": wire.CONTENT_TYPE}
        url = f"{centre.aggregator.url}/v1/windows"
        async with centre.session.post(url, data=data, headers=headers) as answer:
            statuses.append(answer.status)

    ready, go = asyncio.Semaphore(0), asyncio.Event()

    async def slowly() -> Any:
        for at in range(0, len(body), 1 << 19):
            if at > len(body) - (1 << 20):
                ready.release()
                await go.wait()
            yield body[at : at + (1 << 19)]

    sending = [asyncio.create_task(send(slowly())) for _ in range(4)]
    async with asyncio.timeout(10):
        while len(statuses) < 1:
            await asyncio.sleep(0.02)
    assert statuses[0] == 429
    assert (await centre.deliver(feeder.batch([])))[0] in (200, 429)
    go.set()
    await asyncio.gather(*sending, return_exceptions=True)
    assert (await centre.deliver(feeder.batch([])))[0] == 200
    assert centre.aggregator._counts.refused["busy"] >= 1


@pytest.mark.parametrize("centre", [HASTE], indirect=True)
async def test_deliveries_go_on_in_a_flood_of_slow_clients(centre: Centre) -> None:
    """Headers that drip, bodies that drip, connections that say nothing, all from one address."""
    port = centre.aggregator.port
    post = b"POST /v1/windows HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n"
    post += f"Content-Type: {wire.CONTENT_TYPE}\r\n\r\n".encode()
    slow = []
    for said in (b"", b"GET / HTTP/1.1\r\nX: ", post) * 30:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        slow.append((reader, writer))
    feeder = Feeder()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session:
        own = Centre(centre.aggregator, session, centre.clock)
        for _ in range(3):
            async with asyncio.timeout(15):
                while (await _tried(own, feeder)) != 200:
                    await asyncio.sleep(0.1)
    for reader, writer in slow:
        async with asyncio.timeout(15):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
    cut = centre.aggregator._counts.cut
    assert cut["address"] + cut["header"] + cut["body"] >= 90 - 40


async def _tried(centre: Centre, feeder: Feeder) -> int | None:
    try:
        return (await centre.deliver(feeder.batch([])))[0]
    except aiohttp.ClientError:
        return None


def test_limits_are_told() -> None:
    """Settings that make no sense name the key."""
    from wattkeeper.aggregator.limit_config import LimitsSection

    for wrong in ({"questions": 0}, {"connections": 1}, {"body_timeout": "1h"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            LimitsSection.model_validate(wrong)
    assert LimitsSection().of_connections.body_s == timedelta(minutes=1).total_seconds()
