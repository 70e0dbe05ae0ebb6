"""Where the history goes, and what one ledger of several aggregators allows."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.aggregator.conftest import settings
from tests.aggregator.feeding import START_MS
from tests.postgresql.fixtures import POSTGRESQL
from wattkeeper.aggregator.runtime import Aggregator, StartError
from wattkeeper.aggregator.stores import LedgerCursors
from wattkeeper.ledger.store import Ledger
from wattkeeper.telemetry.base import Cursor, TelemetryError


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
        first = aggregator("a", telemetry={"url": "none"})
        await first.start()
        try:
            with pytest.raises(StartError, match=r"set telemetry\.url for all of them"):
                await aggregator("b").start()
            second = aggregator("c", telemetry={"url": "none"})
            await second.start()
            await second.stop()
        finally:
            await first.stop()
        alone = aggregator("b")
        await alone.start()
        await alone.stop()

    asyncio.run(together())


async def test_an_engine_that_cannot_be_meant_so(tmp_path: Path) -> None:
    """The key is named."""
    own = settings(tmp_path, telemetry={"url": "http://user:secret@vm:8428/api/v1/write"})
    with pytest.raises(StartError, match=r"^telemetry: url: .*token_file") as caught:
        await Aggregator(own, now_ms=lambda: START_MS).start()
    assert "secret" not in str(caught.value)
