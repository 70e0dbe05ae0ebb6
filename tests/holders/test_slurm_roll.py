"""Slurm's own list of jobs: asked for rarely, never waited for."""

import asyncio
from pathlib import Path

import pytest

from tests.sources.tree import FakeClock
from wattkeeper.holders.slurm_roll import SlurmRoll, squeue

MINUTE = 60_000_000_000


async def settle(roll: SlurmRoll) -> None:
    """Let what was asked come in."""
    if roll._task is not None:
        await asyncio.wait({roll._task})


async def test_asked_once_a_minute() -> None:
    """The answer comes with the instant before which it was asked; silence keeps the last."""
    clock = FakeClock()
    texts: list[str | None] = ["7\n8\n", None, ""]

    async def ask() -> str | None:
        return texts.pop(0)

    roll = SlurmRoll(ask, clock)
    asked_ns = clock.now_ns
    for _ in range(3):
        roll.want()
        assert roll.answer is None
    await settle(roll)
    assert (asked_ns, frozenset({"7", "8"})) == roll.answer
    roll.want()
    assert 2 == len(texts)
    clock.now_ns += MINUTE
    roll.want()
    await settle(roll)
    assert (True, (asked_ns, frozenset({"7", "8"}))) == (roll.silent, roll.answer)
    clock.now_ns += MINUTE
    roll.want()
    await settle(roll)
    assert (False, (clock.now_ns, frozenset())) == (roll.silent, roll.answer)
    await roll.close()


async def test_without_slurm_nobody_is_asked() -> None:
    """It is silent from the start."""
    roll = SlurmRoll(None, FakeClock())
    roll.want()
    assert (True, None) == (roll.silent, roll.answer)
    await roll.close()


async def test_an_answer_that_is_not_waited_for() -> None:
    """Whoever ends does not wait for a controller that hangs."""

    async def ask() -> str | None:
        await asyncio.Event().wait()
        return ""

    roll = SlurmRoll(ask, FakeClock())
    roll.want()
    await asyncio.sleep(0)
    await roll.close()
    assert roll.answer is None


async def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ids, or nothing if it fails; without it there is nothing to ask."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program = tmp_path / "squeue"
    program.write_text('#!/bin/sh\necho "$@"; [ "$2" = --nodelist=n1 ]\n')
    program.chmod(0o755)
    ask = squeue("n1")
    assert ask is not None
    assert "--noheader --nodelist=n1 --format=%A\n" == await ask()
    other = squeue("n2")
    assert other is not None
    assert await other() is None
    program.unlink()
    assert await ask() is None
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert squeue("n1") is None
