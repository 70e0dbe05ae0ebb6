"""Pods by list and watch, from a server that forgets, breaks off, refuses and changes its token."""

import asyncio
from pathlib import Path

import pytest

from tests.kube.objects import BEGAN_MS, ENDED_MS, PodMaker, node, owner
from tests.kube.rbac import Right, rights
from tests.kube.server import NODES, PODS, ApiServer, Refusal
from tests.schedulers.kubernetes_watching import NOW_MS, Watching, watching
from wattkeeper.schedulers.base import NodeInfo
from wattkeeper.schedulers.kubernetes_mirror import Pace


async def _told(watch: Watching) -> dict[str, str]:
    await watch.caught_up()
    await watch.ask()
    return {info.job_id: info.state for info in watch.told.values()}


async def test_a_pod_from_its_start_to_its_end(tmp_path: Path) -> None:
    """It is told while it runs and once with its end, then no more, though the API lists it."""
    server = ApiServer()
    pod = PodMaker("train-0")
    server.store.put(PODS, pod.pending())
    async with watching(server, tmp_path) as watch:
        assert [] == list((await watch.ask()).workloads)
        server.store.put(PODS, pod.running())
        await watch.caught_up()
        (running,) = (await watch.ask()).workloads
        assert ("kubernetes", pod.uid, pod.uid) == (running.manager, running.raw_id, running.run)
        assert ("train-0", "ml", "ml", ("n1",)) == (
            running.job_id,
            running.namespace,
            running.account,
            running.nodes,
        )
        assert (BEGAN_MS, None, "running") == (running.start_ms, running.end_ms, running.state)
        server.store.put(PODS, pod.over())
        await watch.caught_up()
        (over,) = (await watch.ask()).workloads
        assert (ENDED_MS, "succeeded") == (over.end_ms, over.state)
        assert [] == list((await watch.ask()).workloads)


async def test_an_answer_that_was_not_taken_is_given_again(tmp_path: Path) -> None:
    """The same question means that the books did not take the answer."""
    server = ApiServer()
    server.store.put(PODS, PodMaker("p").over())
    async with watching(server, tmp_path) as watch:
        first = await watch.scheduler.ask(5)
        again = await watch.scheduler.ask(5)
        assert first.workloads == again.workloads
        assert 1 == len(again.workloads)
        assert [] == list((await watch.scheduler.ask(6)).workloads)


async def test_a_deleted_pod_ends(tmp_path: Path) -> None:
    """It ends when it is gone, or at its deadline if that has passed."""
    server = ApiServer()
    late, gone = PodMaker("late"), PodMaker("gone")
    server.store.put(PODS, late.running())
    server.store.put(PODS, gone.running())
    async with watching(server, tmp_path) as watch:
        await watch.ask()
        server.store.delete(PODS, "ml", "gone")
        late.deletion = "2026-11-23T10:05:00Z"
        server.store.put(PODS, late.running())
        server.store.delete(PODS, "ml", "late")
        await watch.caught_up()
        await watch.ask()
        told = watch.told
        assert (NOW_MS, "deleted") == (told[gone.uid].end_ms, told[gone.uid].state)
        assert (ENDED_MS, "deleted") == (told[late.uid].end_ms, told[late.uid].state)


@pytest.mark.parametrize("as_event", [False, True])
async def test_what_ended_while_the_server_forgot(tmp_path: Path, *, as_event: bool) -> None:
    """After 410 the list is read again; a pod that is no longer in it has ended."""
    server = ApiServer(gone_as_event=as_event)
    pods = [PodMaker(f"p{number}") for number in range(5)]
    for pod in pods:
        server.store.put(PODS, pod.running())
    async with watching(server, tmp_path) as watch:
        await watch.ask()
        server.refusals.extend([Refusal(503)] * 6)
        server.sever()
        server.store.delete(PODS, "ml", "p1")
        server.store.put(PODS, pods[2].over())
        server.store.put(PODS, PodMaker("p1").running())
        server.store.compact()
        listed = server.count("list", "pods")
        told = await _told(watch)
        assert listed < server.count("list", "pods")
        assert "deleted" == watch.told[pods[1].uid].state
        assert NOW_MS == watch.told[pods[1].uid].end_ms
        assert ("succeeded", ENDED_MS) == (told["p2"], watch.told[pods[2].uid].end_ms)
        assert "running" == told["p1"]


async def test_a_list_whose_continuation_expires(tmp_path: Path) -> None:
    """It is read again from the start, in larger chunks; what went meanwhile has ended."""
    server = ApiServer()
    for number in range(9):
        server.store.put(PODS, PodMaker(f"p{number}").running())
    server.expiring.append(lambda: server.store.delete(PODS, "ml", "p0"))
    async with watching(server, tmp_path) as watch:
        told = await _told(watch)
        assert 9 == len(told)
        assert "deleted" == told["p0"]
        lists = [r for r in server.requests if r.right == Right("list", "", "pods")]
        limits = [request.query["limit"] for request in lists]
        assert limits[:2] == ["2", "2"]
        assert "8" in limits


async def test_a_stream_cut_inside_an_object(tmp_path: Path) -> None:
    """The watch goes on from the last whole event."""
    server = ApiServer()
    async with watching(server, tmp_path) as watch:
        await watch.ask()
        await watch.until(lambda: server.watching(PODS))
        server.cuts.extend([1, 40, 700])
        for number in range(6):
            server.store.put(PODS, PodMaker(f"p{number}").running())
        assert 6 == len(await _told(watch))
        assert 1 == server.count("list", "pods")
        assert 4 == server.count("watch", "pods")


async def test_watches_end_and_begin_again(tmp_path: Path) -> None:
    """A watch that ends as agreed goes on from the last bookmark, without a list."""
    server = ApiServer(second_s=0.0005)
    async with watching(server, tmp_path) as watch:
        await watch.ask()
        await watch.until(lambda: server.count("watch", "pods") > 3)
        server.store.put(PODS, PodMaker("late").running())
        assert {"late": "running"} == await _told(watch)
        assert 1 == server.count("list", "pods")


async def test_bookmarks_spare_a_list(tmp_path: Path) -> None:
    """A quiet kind of object follows the version by bookmarks, so a compaction costs no list."""
    server = ApiServer()
    async with watching(server, tmp_path) as watch:
        await watch.ask()
        server.store.put(PODS, PodMaker("p").running())
        await watch.caught_up()
        server.store.compact()
        server.sever()
        server.store.put(NODES, node("n1"))
        await watch.caught_up()
        assert 1 == server.count("list", "nodes")


async def test_events_spare_a_list_too(tmp_path: Path) -> None:
    """Without bookmarks a watch goes on from the newest event."""
    server = ApiServer(bookmarks=False)
    async with watching(server, tmp_path) as watch:
        await watch.ask()
        server.store.put(PODS, PodMaker("p").running())
        await watch.until(lambda: watch.scheduler._pods.version == str(server.store.version))
        server.store.compact()
        server.sever()
        server.store.put(PODS, PodMaker("q").running())
        await watch.until(lambda: watch.scheduler._pods.version == str(server.store.version))
        assert 1 == server.count("list", "pods")


async def test_a_pod_that_ends_while_an_answer_is_made(tmp_path: Path) -> None:
    """Its end belongs to the next answer: this one has already said that it runs."""
    server = ApiServer()
    pod = PodMaker("p", owners=[owner("apps/v1", "DaemonSet", "daemonsets", "d").reference])
    server.store.put(PODS, pod.running())
    async with watching(server, tmp_path) as watch:
        await watch.until(lambda: watch.scheduler._pods.synced)
        server.delay_s = 0.05
        asking = asyncio.create_task(watch.ask())
        await watch.until(lambda: server.waiting > 0)
        server.store.put(PODS, pod.over())
        await watch.caught_up()
        await asking
        await watch.ask()
        assert "succeeded" == watch.told[pod.uid].state


async def test_a_token_that_is_replaced(tmp_path: Path) -> None:
    """The file is read for every request: a rotated token costs at most one refusal."""
    server = ApiServer()
    async with watching(server, tmp_path) as watch:
        await watch.ask()
        server.token = "second"
        (tmp_path / "token").write_text("second")
        server.sever()
        server.store.put(PODS, PodMaker("p").running())
        assert {"p": "running"} == await _told(watch)


async def test_a_token_that_is_refused(tmp_path: Path) -> None:
    """What is wrong and what to do is the error; it works again with the right token."""
    server = ApiServer()
    (tmp_path / "token").write_text("stale")
    async with watching(server, tmp_path) as watch:
        with pytest.raises(OSError, match=r"token is not accepted .* check the service account"):
            await watch.ask()
        (tmp_path / "token").write_text(server.token)
        await watch.until(lambda: watch.scheduler._pods.synced)
        assert () == tuple((await watch.ask()).workloads)


async def test_pods_that_may_not_be_listed(tmp_path: Path) -> None:
    """The error names verb and resource, and where the rights are."""
    server = ApiServer(allowed=rights() - {Right("list", "", "pods")})
    async with watching(server, tmp_path) as watch:
        with pytest.raises(OSError, match=r'cannot list resource "pods".*deploy/kubernetes'):
            await watch.ask()


async def test_other_things_that_may_not_be_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without nodes and owners pods are told all the same; the log says it once."""
    server = ApiServer(allowed=frozenset({Right("list", "", "pods"), Right("watch", "", "pods")}))
    replica_set = owner("apps/v1", "ReplicaSet", "replicasets", "web-5d9")
    pod = PodMaker("web-5d9-x", owners=[replica_set.reference], labels={"pod-template-hash": "5d9"})
    server.store.put(PODS, pod.running())
    async with watching(server, tmp_path) as watch:
        answer = await watch.ask()
        assert answer.nodes is None
        await watch.ask()
        (info,) = answer.workloads
        assert ("Deployment", "web") == (info.owner_kind, info.owner_name)
        assert 1 == caplog.text.count("nodes are not known")
        assert 1 == caplog.text.count("ReplicaSet are not known")
        server.allowed = rights()
        server.store.put(NODES, node("n1"))
        await watch.until(lambda: watch.scheduler._nodes.synced)
        answer = await watch.ask()
        assert answer.nodes is not None
        assert ["n1"] == [one.name for one in answer.nodes]


async def test_a_busy_server_is_left_alone(tmp_path: Path) -> None:
    """Retry-After is kept to."""
    server = ApiServer()
    server.refusals.extend([Refusal(429, "1")] * 4)
    async with watching(server, tmp_path) as watch:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with pytest.raises(OSError, match="answered 429"):
            await watch.ask()
        await watch.until(lambda: watch.scheduler._pods.synced)
        assert loop.time() - began_s >= 0.9


@pytest.mark.parametrize("body", [b"", b"<html>proxy</html>", b"{}", b'{"items":[]}', b"\xff"])
async def test_answers_that_are_none(tmp_path: Path, body: bytes) -> None:
    """Whatever a proxy says is an error, and no more."""
    server = ApiServer()
    server.refusals.extend([Refusal(502, body=body), Refusal(200, body=body)] * 4)
    server.store.put(PODS, PodMaker("p").running())
    async with watching(server, tmp_path) as watch:
        with pytest.raises(OSError, match=r"502|cannot be read"):
            await watch.ask()
        assert {"p": "running"} == await _told(watch)


async def test_contact_lost_for_too_long(tmp_path: Path) -> None:
    """An old copy is no answer; what ended meanwhile is told afterwards."""
    server = ApiServer()
    pod = PodMaker("p")
    server.store.put(PODS, pod.running())
    async with watching(server, tmp_path, interval_s=0.001) as watch:
        await watch.ask()
        server.token = "another"
        server.sever()
        await watch.until(lambda: watch.scheduler._pods.lost_s() > 0.01)
        with pytest.raises(OSError, match="no contact for 0 s"):
            await watch.ask()
        server.store.put(PODS, pod.over())
        (tmp_path / "token").write_text("another")
        await watch.until(lambda: watch.scheduler._pods.error is None)
        assert {"p": "succeeded"} == await _told(watch)


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """The first question fails with the reason, the first listing need not be waited for."""
    server = ApiServer()
    async with watching(server, tmp_path, pace=Pace(first_s=0.001, longest_s=0.005)) as watch:
        await watch.ask()
    gone = watch.scheduler
    await gone.start()
    gone._pods.synced = False
    for mirror in gone._mirrors.values():
        mirror.tried.clear()
        mirror.version = None
    try:
        with pytest.raises(OSError, match="Connect"):
            await gone.ask(0)
    finally:
        await gone.close()


async def test_a_slow_server(tmp_path: Path) -> None:
    """The first answer waits for the first listing, chunk after chunk."""
    server = ApiServer(delay_s=0.02)
    for number in range(7):
        server.store.put(PODS, PodMaker(f"p{number}").running())
    async with watching(server, tmp_path) as watch:
        assert 7 == len((await watch.ask()).workloads)


async def test_a_long_event(tmp_path: Path) -> None:
    """An object may be larger than what a socket holds."""
    server = ApiServer()
    async with watching(server, tmp_path) as watch:
        await watch.ask()
        await watch.until(lambda: server.watching(PODS))
        big = PodMaker("big", annotations={"notes": "x" * 1_000_000})
        server.store.put(PODS, big.running())
        assert {"big": "running"} == await _told(watch)


async def test_the_inventory_of_nodes(tmp_path: Path) -> None:
    """Nodes come, change and go; a selector picks those that agents run on."""
    server = ApiServer()
    server.store.put(NODES, node("n1", {"nvidia.com/gpu": "8"}, {"gpu": "yes"}))
    server.store.put(NODES, node("cpu"))
    async with watching(server, tmp_path, node_selector="gpu=yes") as watch:
        assert (NodeInfo("c", "n1", 8, "Ready"),) == (await watch.ask()).nodes
        server.store.delete(NODES, "", "n1")
        await watch.caught_up()
        assert () == (await watch.ask()).nodes


async def test_close_leaves_nothing_behind(tmp_path: Path) -> None:
    """No task goes on after close, and closing again does no harm."""
    server = ApiServer()
    async with watching(server, tmp_path) as watch:
        await watch.ask()
        await watch.scheduler.close()
        await watch.scheduler.close()
        named = [task.get_name() for task in asyncio.all_tasks()]
        assert not [name for name in named if name.startswith("kubernetes")]


async def test_a_mistake_of_ours_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that died is no outage: the next question raises what it died of."""

    def fail(_: object) -> None:
        raise ZeroDivisionError

    server = ApiServer()
    async with watching(server, tmp_path) as watch:
        await watch.ask()
        monkeypatch.setattr(watch.scheduler._roster, "put", fail)
        server.store.put(PODS, PodMaker("p").running())
        await watch.until(lambda: any(task.done() for task in watch.scheduler._tasks))
        with pytest.raises(ZeroDivisionError):
            await watch.ask()
