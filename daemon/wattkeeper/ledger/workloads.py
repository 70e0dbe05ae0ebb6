"""The scheduler's word: holder -> workload is a map that changes; postings never do."""

import time
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from wattkeeper.ledger import grants, inventory, labels, schema
from wattkeeper.ledger.belonging import meant
from wattkeeper.ledger.run_book import Key, RunBook, keys, run_of, select_runs, write
from wattkeeper.ledger.runs import NAMES, WORDS, Run
from wattkeeper.ledger.store import Ledger
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo

ENDED = "ENDED"
"""State of a run that is over, as far as anybody can tell; its scheduler did not say how."""


def record_knowledge(
    ledger: Ledger, scheduler: str, knowledge: Knowledge, *, now_ms: int | None = None
) -> None:
    """Take a scheduler's word, in one transaction. It replaces what holders' labels said.

    `scheduler`: its name, under which its grants and its inventory stand. `now_ms`: when it was
    asked (UTC), where the answer itself does not say; the machine's clock by default.

    A run is found again by its ids, its restart count and its start; one that no holder was seen
    of yet is made, and holders that come late find it. Holders that were thought to be one run
    move where the answer shows that they are two. An answer that changes nothing writes nothing.

    Raises:
        LeaseLostError: another aggregator asks the schedulers now.
        LedgerError: the database does not take it.

    """
    if not knowledge.workloads and knowledge.nodes is None and _complete_ms(knowledge) is None:
        return
    asked_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    with ledger.leading() as connection:
        ids = _Answer(connection, scheduler, knowledge).record()
        grants.record(connection, scheduler, knowledge, ids)
        if knowledge.nodes is not None:
            at_ms = asked_ms if knowledge.granted_ms is None else knowledge.granted_ms
            inventory.record(connection, scheduler, knowledge.nodes, at_ms)


class _Answer:
    """One answer of a scheduler on its way into the books."""

    def __init__(self, connection: sa.Connection, scheduler: str, knowledge: Knowledge) -> None:
        self._connection = connection
        self._scheduler = scheduler
        self._workloads = knowledge.workloads
        self._complete_ms = _complete_ms(knowledge)
        self._ids = [0] * len(knowledge.workloads)

    def record(self) -> list[int]:
        """Write what the answer changes, and return the id of each workload's run.

        Most of it is said again at every poll: runs that are open and as they were need no more
        than a look at them.
        """
        open_runs = self._open()
        news = self._compare(open_runs)
        known = set(self._ids)
        # Only where it names every running one is another one over.
        complete = self._complete_ms is not None
        gone = [run for run in open_runs if complete and run.id not in known]
        if news or gone:
            self._tell(news, gone)
        return self._ids

    def _open(self) -> list[Run]:
        workload = schema.workload.c
        query = select_runs().where(
            workload.scheduler == self._scheduler, workload.end_ms.is_(None)
        )
        runs = [run_of(row) for row in self._connection.execute(query)]
        labels.read(self._connection, runs)
        return runs

    def _compare(self, open_runs: Sequence[Run]) -> list[int]:
        """Return which workloads are news; of the others only words may have changed."""
        by_key: dict[Key, list[Run]] = {}
        for one in open_runs:
            by_key.setdefault((one.cluster, one.manager, one.raw_id), []).append(one)
        news, said = [], []
        for number, info in enumerate(self._workloads):
            run = meant(by_key.get(_keys(info)[0], ()), info)
            if run is None:
                news.append(number)
                continue
            before = _place(run)
            self._say(run, info)
            self._ids[number] = run.id
            if _place(run) != before:
                news.append(number)
            elif run.changed or run.relabelled:
                said.append(run)
        write(self._connection, said)
        return news

    def _tell(self, news: Sequence[int], gone: Sequence[Run]) -> None:
        """Take runs that began, ended or changed their ids, and map their holders anew."""
        of_gone = {run.id: keys(run.cluster, run.manager, run.raw_id, run.other_id) for run in gone}
        of_news = {number: _keys(self._workloads[number]) for number in news}
        book = RunBook.load(self._connection, [*of_news.values(), *of_gone.values()])
        told: dict[int, Run] = {}
        heard: set[int] = set()
        for number in sorted(news, key=lambda number: self._workloads[number].start_ms or 0):
            info = self._workloads[number]
            ids = of_news[number]
            group = book.group(ids)
            known = meant(group.told, info)
            run = group.new(ids[0][2], self._scheduler) if known is None else known
            self._say(run, info)
            told[number] = run
            heard.add(run.id)
        for gone_id, gone_ids in of_gone.items():
            for run in book.group(gone_ids).runs:
                if run.id == gone_id and gone_id not in heard:
                    self._end(run, self._complete_ms)
        for group in book.distinct():
            self._close_earlier(group.told)
        book.settle(book.distinct())
        book.save()
        for number, run in told.items():
            self._ids[number] = run.id

    def _say(self, run: Run, info: WorkloadInfo) -> None:
        words = {name: labels.clean(getattr(info, name)) for name in (*WORDS, *NAMES)}
        if info.end_ms is not None and run.end_ms is None and not info.state:
            words["state"] = ENDED
        run.say(words, replace=True)
        run.put(
            raw_id=labels.clean(info.raw_id),
            other_id=labels.clean(info.other_id) or run.other_id,
            token=_token(run.token, labels.clean(info.run)),
            scheduler=self._scheduler,
            start_ms=run.start_ms if info.start_ms is None else info.start_ms,
            end_ms=info.end_ms,
        )
        if info.labels:
            run.label(labels.bounded(info.labels))

    def _close_earlier(self, runs: Iterable[Run]) -> None:
        """End runs that nobody saw ending where the next one of the same id began."""
        next_ms: dict[str, int] = {}
        for run in sorted(runs, key=lambda run: (run.start_ms or 0, run.id), reverse=True):
            if run.end_ms is None:
                self._end(run, next_ms.get(run.raw_id))
            if run.start_ms is not None:
                next_ms[run.raw_id] = run.start_ms

    def _end(self, run: Run, at_ms: int | None) -> None:
        if at_ms is not None:
            run.put(end_ms=max(at_ms, run.start_ms or at_ms))
            run.say({"state": ENDED}, replace=True)


def _complete_ms(knowledge: Knowledge) -> int | None:
    """Return when the answer named all that had not ended: who names all GPUs names all jobs."""
    granted_ms = knowledge.granted_ms
    return knowledge.complete_ms if granted_ms is None else granted_ms


def _place(run: Run) -> tuple[object, ...]:
    """Return what decides which holders are a run's."""
    return run.raw_id, run.other_id, run.token, run.start_ms, run.end_ms


def _token(known: str, told: str) -> str:
    """Return what tells a run apart best: a unique id sooner than a restart count."""
    return known if not told or (told.isdecimal() and not known.isdecimal() and known) else told


def _keys(info: WorkloadInfo) -> list[Key]:
    ids = (labels.clean(one) for one in (info.raw_id, info.other_id))
    return keys(labels.clean(info.cluster), labels.clean(info.manager), *ids)
