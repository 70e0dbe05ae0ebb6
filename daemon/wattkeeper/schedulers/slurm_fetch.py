"""Fetches and reduces what Slurm says, in a process of its own: `python -m …slurm_fetch`.

An answer of a large cluster takes seconds to parse and more memory than an aggregator should ever
hold. Here it is read as a stream, and only what we keep goes back, in small frames.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from wattkeeper.schedulers import slurm_nodes
from wattkeeper.schedulers.base import NodeInfo, WorkloadInfo
from wattkeeper.schedulers.marks import TOPOLOGY, bounded
from wattkeeper.schedulers.slurm_accounting import AccountReader, AccountRecord
from wattkeeper.schedulers.slurm_commands import Commands
from wattkeeper.schedulers.slurm_jobs import JobReader, JobRecord
from wattkeeper.schedulers.slurm_records import Records
from wattkeeper.schedulers.slurm_rest import Rest
from wattkeeper.schedulers.slurm_wire import (
    BATCH,
    NOTHING,
    Done,
    Failed,
    Frame,
    Nodes,
    Request,
    Workloads,
    pack,
)

_Way = Rest | Commands
_CONTROLLER = "is slurmctld alive (`scontrol ping`)?"
T = TypeVar("T")
R = TypeVar("R")


class Flaws:
    """Counts the records that cannot be read; the others are."""

    def __init__(self) -> None:
        self.count = 0
        self.first = ""

    def read(self, records: Iterable[T], read: Callable[[T], R]) -> Iterator[R]:
        """Yield what `read` makes of each record."""
        for record in records:
            try:
                yield read(record)
            except ValueError as error:
                self.first = self.first or str(error)[:300]
                self.count += 1


def main() -> int:
    """Answer the request on the standard input with frames on the standard output."""
    out = sys.stdout.buffer
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
        for frame in answer(request):
            out.write(pack(frame))
            out.flush()
    except BrokenPipeError:
        # Whoever asked has gone; without this Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError) as error:
        out.write(pack(Failed(str(error))))
        out.flush()
    return 0


def answer(request: Request) -> Iterator[Frame]:
    """Yield the frames of an answer, `Done` the last.

    Raises:
        OSError: Slurm cannot be asked.
        ValueError: what it says cannot be read.

    """
    way: _Way = Rest(request) if request.rest else Commands(request)
    if request.what == "live":
        yield from _live(request, way)
    else:
        yield from _ended(request, way)


def _live(request: Request, way: _Way) -> Iterator[Frame]:
    nodes: list[NodeInfo] = []
    sliced: frozenset[str] = frozenset()
    no_nodes = no_topology = ""
    try:
        nodes, sliced = _nodes(request, way)
    except (OSError, ValueError) as error:
        no_nodes = f"nodes: {error}"  # names of jobs matter more
    try:
        nodes = _placed(request, nodes, way)
    except (OSError, ValueError) as error:
        no_topology = str(error)
    for at in range(0, len(nodes), BATCH):
        yield Nodes(nodes[at : at + BATCH])
    reader = JobReader(
        request.cluster, request.now_ms, request.since_ms, sliced, request.slurm_cluster
    )
    records = Records(way.jobs(), JobRecord)
    flaws = Flaws()
    yield from _batches(flaws.read(records, reader.read))
    _check(records.envelope)
    yield Done(
        slurm_cluster=reader.slurm_cluster or _slurm_cluster(records.envelope),
        version=_version(way),
        flawed=flaws.count + records.flawed,
        flaw=flaws.first,
        doubt=reader.doubt,
        no_nodes=no_nodes,
        no_topology=no_topology,
    )


def _nodes(request: Request, way: _Way) -> tuple[list[NodeInfo], frozenset[str]]:
    """Return the nodes, and the names of those whose GPUs are cut into slices."""
    found: dict[str, NodeInfo] = {}
    sliced = set()
    records = Records(way.nodes(), slurm_nodes.NodeRecord)
    for infos in Flaws().read(records, lambda record: slurm_nodes.read(request.cluster, record)):
        for info, is_sliced in infos:
            found[info.name] = info
            if is_sliced:
                sliced.add(info.name)
    _check(records.envelope)
    return list(found.values()), frozenset(sliced)


def _placed(request: Request, nodes: list[NodeInfo], way: _Way) -> list[NodeInfo]:
    """Return the nodes with their places in the topology, where they do not tell these."""
    told = any(mark.startswith(TOPOLOGY) for node in nodes for mark in node.marks)
    if not request.topology or told or not isinstance(way, Commands):
        return nodes
    places = slurm_nodes.topology(way.topology())
    return [
        replace(node, marks=bounded([*node.marks, places[node.name]]))
        if node.name in places
        else node
        for node in nodes
    ]


def _ended(request: Request, way: _Way) -> Iterator[Frame]:
    reader = AccountReader(request.cluster, request.slurm_cluster)
    records = Records(way.ended(), AccountRecord)
    flaws = Flaws()
    yield from _batches(flaws.read(records, reader.read))
    _check(records.envelope, "is slurmdbd alive (`sacctmgr ping`)?")
    yield Done(
        slurm_cluster=request.slurm_cluster,
        version=_version(way),
        flawed=flaws.count + records.flawed,
        flaw=flaws.first,
        doubt="",
        no_nodes="",
    )


def _batches(runs: Iterable[WorkloadInfo | None]) -> Iterator[Workloads]:
    batch: list[WorkloadInfo] = []
    for run in filter(None, runs):
        batch.append(run)
        if len(batch) == BATCH:
            yield Workloads(batch)
            batch = []
    if batch:
        yield Workloads(batch)


def _check(envelope: dict[str, Any], hint: str = _CONTROLLER) -> None:
    """Raise OSError if Slurm says that it failed: commands and slurmrestd do so in the answer."""
    errors = envelope.get("errors")
    for error in errors if isinstance(errors, list) else ():
        words = error if isinstance(error, dict) else {}
        said = [words.get(name) for name in ("error", "description")]
        text = ": ".join(dict.fromkeys(word for word in said if isinstance(word, str) and word))
        if NOTHING in text:
            return
        raise OSError(f"Slurm says {text or error!r:.200}; {hint}")
    if not any(isinstance(envelope.get(name), list) for name in ("jobs", "nodes", "sinfo")):
        raise ValueError("the answer has no list of jobs or nodes; is it Slurm's?")


def _slurm_cluster(envelope: dict[str, Any]) -> str:
    meta = envelope.get("meta")
    slurm = meta.get("slurm") if isinstance(meta, dict) else None
    cluster = slurm.get("cluster") if isinstance(slurm, dict) else None
    return cluster if isinstance(cluster, str) else ""


def _version(way: _Way) -> str:
    return way.version if isinstance(way, Rest) else ""


if __name__ == "__main__":
    sys.exit(main())
