"""What every scheduler offers: the names and times of its workloads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class WorkloadInfo:
    """One run of a workload as its scheduler knows it.

    `manager` and `raw_id` are those of its holders (`HolderInfo`): they, the cluster and the time
    tie both together. `job_id` is what people call it (`123_4`, a pod's name). `array` is the
    array or sweep it belongs to. `start_ms`, `end_ms`: UTC; None is not known (yet).
    Empty text is not known.
    """

    cluster: str
    manager: str
    raw_id: str
    job_id: str
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

    async def workloads(self, since_ms: int) -> Sequence[WorkloadInfo]:
        """Return every workload that ran or changed at or after `since_ms` (UTC).

        Raises:
            OSError: the scheduler cannot be reached; the next poll asks again from there.

        """
        ...
