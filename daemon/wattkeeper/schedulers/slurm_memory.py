"""What was told of Slurm's runs before: which went on, so that one that vanished is missed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from wattkeeper.schedulers.base import WorkloadInfo
from wattkeeper.schedulers.slurm_accounting import REQUEUED
from wattkeeper.schedulers.slurm_states import PASSING

_LAG_MS = 120_000
"""slurmdbd knows of an end within seconds; slurmctld sends it in turn, later when it is busy."""
_GIVE_UP_MS = 600_000
"""After this a run that nobody knows any more has ended, whatever became of it."""
_KEEP_MS = 300_000
_KEEP_PASSING_MS = 3_600_000


class _Seen(NamedTuple):
    """A run that went on: which one of its id (SLUID, else restarts), and what names it."""

    run: str
    start_ms: int | None
    job_id: str
    sluid: str


@dataclass(slots=True)
class _Missing:
    """A run that vanished from slurmctld before it was seen to end."""

    raw_id: str
    seen: _Seen
    last_ms: int


class Memory:
    """The runs of one cluster, of which only names are kept: there may be 100,000."""

    def __init__(self, cluster: str, manager: str) -> None:
        self._cluster = cluster
        self._manager = manager
        self._running: dict[str, _Seen] = {}
        self._missing: dict[str, list[_Missing]] = {}
        self._told: dict[tuple[str, int | None], tuple[str, int]] = {}
        self._fresh: set[tuple[str, int | None]] = set()
        self._last_ms = 0

    @property
    def missed_since_ms(self) -> int | None:
        """When the first of the missing was last seen, None if none is missing."""
        return min((each.last_ms for own in self._missing.values() for each in own), default=None)

    def since_ms(self, since_ms: int) -> int:
        """Return from which end on slurmctld is to be asked, if it was last asked at `since_ms`.

        A job may be completing for minutes (an epilog that hangs, a node that is gone) before the
        word for how it ended is there.
        """
        ends = (end_ms for state, end_ms in self._told.values() if state in PASSING)
        return min(since_ms, min(ends, default=since_ms))

    def live(self, runs: Iterable[WorkloadInfo], asked_ms: int) -> list[WorkloadInfo]:
        """Take slurmctld's answer of `asked_ms`; return what is to be told of it.

        Those are all that go on, and those that ended or changed their word since they were told.
        """
        told = []
        running: dict[str, _Seen] = {}
        ended = set()
        for run in runs:
            if run.end_ms is None:
                running[run.raw_id] = _Seen(run.run, run.start_ms, run.job_id, run.other_id)
                told.append(run)
            else:
                ended.add((run.raw_id, run.run))
                if self._tell(run, run.end_ms):
                    told.append(run)
        for raw_id, seen in self._running.items():
            now = running.get(raw_id)
            if (now is None or now.run != seen.run) and (raw_id, seen.run) not in ended:
                self._missing.setdefault(raw_id, []).append(_Missing(raw_id, seen, self._last_ms))
        self._keep(lambda each: (each.raw_id, each.seen.run) not in ended and _gone(running, each))
        self._running = running
        self._last_ms = asked_ms
        return told

    def accounts(self, runs: Iterable[WorkloadInfo]) -> list[WorkloadInfo]:
        """Take what slurmdbd says of runs that ended; return what is to be told of it.

        Of a run that slurmctld told before, its words and its start stand: slurmdbd writes a quote
        as a backquote, and of a run that was requeued early it may have half a record only.
        """
        told = []
        for run in runs:
            assert run.end_ms is not None
            missing = self._found(run)
            known, _ = self._told.get((run.raw_id, run.start_ms), ("", 0))
            if missing is not None:
                ended = self._end(missing, run.end_ms, run.state)
                self._tell(ended, run.end_ms)
                told.append(ended)
            elif known in ("", *PASSING) and run.start_ms is not None and run.nodes:
                told.append(run)
            self._tell(run, run.end_ms)
        return told

    def given_up(self, now_ms: int, accounts_ms: int | None) -> Iterator[WorkloadInfo]:
        """Yield the end of runs that nobody knows any more: they ran when last seen.

        `accounts_ms`: when slurmdbd was last asked with success; None if it never is.
        """

        def waits(missing: _Missing) -> bool:
            if accounts_ms is None or accounts_ms >= missing.last_ms + _LAG_MS:
                return False
            return now_ms - missing.last_ms < _GIVE_UP_MS

        for missing in self._keep(waits):
            yield self._end(missing, missing.last_ms)

    def accept(self, *, accepted: bool) -> None:
        """Take note whether what was told last stands in the books; if not, it is told again."""
        for key in () if accepted else self._fresh:
            self._told.pop(key, None)
        self._fresh.clear()

    def forget(self, before_ms: int) -> None:
        """Forget ends that are too old to be told again; of passing words there may be a last."""
        self._told = {
            key: (state, end_ms)
            for key, (state, end_ms) in self._told.items()
            if end_ms >= before_ms - (_KEEP_PASSING_MS if state in PASSING else _KEEP_MS)
        }

    def _tell(self, run: WorkloadInfo, end_ms: int) -> bool:
        key = (run.raw_id, run.start_ms)
        if self._told.get(key) == (run.state, end_ms):
            return False
        self._told[key] = (run.state, end_ms)
        self._fresh.add(key)
        return True

    def _found(self, run: WorkloadInfo) -> _Missing | None:
        """Return which of the missing this is, and miss it no more."""
        own = self._missing.get(run.raw_id, [])
        for at, missing in enumerate(own):
            if _same(missing, run):
                del own[at]
                return missing
        return None

    def _keep(self, wanted: Callable[[_Missing], bool]) -> list[_Missing]:
        """Miss only those that are wanted; return the others."""
        every = [missing for own in self._missing.values() for missing in own]
        self._missing = {}
        for missing in filter(wanted, every):
            self._missing.setdefault(missing.raw_id, []).append(missing)
        return [missing for missing in every if not wanted(missing)]

    def _end(self, missing: _Missing, end_ms: int, state: str = "") -> WorkloadInfo:
        seen = missing.seen
        return WorkloadInfo(
            cluster=self._cluster,
            manager=self._manager,
            raw_id=missing.raw_id,
            job_id=seen.job_id,
            other_id=seen.sluid,
            run=seen.run,
            start_ms=seen.start_ms,
            state=state,
            end_ms=max(end_ms, seen.start_ms or 0),
        )


def _gone(running: dict[str, _Seen], missing: _Missing) -> bool:
    """Tell whether a run that was missing is still not there: an answer may have had a gap."""
    seen = running.get(missing.raw_id)
    return seen is None or seen.run != missing.seen.run


def _same(missing: _Missing, run: WorkloadInfo) -> bool:
    """Tell whether a run of the accounts is one that vanished.

    Only newer accounts know the SLUID or the restarts; and a start may have moved while the nodes
    booted. But it ended after it was last seen, and began before.
    """
    if missing.seen.sluid and run.other_id:
        return missing.seen.sluid == run.other_id
    if run.run.isdecimal() and missing.seen.run.isdecimal() and run.run != missing.seen.run:
        return False
    began = run.start_ms is None or run.state == REQUEUED or run.start_ms <= missing.last_ms
    return began and run.end_ms is not None and run.end_ms >= missing.last_ms - _LAG_MS


def one_each(runs: Iterable[WorkloadInfo]) -> list[WorkloadInfo]:
    """Return one word for each run: the ends that are said last, beside the names said first.

    slurmctld may still call a job COMPLETING in an answer in which slurmdbd knows how it ended.
    """
    found: dict[tuple[str, int | None], WorkloadInfo] = {}
    for run in runs:
        key = (run.raw_id, run.start_ms)
        first = found.get(key)
        found[key] = run if first is None else replace(first, state=run.state, end_ms=run.end_ms)
    return list(found.values())
