"""A run that ended as slurmdbd tells it (`sacct --json`, `/slurmdb/…/jobs`)."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from wattkeeper.schedulers import slurm_states
from wattkeeper.schedulers.base import WorkloadInfo
from wattkeeper.schedulers.slurm_jobs import MANAGER, called, labels, nodes, restarts
from wattkeeper.schedulers.slurm_values import instant_ms, number, positive, text, words

RESIZED = "RESIZING"
REQUEUED = "REQUEUED"
_NAMELESS = "allocation"
"""What slurmdbd calls a job whose start it was never told of."""


class AccountRecord(msgspec.Struct, frozen=True):
    """The fields that are read; of any type, since versions differ and one may be broken."""

    job_id: Any = None
    cluster: Any = None
    state: Any = None
    time: Any = None
    array: Any = None
    het: Any = None
    association: Any = None
    user: Any = None
    account: Any = None
    partition: Any = None
    qos: Any = None
    wckey: Any = None
    name: Any = None
    comment: Any = None
    nodes: Any = None
    sluid: Any = None
    original_sluid: Any = None
    restart_cnt: Any = None


@dataclass(slots=True)
class AccountReader:
    """Reduces the records of one answer.

    `cluster`: under which name agents report. `slurm_cluster`: the cluster's own name, if known;
    slurmdbd may keep the accounts of several.
    """

    cluster: str
    slurm_cluster: str = ""
    _resized: dict[tuple[int, int], int] = field(default_factory=dict)

    def read(self, record: AccountRecord) -> WorkloadInfo | None:
        """Return the run, None if it goes on, never began or is of another cluster.

        A job that was resized has a record for each size. They are one run, which is returned
        with the last size and the first beginning. A run that was requeued soon after its start
        may have a record without start and nodes.

        Raises:
            ValueError: the record cannot be read.

        """
        job_id = positive(record.job_id)
        if job_id is None:
            raise ValueError("a job without job_id")
        time = _table(record.time)
        start_ms, end_ms = instant_ms(time.get("start")), instant_ms(time.get("end"))
        own = not self.slurm_cluster or text(record.cluster) in ("", self.slurm_cluster)
        given = nodes(record.nodes)
        state = slurm_states.ending(words(_table(record.state).get("current")))
        is_whole = start_ms is not None and given
        if not own or end_ms is None or not (is_whole or state == REQUEUED):
            return None
        if start_ms is not None:
            start_ms = self._resized.pop((job_id, start_ms), start_ms)
        if state == RESIZED and start_ms is not None:
            self._resized[job_id, end_ms] = start_ms
            return None
        array, het = _table(record.array), _table(record.het)
        name, array_id = called(
            job_id,
            positive(array.get("job_id")),
            number(array.get("task_id")),
            positive(het.get("job_id")),
            number(het.get("job_offset")),
        )
        # squeue and the node name the run by the first of them, whatever its size.
        sluid = text(record.original_sluid) or text(record.sluid)
        association = _table(record.association)
        return WorkloadInfo(
            cluster=self.cluster,
            manager=MANAGER,
            raw_id=str(job_id),
            job_id=name,
            other_id=sluid,
            run=sluid or restarts(record.restart_cnt),
            user=text(record.user) or text(association.get("user")),
            account=text(record.account) or text(association.get("account")),
            partition=text(record.partition),
            name=text(record.name) if record.name != _NAMELESS else "",
            array=array_id,
            state=state,
            start_ms=start_ms,
            end_ms=end_ms,
            nodes=given,
            labels=labels(record.qos, _word(record.wckey, "wckey"), _word(record.comment, "job")),
        )


def _table(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _word(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else value
