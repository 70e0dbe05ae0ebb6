"""A release really closes the driver, for one GPU or all, and comes back by UUID."""

import asyncio

import pytest

from tests.fake_nvml.bench import Bench
from tests.sources.bench import child_pids
from wattkeeper.model.state import State

pytestmark = pytest.mark.compiler


async def test_release_all(bench: Bench) -> None:
    """No process of ours holds any GPU; afterwards all are back under the same load."""
    await bench.source.start()
    loads = {spec.info.name: spec.load for spec in bench.source.meters()}
    assert bench.fake.holders(0) == child_pids()
    await bench.source.release(None, 1)
    assert [bench.fake.holders(i) for i in range(4)] == [[], [], [], []]
    assert child_pids() == []
    assert await bench.read() == {}
    assert [bench.finding().state, *bench.states()] == [State.RELEASED] * 5
    await bench.read_until(lambda found: len(found) == 4)
    assert {spec.info.name: spec.load for spec in bench.source.meters()} == loads
    assert [bench.finding().state, *bench.states()] == [State.OK] * 5


async def test_release_one(bench: Bench) -> None:
    """The others go on without a missed tick while one GPU is open nowhere."""
    await bench.source.start()
    await bench.source.release(bench.fake.meter(1), 1)
    assert bench.fake.holders(1) == []
    assert len(bench.fake.holders(0)) == 1
    assert set(await bench.read()) == {0, 2, 3}
    ok, out = State.OK, State.RELEASED
    assert [bench.finding().state, *bench.states()] == [ok, ok, out, ok, ok]
    assert len(bench.source.meters()) == 4
    seen = set()
    while 1 not in (readings := await bench.read()):
        assert set(readings) == {0, 2, 3}
        seen.add(bench.finding(1).state)
        await asyncio.sleep(0.01)
    assert seen == {State.RELEASED}
    assert bench.finding(1).state == State.OK


async def test_release_each_by_one(bench: Bench) -> None:
    """When the last GPU is released, no child is left."""
    await bench.source.start()
    for i in range(4):
        await bench.source.release(bench.fake.meter(i), 60)
    assert child_pids() == []
    assert bench.finding().state == State.RELEASED


async def test_release_while_another_is_lost(bench: Bench) -> None:
    """A lost GPU does not keep a healthy one from being released."""
    await bench.source.start()
    bench.fake.gpu(0).all_code = 15
    await bench.read()
    await bench.source.release(bench.fake.meter(1), 5)
    assert bench.fake.holders(1) == []
    assert set(await bench.read()) == {2, 3}
    assert bench.finding(0).state == State.FAILING


async def test_release_of_nothing(bench: Bench) -> None:
    """An unknown GPU or a time of zero is refused with the reason."""
    await bench.source.start()
    with pytest.raises(ValueError, match="no NVIDIA GPU is called 'gpu/GPU-9'"):
        await bench.source.release("gpu/GPU-9", 60)
    with pytest.raises(ValueError, match="for_s must be above 0"):
        await bench.source.release(None, 0)


async def test_release_by_uuid_alone(bench: Bench) -> None:
    """What an operator copies from nvidia-smi -L is understood."""
    await bench.source.start()
    await bench.source.release(bench.fake.gpu(2).uuid.decode(), 5)
    assert bench.finding(2).state == State.RELEASED
