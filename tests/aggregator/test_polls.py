"""How schedulers answer, and which are asked."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.aggregator.conftest import settings, started
from wattkeeper.aggregator.config import AggregatorSettings, SlurmSection
from wattkeeper.aggregator.polls import Poll, Polls
from wattkeeper.aggregator.runtime import Aggregator
from wattkeeper.aggregator.schedulers import schedulers
from wattkeeper.schedulers.base import Knowledge
from wattkeeper.schedulers.slurm import Slurm


def test_polls() -> None:
    """Waiting, then answering; a failure keeps the last answer."""
    polls = Polls(["slurm", "kubernetes"])
    assert (Poll("slurm"), Poll("kubernetes")) == polls.now()
    polls.answered("slurm", 1000, 0.5)
    polls.failed("slurm", "down")
    polls.failed("kubernetes", "gone")
    assert polls.now() == (
        Poll("slurm", "failing", 1000, 0.5, "down"),
        Poll("kubernetes", "failing", message="gone"),
    )
    polls.answered("slurm", 2000, 0.25)
    assert polls.now()[0] == Poll("slurm", "answering", 2000, 0.25)


class Moody:
    """A scheduler that answers every second time."""

    name = "moody"
    interval_s = 0.0

    def __init__(self) -> None:
        self.since: list[int] = []
        self.asked = asyncio.Event()

    async def start(self) -> None:
        """Nothing to do."""

    async def ask(self, since_ms: int) -> Knowledge:
        """Fail first."""
        self.since.append(since_ms)
        if len(self.since) == 4:
            self.asked.set()
            await asyncio.Event().wait()
        if len(self.since) % 2:
            raise TimeoutError("moody did not answer within 1 s")
        return Knowledge()

    async def close(self) -> None:
        """Nothing to do."""


async def test_an_aggregator_knows_how_they_answer(tmp_path: Path) -> None:
    """It asks again from the last answer, and says what is wrong meanwhile."""
    moody, clock = Moody(), iter(range(1000, 100_000))
    aggregator = Aggregator(settings(tmp_path), [moody], now_ms=lambda: next(clock))
    async with started(aggregator):
        async with asyncio.timeout(10):
            await moody.asked.wait()
        (poll,) = aggregator.polls.now()
        assert (poll.scheduler, poll.state) == ("moody", "failing")
        assert poll.message == "moody did not answer within 1 s"
        assert poll.answered_ms is not None
        assert moody.since == [0, 0, poll.answered_ms, poll.answered_ms]
        assert poll.answer_s is not None
        assert poll.answer_s >= 0


def slurm(**more: Any) -> list[Slurm]:
    """Return Slurm's scheduler if these settings ask for it."""
    found = schedulers(AggregatorSettings(slurm=SlurmSection(**more)))
    return [scheduler for scheduler in found if isinstance(scheduler, Slurm)]


@pytest.fixture
def _no_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setattr("wattkeeper.aggregator.schedulers._SLURM_CONFS", ())


@pytest.mark.usefixtures("_no_slurm")
def test_when_slurm_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an address, or where its commands and its configuration are; or as it is told."""
    assert slurm() == []
    assert len(slurm(rest="http://ctl:6820")) == 1
    assert slurm(rest="http://ctl:6820", enabled=False) == []
    assert len(slurm(enabled=True)) == 1
    squeue = tmp_path / "squeue"
    squeue.touch(0o755)
    assert slurm() == []  # the commands alone make no cluster
    conf = tmp_path / "slurm.conf"
    conf.touch()
    assert len(slurm(conf=conf)) == 1
    monkeypatch.setenv("SLURM_CONF", str(conf))
    assert len(slurm()) == 1
    squeue.unlink()
    assert slurm() == []


def test_settings_of_slurm() -> None:
    """As the scheduler takes them."""
    (scheduler,) = slurm(
        rest="unix:/run/rest.sock", interval=timedelta(minutes=1), cluster="hpc", sacct=False
    )
    options = scheduler._options
    assert (options.cluster, options.interval_s, options.timeout_s) == ("hpc", 60.0, 60.0)
    assert (options.rest, options.accounts) == ("unix:/run/rest.sock", False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rest", "run/rest.sock"),
        ("rest", "unix:rest.sock"),
        ("rest", "http://ctl:6820/slurm/v0.0.38"),
        ("rest", "tcp://ctl:6820"),
        ("interval", "0s"),
        ("timeout", "2h"),
    ],
)
def test_settings_that_cannot_be(key: str, value: str) -> None:
    """Refused with what to write."""
    with pytest.raises(ValidationError, match=r"write unix:/run/slurmrestd.sock|between 1s and 1h"):
        SlurmSection(**{key: value})
