"""Whatever happens in whatever order: in the end the scheduler knows what the server knows."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kube.objects import PodMaker, owner
from tests.kube.server import PODS, ApiServer, Refusal
from tests.schedulers.kubernetes_watching import Watching, watching

_NAMES = ("a", "b", "c", "d", "e")
_LIFE = ("create", "place", "run", "end", "delete")
_REST = ("compact", "sever", "refuse", "cut", "expire", "bookmark", "wait", "ask", "fail")
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(_LIFE), st.sampled_from(_NAMES)),
        st.tuples(st.sampled_from(_REST), st.just("")),
    ),
    min_size=5,
    max_size=40,
)


class World:
    """A server to which things happen, and what a perfect observer would remember."""

    def __init__(self, *, gone_as_event: bool) -> None:
        self.server = ApiServer(gone_as_event=gone_as_event)
        self.pods: dict[str, PodMaker] = {}
        self.phase: dict[str, str] = {}

    def create(self, name: str) -> None:
        """Make a pod under a name that is free, with an owner of its own."""
        if name not in self.pods:
            job = owner("batch/v1", "Job", "jobs", f"job-{name}")
            self.server.store.objects.pop((job.kind, "ml", f"job-{name}"), None)
            self.server.store.put(job.kind, job.object)
            self.pods[name] = PodMaker(name, owners=[job.reference])
            self._show(name, "pending")

    def place(self, name: str) -> None:
        """Give it a node."""
        if self.phase.get(name) == "pending":
            self._show(name, "placed")

    def run(self, name: str) -> None:
        """Start it, or change something about it."""
        if self.phase.get(name) in {"pending", "placed", "running"}:
            self._show(name, "running")

    def end(self, name: str) -> None:
        """Let it end by itself."""
        if self.phase.get(name) == "running":
            self._show(name, "over")

    def delete(self, name: str) -> None:
        """Delete it, in whatever phase."""
        if name in self.pods:
            self.server.store.delete(PODS, "ml", name)
            del self.pods[name]
            del self.phase[name]

    def uids(self, phases: set[str]) -> set[str]:
        """Return the pods in these phases."""
        return {pod.uid for name, pod in self.pods.items() if self.phase[name] in phases}

    def _show(self, name: str, phase: str) -> None:
        pod = self.pods[name]
        shown = {
            "pending": pod.pending,
            "placed": lambda: pod.show("Pending"),
            "running": pod.running,
            "over": pod.over,
        }[phase]()
        self.server.store.put(PODS, shown)
        self.phase[name] = phase


async def _happen(world: World, watch: Watching, steps: list[tuple[str, str]]) -> None:
    server = world.server
    faults: dict[str, Callable[[], object]] = {
        "compact": server.store.compact,
        "sever": server.sever,
        "refuse": lambda: server.refusals.append(Refusal(503)),
        "cut": lambda: server.cuts.append(77),
        "expire": lambda: server.expiring.append(lambda: None),
        "bookmark": server.bookmark,
    }
    waits: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "wait": lambda: asyncio.sleep(0.002),
        "ask": watch.ask,
        # An answer that the books did not take: the next question is the same one.
        "fail": lambda: watch.scheduler.ask(watch.asked),
    }
    for step, name in steps:
        if step in faults:
            faults[step]()
        elif step in waits:
            await waits[step]()
        else:
            getattr(world, step)(name)


async def _check(steps: list[tuple[str, str]], folder: Path, *, gone_as_event: bool) -> None:
    world = World(gone_as_event=gone_as_event)
    async with watching(world.server, folder) as watch:
        await watch.until(lambda: watch.scheduler._pods.synced)
        await _happen(world, watch, steps)
        world.server.cuts.clear()
        await watch.caught_up()
        await watch.ask()
        last = await watch.ask()
        told = watch.told
        running, over = world.uids({"placed", "running"}), world.uids({"over"})
        assert running == {info.run for info in last.workloads}
        assert all(info.end_ms is None for info in last.workloads)
        assert over <= {uid for uid, info in told.items() if info.end_ms is not None}
        for uid, info in told.items():
            assert (info.end_ms is None) == (uid in running)
            assert ("Job", f"job-{info.job_id}") == (info.owner_kind, info.owner_name)
        # What was ever sent with a node is told, even if it was deleted while nobody looked.
        assert world.server.sent <= set(told)


@settings(max_examples=120, deadline=None)
@given(steps=_STEPS, gone_as_event=st.booleans())
def test_the_view_becomes_the_truth(steps: list[tuple[str, str]], *, gone_as_event: bool) -> None:
    """No pod that was ever seen with a node is lost, none runs on, each has its owner."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_check(steps, Path(folder), gone_as_event=gone_as_event))
