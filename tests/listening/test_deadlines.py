"""Deadlines of one length."""

import asyncio

from wattkeeper.listening.deadlines import Deadlines


async def test_what_has_not_ended_expires_once_and_in_order() -> None:
    """One that begins anew has all of its time again; one that ended stays silent."""
    expired: list[int] = []
    loop = asyncio.get_running_loop()
    began: dict[int, float] = {}
    late: list[float] = []

    def over(one: int) -> None:
        late.append(loop.time() - began[one] - 0.2)
        expired.append(one)

    deadlines = Deadlines[int](0.2, over)
    for one in range(100):
        began[one] = loop.time()
        deadlines.begin(one)
        if one % 10 == 0:
            await asyncio.sleep(0.005)
    for one in range(0, 100, 2):
        deadlines.end(one)
    began[1] = loop.time()
    deadlines.begin(1)
    assert 1 in deadlines
    assert 2 not in deadlines
    async with asyncio.timeout(10):
        while len(expired) < 50:
            await asyncio.sleep(0.01)
    assert expired == [*range(3, 100, 2), 1]
    assert min(late) > -0.05
    assert 1 not in deadlines
    began[200] = loop.time()
    deadlines.begin(200)  # after a rest
    async with asyncio.timeout(10):
        while len(expired) < 51:
            await asyncio.sleep(0.01)
