"""Do the books balance? Points against postings, per meter, epoch and slot."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.queries.doubles import differing_days
from wattkeeper.ledger.queries.expected import MissingNode, expect
from wattkeeper.ledger.queries.spans import Measured, measure
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.sums import parts, whole
from wattkeeper.model.grid import ceil, floor
from wattkeeper.model.holder import FIRST_HOLDER, Account
from wattkeeper.model.meter import Component
from wattkeeper.model.window import Split


@dataclass(slots=True)
class MeterBalance:
    """One meter over the asked time; energies in whole microjoules.

    `measured_uj` is what the counter advanced: from point to point, plus `open_uj`, what was
    booked after the newest point (negative: a point is ahead of its windows). `workload_uj`
    includes holders beyond the cap of a window. `components_uj` stands on host meters only and
    counts in no total of the fleet. `problems` says, in words, why the answer is no.
    """

    node: str
    meter: str
    component: str
    measured_uj: int = 0
    open_uj: int = 0
    workload_uj: int = 0
    idle_uj: int = 0
    system_uj: int = 0
    overhead_uj: int = 0
    gap_uj: int = 0
    components_uj: int = 0
    residual_uj: int = 0
    covered_seconds: float = 0.0
    unmeasured_seconds: float = 0.0
    expected_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Balance:
    """The answer: whether every meter's books balance over [since_ms, until_ms), UTC.

    `coverage` is covered over `expected_seconds`, None if nothing was expected. What a scheduler's
    inventory expects beyond the meters counts, and `missing_nodes` names it. `residual_uj` sums the
    absolute residuals, so that errors of two meters cannot cancel. `total_uj` is the fleet's energy
    without what host meters and component meters both see.
    """

    since_ms: int
    until_ms: int
    meters: list[MeterBalance]
    residual_uj: int
    total_uj: int
    coverage: float | None
    problems: list[str]
    expected_seconds: float = 0.0
    missing_nodes: list[MissingNode] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """True if no residual and no problem was found on any meter."""
        return self.residual_uj == 0 and not self.problems


def balance(ledger: Ledger, since_ms: int | None = None, until_ms: int | None = None) -> Balance:
    """Check every meter between two instants, which snap outward to slots; None is unbounded.

    Measured energy comes from points alone and is compared slot by slot, so that two errors
    cannot cancel. Behind its newest point a meter's slots are open: there the postings must come
    to the count at which its books end.
    """
    with ledger.reading() as connection:
        since, until = extent(connection, ledger.slot_ms, since_ms, until_ms)
        measured = measure(connection, ledger.slot_ms, since, until)
        booked = _booked(connection, since, until)
        covered = _covered(connection, since, until)
        states = list(connection.execute(_states()))
        differing = differing_days(connection, since, until) if until > since else {}
        refused = _refused(connection, since_ms, until_ms)
        expected = expect(connection, since, until, states, _times(covered))
    asked = _Asked(ledger.slot_ms, since, until)
    meters = []
    for state in states:
        row = asked.meter(
            state,
            measured.get(state.id, Measured()),
            booked.get(state.id, {}),
            covered.get(state.id, {}),
        )
        row.expected_seconds = expected.by_meter[state.id] / 1000
        row.problems += differing.pop(state.id, []) + refused.pop(state.id, [])
        meters.append(row)
    problems = [f"{row.node} {row.meter}: {text}" for row in meters for text in row.problems]
    for why in (differing, refused):
        problems += [f"meter {number}: {text}" for number, texts in why.items() for text in texts]
    problems += [
        f"meter {number} has postings or points, but is not known"
        for number in (booked.keys() | measured.keys() | covered.keys())
        - {state.id for state in states}
    ]
    return Balance(
        since_ms=since,
        until_ms=until,
        meters=meters,
        residual_uj=sum(row.residual_uj for row in meters),
        total_uj=sum(_fleet_uj(row) for row in meters),
        coverage=expected.coverage,
        problems=problems,
        expected_seconds=expected.expected_ms / 1000,
        missing_nodes=expected.missing,
    )


def extent(
    connection: sa.Connection, slot_ms: int, since_ms: int | None, until_ms: int | None
) -> tuple[int, int]:
    """Snap a time outward to slots; None is from the first and until behind the last slot."""
    slot = schema.coverage.c.slot
    first, last = connection.execute(sa.select(sa.func.min(slot), sa.func.max(slot))).one()
    posted = schema.posting.c.slot
    first_posted, last_posted = connection.execute(
        sa.select(sa.func.min(posted), sa.func.max(posted))
    ).one()
    begins = [at for at in (first, first_posted) if at is not None]
    ends = [at for at in (last, last_posted) if at is not None]
    since = min(begins, default=0) if since_ms is None else floor(since_ms, slot_ms)
    until = max(ends, default=-slot_ms) + slot_ms if until_ms is None else ceil(until_ms, slot_ms)
    return since, max(since, until)


@dataclass(slots=True)
class _Booked:
    """Postings of a meter in a slot: µJ by account (workloads together), ms held.

    `settled_uj`, `settled_ms`: sums of what was moved, which must be nothing; `idle_ms`: time that
    is left with `idle`.
    """

    by_account: dict[int, int] = field(default_factory=dict)
    held_ms: int = 0
    settled_uj: int = 0
    settled_ms: int = 0
    idle_ms: int = 0

    @property
    def uj(self) -> int:
        return sum(self.by_account.values())


@dataclass(frozen=True, slots=True)
class _Asked:
    """The asked time."""

    slot_ms: int
    since_ms: int
    until_ms: int

    def meter(
        self,
        state: Any,
        measured: Measured,
        booked: dict[int, _Booked],
        covered: dict[int, tuple[int, int, int]],
    ) -> MeterBalance:
        row = MeterBalance(state.node, state.name, state.component)
        row.problems += measured.problems
        for cell in booked.values():
            _add_accounts(row, cell.by_account)
        row.covered_seconds = sum(figures[0] for figures in covered.values()) / 1000
        row.unmeasured_seconds = sum(figures[1] for figures in covered.values()) / 1000
        self._compare(row, state, measured, booked)
        for slot in booked.keys() | covered.keys():
            held = booked[slot].held_ms if slot in booked else 0
            if slot not in covered or covered[slot][2] != held:
                row.problems.append(f"time held in slot {say(slot)} differs from its coverage")
        for slot, cell in booked.items():
            if cell.settled_uj or cell.settled_ms:
                row.problems.append(f"settlement in slot {say(slot)} has one side only")
            if cell.by_account.get(Account.IDLE, 0) < 0 or cell.idle_ms < 0:
                row.problems.append(f"more was settled in slot {say(slot)} than was idle")
        return row

    def _compare(
        self, row: MeterBalance, state: Any, measured: Measured, booked: dict[int, _Booked]
    ) -> None:
        open_from, open_to = self._open(state, measured)
        ahead = {"posted": 0, "measured": 0}
        for slot in sorted(booked.keys() | measured.by_slot.keys()):
            posted = booked[slot].uj if slot in booked else 0
            counted = measured.by_slot.get(slot, 0)
            row.measured_uj += counted
            if slot >= open_from:
                ahead["posted"] += posted
                ahead["measured"] += counted
            elif posted != counted:
                row.residual_uj += abs(posted - counted)
                row.problems.append(
                    f"slot {say(slot)}: posted {posted} µJ, the counter advanced {counted} µJ"
                )
        if self.since_ms > open_from or self.until_ms < open_to:
            row.open_uj = ahead["posted"] - ahead["measured"]
        else:
            self._compare_open(row, state, measured, ahead["posted"] - ahead["measured"])
        row.measured_uj += row.open_uj

    def _open(self, state: Any, measured: Measured) -> tuple[int, int]:
        """Return from which slot on, and until when, the meter's points are not complete."""
        if not measured.n:
            return self.until_ms, self.since_ms  # nothing is open: every posting lacks its points
        at_ms = measured.at_ms
        return floor(min(at_ms, state.end_ms), self.slot_ms), ceil(
            max(at_ms, state.end_ms), self.slot_ms
        )

    def _compare_open(
        self, row: MeterBalance, state: Any, measured: Measured, posted_uj: int
    ) -> None:
        if measured.n != state.points:
            row.problems.append(f"{state.points - measured.n} points at the end are missing")
        if measured.n and measured.epoch == state.epoch:
            row.open_uj = state.uj - measured.value_uj
        if posted_uj != row.open_uj:
            row.residual_uj += abs(posted_uj - row.open_uj)
            row.problems.append(
                f"after the point of {say(measured.at_ms)}: posted {posted_uj} µJ, "
                f"the books end {row.open_uj} µJ after it"
            )


def say(at_ms: int) -> str:
    """Return an instant in RFC 3339, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _add_accounts(row: MeterBalance, by_account: dict[int, int]) -> None:
    row.workload_uj += by_account.get(FIRST_HOLDER, 0) + by_account.get(Account.OTHER, 0)
    row.idle_uj += by_account.get(Account.IDLE, 0)
    row.system_uj += by_account.get(Account.SYSTEM, 0)
    row.overhead_uj += by_account.get(Account.OVERHEAD, 0)
    row.gap_uj += by_account.get(Account.GAP, 0)
    row.components_uj += by_account.get(Account.COMPONENTS, 0)


def _fleet_uj(row: MeterBalance) -> int:
    """Return what the meter adds to the fleet: of a host's only what no other meter sees."""
    if row.component == Component.HOST:
        return row.overhead_uj
    return row.workload_uj + row.idle_uj + row.system_uj + row.overhead_uj + row.gap_uj


def _booked(connection: sa.Connection, since: int, until: int) -> dict[int, dict[int, _Booked]]:
    posting = schema.posting.c
    account = sa.case((posting.holder < FIRST_HOLDER, posting.holder), else_=FIRST_HOLDER)
    settled = sa.case((posting.split == Split.SETTLED, 1), else_=0)
    query = (
        sa.select(
            posting.meter,
            posting.slot,
            account.label("account"),
            *parts(posting.uj),
            sa.func.sum(posting.ms).label("ms"),
            *parts(settled * posting.uj, "settled"),
            sa.func.sum(settled * posting.ms).label("settled_ms"),
        )
        .where(posting.slot >= since, posting.slot < until)
        .group_by(posting.meter, posting.slot, account)
    )
    found: dict[int, dict[int, _Booked]] = {}
    for row in connection.execute(query):
        cell = found.setdefault(row.meter, {}).setdefault(row.slot, _Booked())
        cell.by_account[row.account] = whole(row.uj_high, row.uj_low)
        cell.held_ms += row.ms
        cell.settled_uj += whole(row.settled_high, row.settled_low)
        cell.settled_ms += row.settled_ms
        if row.account == Account.IDLE:
            cell.idle_ms = row.ms
    return found


def _covered(
    connection: sa.Connection, since: int, until: int
) -> dict[int, dict[int, tuple[int, int, int]]]:
    table = schema.coverage.c
    query = sa.select(schema.coverage).where(table.slot >= since, table.slot < until)
    found: dict[int, dict[int, tuple[int, int, int]]] = {}
    for row in connection.execute(query):
        figures = (row.covered_ms, row.unmeasured_ms, row.held_ms)
        found.setdefault(row.meter, {})[row.slot] = figures
    return found


def _times(covered: dict[int, dict[int, tuple[int, int, int]]]) -> dict[int, tuple[int, int]]:
    """Return the covered and unmeasured milliseconds of each meter."""
    return {
        meter: (sum(cell[0] for cell in slots.values()), sum(cell[1] for cell in slots.values()))
        for meter, slots in covered.items()
    }


def _states() -> "sa.Select[Any]":
    meter, node = schema.meter.c, schema.node.c
    return (
        sa.select(
            meter.id,
            node.cluster,
            node.name.label("node"),
            node.skew_ms,
            meter.name,
            meter.component,
            meter.first_ms,
            meter.end_ms,
            meter.uj,
            meter.epoch,
            meter.points,
        )
        .join(schema.node, node.id == meter.node)
        .order_by(node.cluster, node.name, meter.name)
    )


def _refused(
    connection: sa.Connection, since: int | None, until: int | None
) -> dict[int, list[str]]:
    """Return refused records by meter; one without a meter is told of all of its journal's."""
    refused, own = schema.refused.c, schema.journal_meter.c
    query = (
        sa.select(
            refused.seq, refused.reason, sa.func.coalesce(refused.meter, own.meter).label("meter")
        )
        .outerjoin(
            schema.journal_meter,
            sa.and_(refused.meter.is_(None), own.journal == refused.journal),
        )
        .distinct()
        .order_by(refused.seq)
    )
    if since is not None:
        query = query.where(refused.at_ms >= since)
    if until is not None:
        query = query.where(refused.at_ms <= until)
    found: dict[int, list[str]] = {}
    for row in connection.execute(query):
        text = f"record {row.seq} was refused: {row.reason}"
        found.setdefault(row.meter or 0, []).append(text)
    return found
