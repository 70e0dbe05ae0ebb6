"""A story as it is played: time goes by, things happen, the node samples, the centre takes."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from tests.ledger.settling import settle_all
from tests.properties.centre import Centre
from tests.properties.fakes import without_hardware
from tests.properties.node import GRACE_MS, STEP_MS, Node
from tests.properties.stories import Job
from wattkeeper.ledger.settlement import settle
from wattkeeper.ledger.store import Ledger

NODE_TURNS = ["calm"] * 9 + ["draw", "draw", "use"]
NODE_TURNS += ["mute", "kill", "stop", "reload", "kubelet"]
"""What happens at the node's samples beside them."""
CENTRE_TURNS = ["wait", "wait", "round", "deliver", "lose", "commit", "ask", "listen", "settle"]
CENTRE_TURNS += ["restart"]
"""`round` is what the centre does in peace: take, commit, ask, settle."""
_USES = (None, 0, 700_000)
_UTTERMOST = 50


@dataclass
class Play:
    """How a story is played: what is done at each sample, one after the other, and over again."""

    jobs: Sequence[Job]
    node: Sequence[str] = ("calm",)
    centre: Sequence[str] = ("wait",)
    watts: Sequence[int] = (100,)


class World:
    """A node and its centre."""

    def __init__(self, folder: Path, play: Play, ledger: Ledger) -> None:
        self.jobs = play.jobs
        self._play = play
        self.centre = Centre(ledger)
        self.node = Node(folder, self.centre)
        self._samples = 0
        self._down = 0

    async def play(self) -> None:
        """Play from the beginning to the end, and let everything arrive."""
        self.node.start()
        self.centre.ask([])
        self.centre.listen()
        await self.node.look()
        happenings = sorted(
            (at, kind, number)
            for number, job in enumerate(self.jobs)
            for at, kind in job.happenings()
        )
        for at, together in groupby(happenings, key=itemgetter(0)):
            await self._until(at)
            seen = False
            for _, kind, number in together:
                self.node.do(kind, self.jobs[number], number)
                seen |= self.jobs[number].seen
            if seen:
                await self.node.look(checkpoint=True)
        await self._until(self.node.now_ms + GRACE_MS + 2 * STEP_MS)
        await self._end()

    async def _until(self, at_ms: int) -> None:
        """Let time go by, with a sample at each line of the grid before `at_ms`."""
        while (line_ms := (self._samples + 1) * STEP_MS) < at_ms:
            self._pass_time(line_ms)
            await self._node_turn(self._turn(self._play.node))
            await self._centre_turn(self._turn(self._play.centre))
            self._samples += 1
        self._pass_time(at_ms)

    def _turn(self, turns: Sequence[str]) -> str:
        return turns[self._samples % len(turns)]

    def _pass_time(self, until_ms: int) -> None:
        self.node.pass_time(until_ms)
        self.centre.now_ms = self.node.clock.wall_ns() // 10**6

    async def _node_turn(self, kind: str) -> None:
        node = self.node
        if node.agent is None:
            self._down -= 1
            if self._down:
                return
            node.start()
        node.gpus.mute = kind == "mute"
        await node.look(checkpoint=kind == "reload")
        match kind:
            case "draw":
                watts = self._play.watts
                node.draw([*watts[self._samples % len(watts) :], *watts])
            case "use":
                node.gpus.use_ppm = _USES[self._samples % len(_USES)]
            case "kill":
                await node.kill()
                self._down = 1 + self._samples % 9
            case "stop":
                if node.agent is not None:
                    await node.agent.close()
                node.start()
            case "reload":
                node.gpus.reload()
                node.reloads.append(node.now_ms)
            case "kubelet":
                node.kubelet.up = not node.kubelet.up

    async def _centre_turn(self, kind: str) -> None:
        centre = self.centre
        calm = kind == "round"
        centre.loses = kind == "lose"
        if calm or kind in {"deliver", "lose"}:
            await self._deliver()
        if calm or kind == "commit":
            centre.intake.commit_sync()
        if calm or kind == "ask":
            centre.ask(self.jobs)
        if calm or kind == "listen":
            centre.listen()
        if calm or kind == "settle":
            settle(centre.ledger, centre.now_ms)
        if kind == "restart":
            centre.restart()

    async def _deliver(self) -> None:
        for _ in range(_UTTERMOST):
            if self.node.agent is None or not await self.node.agent.deliver_once():
                return
        raise AssertionError("the sender does not come to rest")

    async def _end(self) -> None:
        node, centre = self.node, self.centre
        agent = node.agent or node.start()
        node.gpus.mute = False
        await node.look()
        await node.close_books()
        centre.loses = False
        for _ in range(3):
            await self._deliver()
            centre.intake.commit_sync()
        assert agent.journal.pending == 0
        centre.ask(self.jobs)
        centre.listen()
        settle_all(centre.ledger, centre.now_ms)
        await agent.close()


async def played(play: Play, ledger: Ledger) -> World:
    """Play a story on a node without hardware."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), play, ledger)
        with without_hardware(world.node.gpus, world.node.kubelet):
            await world.play()
    return world
