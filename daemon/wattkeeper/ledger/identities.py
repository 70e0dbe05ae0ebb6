"""Names of people, for a time: old ones become pseudonyms, one person is forgotten at once.

Whoever reads the ledger finds a name no longer than it is kept. Energies, times, accounts and
everything that adds up stay, and so does which runs are of one person.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from wattkeeper.ledger import audit, bulk, database, labels, schema
from wattkeeper.ledger.breach_names import forget_in_breaches, thin_breaches
from wattkeeper.ledger.erasing import entomb, erase, new_pseudonym, tells_of
from wattkeeper.ledger.run_book import run_of, select_runs, write
from wattkeeper.ledger.runs import Run
from wattkeeper.ledger.store import Ledger

PIECE = 2_000
"""Runs that are looked at between two commits."""
_CHUNK = 500
_GROUPS = ("account", "partition", "namespace")
"""Words that sums and settings go by, which stay as they are even where they name a person."""

_workload, _identity, _pseudonym = schema.workload.c, schema.identity.c, schema.pseudonym


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was done to forget a person.

    `runs`: that bore the name, or its pseudonym; `breaches`: of budgets, that named the person.
    `remaining`: by word (account, partition, namespace), how many of the runs have the name in
    it still. `on_disk`: why the name may still be found in the database's files, "" if not.
    """

    pseudonym: str
    runs: int
    breaches: int
    remaining: dict[str, int] = field(default_factory=dict)
    on_disk: str = ""


def forget(ledger: Ledger, user: str, at_ms: int, cluster: str = "") -> Forgotten:
    """Forget a person at an instant (UTC): of their runs only a new pseudonym is known.

    `cluster`: "" for every one. Runs that began before and are told later stay nameless too;
    later ones bear the name.

    Raises:
        LedgerError: the database does not take it; nothing was changed.

    """
    called = new_pseudonym()
    count = 0
    remaining: Counter[str] = Counter()
    with ledger.writing() as connection:
        database.lock_names(connection)
        entomb(connection, user, cluster, at_ms)
        for runs in _read(connection, _runs_of(connection, user, cluster)):
            for run in runs:
                erase(run, called)
                remaining.update(word for word in _GROUPS if tells_of(run.words[word], user))
            write(connection, runs)
            count += len(runs)
        breaches = forget_in_breaches(connection, user, called)
        audit.rename(connection, user, called)
        if not cluster:
            connection.execute(sa.delete(_pseudonym).where(_pseudonym.c.user == user))
    on_disk = database.rewrite(ledger.engine) if count or breaches else ""
    return Forgotten(called, count, breaches, dict(remaining), on_disk)


def _runs_of(connection: sa.Connection, user: str, cluster: str) -> Sequence[int]:
    """Return the ids of a person's runs, under the name or the pseudonym that belongs to it."""
    known = connection.scalar(sa.select(_pseudonym.c.name).where(_pseudonym.c.user == user))
    query = sa.select(_identity.workload).where(_identity.user.in_(filter(None, (user, known))))
    if cluster:
        query = query.join(schema.workload, _workload.id == _identity.workload)
        query = query.where(_workload.cluster == cluster)
    return connection.scalars(query.order_by(_identity.workload)).all()


class Expiry:
    """Gives runs that are older than names are kept their pseudonyms, in pieces.

    It goes through all that have names, again and again; each run that it changed says so, in
    the same transaction.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._after = 0
        self._named: set[str] = set()

    def piece(self, before_ms: int) -> bool:
        """Look at the next runs; erase those that ended before an instant (UTC).

        Return False at the end, when the next call begins anew.

        Raises:
            LeaseLostError: another aggregator does it now.
            LedgerError: the database does not take it.

        """
        with self._ledger.reading() as connection:
            found = connection.execute(_named_after(self._after)).all()
        old = [row.workload for row in found if row.last_ms < before_ms]
        self._named |= {row.user for row in found if row.last_ms >= before_ms}
        if old:
            with self._ledger.leading() as connection:
                for runs in _read(connection, old):
                    _pseudonymise(connection, runs)
        if len(found) == PIECE:
            self._after = found[-1].workload
            return True
        self._end(before_ms)
        return False

    def _end(self, before_ms: int) -> None:
        with self._ledger.reading() as connection:
            known = set(connection.scalars(sa.select(_pseudonym.c.user)))
        gone = known - self._named
        self._after, self._named = 0, set()
        with self._ledger.leading() as connection:
            # From here on nobody can tell any more whose they were.
            one = sa.delete(_pseudonym).where(_pseudonym.c.user == sa.bindparam("gone"))
            bulk.execute(connection, one, ["gone"], ((user,) for user in sorted(gone)))
            connection.execute(
                sa.delete(schema.forgotten).where(schema.forgotten.c.at_ms < before_ms)
            )
            thin_breaches(connection, before_ms)
        database.empty_log(self._ledger.engine)


def _named_after(after: int) -> "sa.Select[tuple[int, str, int]]":
    """Return the query for runs that have names, each with when it was last heard of."""
    seen = (
        sa.select(sa.func.max(schema.holder.c.seen_ms))
        .where(schema.holder.c.workload == _workload.id)
        .scalar_subquery()
    )
    last = sa.func.coalesce(_workload.end_ms, seen, _workload.start_ms)
    return (
        sa.select(_identity.workload, _identity.user, last.label("last_ms"))
        .join(schema.workload, _workload.id == _identity.workload)
        .where(_identity.workload > after, _identity.erased == 0, last.is_not(None))
        .order_by(_identity.workload)
        .limit(PIECE)
    )


def _read(connection: sa.Connection, ids: Sequence[int]) -> Iterator[list[Run]]:
    """Yield the runs of these ids, so many at a time as a statement takes."""
    for begin in range(0, len(ids), _CHUNK):
        query = select_runs().where(_workload.id.in_(ids[begin : begin + _CHUNK]))
        runs = [run_of(row) for row in connection.execute(query)]
        labels.read(connection, runs)
        yield runs


def _pseudonymise(connection: sa.Connection, runs: Iterable[Run]) -> None:
    runs = [run for run in runs if not run.erased]
    users = {run.words["user"] for run in runs} - {""}
    query = sa.select(_pseudonym).where(_pseudonym.c.user.in_(users))
    names = {row.user: row.name for row in connection.execute(query)}
    fresh = {user: new_pseudonym() for user in sorted(users - names.keys())}
    bulk.insert(connection, _pseudonym, "user name", fresh.items())
    names |= fresh
    for run in runs:
        erase(run, names.get(run.words["user"], ""))
    write(connection, runs)
