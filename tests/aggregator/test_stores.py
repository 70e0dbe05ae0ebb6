"""Where the history goes, and what one ledger of several aggregators allows."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.aggregator.conftest import Centre, settings, started
from tests.aggregator.feeding import GPU_UJ, START_MS, Feeder
from tests.postgresql.fixtures import POSTGRESQL
from tests.telemetry.engines import Engine, victoria_metrics
from wattkeeper.aggregator.opening import StartError
from wattkeeper.aggregator.runtime import Aggregator
from wattkeeper.aggregator.stores import LedgerCursors
from wattkeeper.ledger.store import Ledger
from wattkeeper.telemetry.base import Cursor, TelemetryError

PAST_MS = 1_793_491_200_000
"""2026-11-01: engines take nothing that is of the future."""


@pytest.mark.parametrize("database", ["sqlite", POSTGRESQL])
def test_cursors_in_the_ledger(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """They are what was moved last, also for another aggregator; a dead database says so."""
    url: str | Path = tmp_path / "ledger.sqlite"
    if database == "postgresql":
        url = request.getfixturevalue("new_url")()
    ledger, other = Ledger.open(url), Ledger.open(url)
    mine, theirs = LedgerCursors(ledger), LedgerCursors(other)
    assert mine.read() == {}
    mine.move({"b": Cursor(3, b"x" * 16), "a": Cursor(1, b"y" * 16)})
    theirs.move({"b": Cursor(5, b"z" * 16)})
    assert mine.read() == {"a": Cursor(1, b"y" * 16), "b": Cursor(5, b"z" * 16)}
    with ledger.writing() as connection:
        connection.exec_driver_sql("DROP TABLE recorded")
    with pytest.raises(TelemetryError, match="cursors"):
        mine.read()
    with pytest.raises(TelemetryError, match="cursors"):
        mine.move({"a": Cursor(2, b"")})
    ledger.close()
    other.close()


@pytest.mark.postgresql
def test_a_history_of_one_is_none_of_two(tmp_path: Path, new_url: Callable[[], str]) -> None:
    """Beside another aggregator the store in data_dir is refused, with the reason and the fix."""
    url = new_url()

    def aggregator(name: str, **more: object) -> Aggregator:
        own = settings(tmp_path / name, ledger={"url": url}, **more)
        return Aggregator(own, now_ms=lambda: START_MS)

    async def together() -> None:
        async with started(aggregator("a", telemetry={"url": "none"})):
            with pytest.raises(StartError, match=r"set telemetry\.url for all of them"):
                await aggregator("b").start()
            async with started(aggregator("c", telemetry={"url": "none"})):
                pass
        async with started(aggregator("b")):
            pass

    asyncio.run(together())


async def test_an_engine_that_cannot_be_meant_so(tmp_path: Path) -> None:
    """The key is named."""
    own = settings(tmp_path, telemetry={"url": "http://user:secret@vm:8428/api/v1/write"})
    with pytest.raises(StartError, match=r"^telemetry: url: .*token_file") as caught:
        await Aggregator(own, now_ms=lambda: START_MS).start()
    assert "secret" not in str(caught.value)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A VictoriaMetrics of its own."""
    (tmp_path / "engine").mkdir()
    with victoria_metrics(tmp_path / "engine") as opened:
        yield opened


@pytest.fixture(params=["sqlite", POSTGRESQL])
def ledger_of(request: pytest.FixtureRequest) -> dict[str, str]:
    """The ledger's settings: a file in data_dir, or a database of its own."""
    if request.param == "sqlite":
        return {}
    return {"url": request.getfixturevalue("new_url")()}


@pytest.mark.engines
async def test_history_in_an_engine(
    tmp_path: Path, ledger_of: dict[str, str], engine: Engine
) -> None:
    """Asked the same as the store in data_dir, it answers the same, also after a restart."""
    own = settings(tmp_path / "a", ledger=ledger_of, telemetry={"url": engine.write_url})
    clock = [PAST_MS]
    async with aiohttp.ClientSession() as session:
        async with started(Aggregator(own, now_ms=lambda: clock[0])) as first:
            centre = Centre(first, session, clock)
            feeder = await centre.fed(Feeder(origin_ms=PAST_MS), windows=180)
            assert (await centre.deliver(feeder.batch([])))[1]["committed"] == feeder.first - 1
        await asyncio.to_thread(engine.flush)
        async with started(Aggregator(own, now_ms=lambda: clock[0])) as again:
            centre = Centre(again, session, clock)
            ack = (await centre.deliver(feeder.batch([])))[1]
            assert ack["committed"] == ack["accepted"] == feeder.first - 1
            query = {"metric": "energy", "by": "user", "step": "15m", "component": "gpu"}
            times = {"since": "2026-11-01T00:00Z", "until": "2026-11-01T00:30Z"}
            status, body = await centre.get("/v1/telemetry", **query, **times)
            assert status == 200
            (series,) = body["series"]
            assert series["labels"]["user"] == "alice"
            assert series["values"] == pytest.approx([90 * GPU_UJ / 1e6] * 2)
            _, trace = await centre.get("/v1/jobs/west/123/trace")
            _, job = await centre.get("/v1/jobs/west/123")
            assert trace["energy_joules"] == pytest.approx(int(job["energy_uj"]) / 1e6)
            states = {f["state"] for f in (await centre.get("/v1/findings"))[1]["findings"]}
            assert states == {"ok"}
