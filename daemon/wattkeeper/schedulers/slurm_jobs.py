"""A job as slurmctld tells it (`squeue --json`, `/slurm/…/jobs`), reduced to what we keep."""

import pwd
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from wattkeeper.schedulers import slurm_states
from wattkeeper.schedulers.base import NodeGpus, WorkloadInfo
from wattkeeper.schedulers.hostlist import expand
from wattkeeper.schedulers.slurm_gres import granted
from wattkeeper.schedulers.slurm_states import Life
from wattkeeper.schedulers.slurm_values import clean, instant_ms, number, positive, text, words

MANAGER = "slurm"
_NO_TASK = 0xFFFFFFFE
"""Slurm's NO_VAL, where a version lets it through."""
_SKEW_MS = 300_000
"""No clock of a cluster is expected to be further off."""


class JobRecord(msgspec.Struct, frozen=True):
    """The fields that are read; of any type, since versions differ and one may be broken."""

    job_id: Any = None
    job_state: Any = None
    user_name: Any = None
    user_id: Any = None
    account: Any = None
    partition: Any = None
    qos: Any = None
    wckey: Any = None
    name: Any = None
    comment: Any = None
    cluster: Any = None
    array_job_id: Any = None
    array_task_id: Any = None
    het_job_id: Any = None
    het_job_offset: Any = None
    nodes: Any = None
    gres_detail: Any = None
    start_time: Any = None
    end_time: Any = None
    step_id: Any = None
    restart_cnt: Any = None


@dataclass(slots=True)
class JobReader:
    """Reduces records of one answer.

    `cluster`: under which name agents report. `now_ms`, `since_ms`: UTC; runs that ended before
    `since_ms` are left out. `sliced`: nodes whose GPU indices count MIG slices. `doubt` says of the
    first run whose GPUs cannot be told why.
    """

    cluster: str
    now_ms: int
    since_ms: int
    sliced: frozenset[str] = frozenset()
    slurm_cluster: str = ""
    doubt: str = field(default="", init=False)

    def read(self, record: JobRecord) -> WorkloadInfo | None:
        """Return the run, None if the job never ran or ended too long ago.

        Raises:
            ValueError: the record cannot be read.

        """
        job_id = positive(record.job_id)
        if job_id is None:
            raise ValueError("a job without job_id")
        self.slurm_cluster = self.slurm_cluster or text(record.cluster)
        life, state = slurm_states.read(words(record.job_state))
        start_ms, end_ms = instant_ms(record.start_time), instant_ms(record.end_time)
        if life is None:
            life = self._guess(start_ms, end_ms)
        if life is Life.ENDED and end_ms is not None and end_ms > self.now_ms + _SKEW_MS:
            life = Life.WAITING  # 22.05 hides behind COMPLETING that it was requeued
        given = nodes(record.nodes)
        if life is Life.WAITING or not given:  # cancelled before it was given any
            return None
        if life is Life.ENDED and end_ms is not None and end_ms < self.since_ms:
            return None
        name, array = called(
            job_id,
            positive(record.array_job_id),
            number(record.array_task_id),
            positive(record.het_job_id),
            number(record.het_job_offset),
        )
        sluid = _sluid(record.step_id)
        return WorkloadInfo(
            cluster=self.cluster,
            manager=MANAGER,
            raw_id=str(job_id),
            job_id=name,
            other_id=sluid,
            run=sluid or restarts(record.restart_cnt),
            user=_user(record),
            account=text(record.account),
            partition=text(record.partition),
            name=text(record.name),
            array=array,
            state=state,
            start_ms=start_ms,
            # Of a run that goes on it is when its time limit ends it.
            end_ms=end_ms if life is Life.ENDED else None,
            nodes=given,
            gpus=self._gpus(given, record) if life is Life.RUNNING else (),
            labels=labels(record.qos, record.wckey, record.comment),
        )

    def _guess(self, start_ms: int | None, end_ms: int | None) -> Life:
        """Tell by its times where a run of a state that we do not know stands."""
        if start_ms is None or start_ms > self.now_ms:
            return Life.WAITING
        return Life.RUNNING if end_ms is None or end_ms > self.now_ms else Life.ENDED

    def _gpus(self, given: tuple[str, ...], record: JobRecord) -> tuple[NodeGpus, ...]:
        detail = record.gres_detail if isinstance(record.gres_detail, list) else []
        try:
            return granted(given, [str(entry or "") for entry in detail], self.sliced)
        except ValueError as error:
            self.doubt = self.doubt or f"job {record.job_id}: {error}"[:300]
            return ()


def labels(qos: object, wckey: object, comment: object) -> dict[str, str]:
    """Return further dimensions of reports; a default wckey has an asterisk before it."""
    found = {"qos": text(qos), "wckey": text(wckey).removeprefix("*"), "comment": text(comment)}
    return {name: word for name, word in found.items() if word}


def nodes(value: object) -> tuple[str, ...]:
    """Return the nodes of a host list; none if it was given none.

    Raises:
        ValueError: not a host list.

    """
    if not isinstance(value, str) or value in ("", "None assigned"):
        return ()
    return tuple(expand(clean(value)))


def called(
    job_id: int, array: int | None, task: int | None, het: int | None, offset: int | None
) -> tuple[str, str]:
    """Return what people call a job, and the array it belongs to: `20_3`, `22+1`."""
    if array is not None and task is not None and 0 <= task < _NO_TASK:
        return f"{array}_{task}", str(array)
    if het is not None:
        return f"{het}+{offset or 0}", ""
    return str(job_id), ""


def restarts(count: object) -> str:
    """Return what tells two runs of one id apart where there are no SLUIDs."""
    found = number(count)
    return "" if found is None else str(found)


def _sluid(step_id: object) -> str:
    """Return the SLUID (25.11+) of the run: it is kept through a resize, new after a requeue."""
    return text(step_id.get("sluid")) if isinstance(step_id, dict) else ""


def _user(record: JobRecord) -> str:
    name = text(record.user_name)
    uid = number(record.user_id)
    return name if name or uid is None else _user_of(uid)


@lru_cache(maxsize=4096)
def _user_of(uid: int) -> str:
    """Return a user's name; slurmctld may not know it where accounts live in a directory."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)
