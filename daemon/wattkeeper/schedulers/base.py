"""What every scheduler offers: its workloads, who was given which GPU, and its nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class NodeGpus:
    """The GPUs of one node that a workload was given, as the scheduler counts them (PCI order)."""

    node: str
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WorkloadInfo:
    """One run of a workload as its scheduler knows it.

    `manager` and `raw_id` are those of its holders (`HolderInfo`): they, the cluster and the time
    tie both together. `other_id` is a second id by which a node may name it: Slurm's SLUID, where
    `raw_id` is the number. `run` tells two runs of one id apart where the scheduler does: SLUID,
    else restart count. `job_id` is what people call it (`123_4`, a pod's name). `array` is the
    array or sweep it belongs to. `start_ms`, `end_ms`: UTC; None is not known (yet).
    `gpus`: what it holds now, empty where the scheduler does not say (Slurm forgets at the end).
    `labels`: further dimensions of reports, such as `qos` or a pod's label.
    Empty text is not known.
    """

    cluster: str
    manager: str
    raw_id: str
    job_id: str
    other_id: str = ""
    run: str = ""
    user: str = ""
    account: str = ""
    partition: str = ""
    name: str = ""
    namespace: str = ""
    owner_kind: str = ""
    owner_name: str = ""
    array: str = ""
    state: str = ""
    start_ms: int | None = None
    end_ms: int | None = None
    nodes: tuple[str, ...] = ()
    gpus: tuple[NodeGpus, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node as its scheduler knows it.

    `gpus`: how many GPUs it should have, None if the scheduler does not say. `expected`: it
    should be metered now (not powered down, not a node of the future). `state` is the
    scheduler's own word. `marks`: features, topology and chosen labels, see `schedulers.marks`.
    """

    cluster: str
    name: str
    gpus: int | None
    state: str
    expected: bool = True
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a scheduler answered.

    `workloads` are those that ran or changed since the last answer. `granted_ms`: up to this
    instant (UTC) it names every GPU that was held, by all running workloads in `workloads`;
    None where it does not know GPUs. `complete_ms`: `workloads` names every one that had not
    ended at this instant, though not its GPUs; others that were open have ended unseen.
    `nodes` is its whole inventory, None if it did not say.
    """

    workloads: Sequence[WorkloadInfo] = ()
    granted_ms: int | None = None
    complete_ms: int | None = None
    nodes: Sequence[NodeInfo] | None = None


class Scheduler(Protocol):
    """A scheduler that can be asked. Polled by the aggregator, never faster than `interval_s`."""

    @property
    def name(self) -> str:
        """How logs and states call it, such as `slurm`."""
        ...

    @property
    def interval_s(self) -> float:
        """Seconds between two polls."""
        ...

    async def start(self) -> None:
        """Begin to watch, where it does; fails only by answers of `ask`."""
        ...

    async def ask(self, since_ms: int) -> Knowledge:
        """Return what is known of workloads that ran or changed at or after `since_ms` (UTC).

        Raises:
            OSError: the scheduler cannot be reached or answered what cannot be read; the next
                poll asks again from there.

        """
        ...

    async def close(self) -> None:
        """Stop watching, end every helper process."""
        ...
