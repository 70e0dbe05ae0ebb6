"""One of several aggregators does what one does for all, and never two at once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.exported import keep_job_marks
from wattkeeper.ledger.lease import Lease
from wattkeeper.ledger.settlement import settle
from wattkeeper.ledger.store import LeaseLostError, Ledger, LedgerError
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo

pytestmark = pytest.mark.postgresql
TTL_S = 1000.0


@dataclass
class Two:
    """Two aggregators of one ledger: their connections, leases, and their own clocks."""

    ledgers: tuple[Ledger, Ledger]
    leases: tuple[Lease, Lease]
    clock: list[float]

    def expire(self) -> None:
        """Let the time of whoever holds the lease run out, by the database's clock."""
        with self.ledgers[0].writing() as connection:
            connection.execute(sa.update(schema.lease).values(until_ms=1))


@pytest.fixture
def two(new_url: Callable[[], str]) -> Iterator[Two]:
    """Two aggregators, none of which holds the lease yet."""
    url = new_url()
    one, other = Ledger.open(url), Ledger.open(url)
    clock = [0.0]
    leases = tuple(
        Lease(ledger, name, ttl_s=TTL_S, clock=lambda: clock[0])
        for ledger, name in ((one, "a"), (other, "b"))
    )
    for lease in leases:
        lease.join(alone=False)
    yield Two((one, other), (leases[0], leases[1]), clock)
    for ledger in (one, other):
        ledger.close()


def work(ledger: Ledger) -> None:
    """Do what only the holder may."""
    told = WorkloadInfo("c", "slurm", "7", "7", start_ms=1000)
    record_knowledge(ledger, "slurm", Knowledge([told]), now_ms=2000)
    settle(ledger, 3000)
    keep_job_marks(ledger, {1: {"gpu": 1}}, [])


def test_a_file_is_one_aggregators() -> None:
    """Where nobody shares, nothing is leased."""
    ledger = Ledger.open("sqlite://")
    lease = Lease(ledger, "a")
    lease.join(alone=True)
    assert (lease.token, lease.renew()) == (0, True)
    work(ledger)
    lease.leave()
    ledger.close()


def test_the_first_one_has_it_until_it_leaves(two: Two) -> None:
    """The other one waits; it has it at the next renewal after."""
    one, other = two.leases
    assert [one.renew(), other.renew(), one.renew()] == [True, False, True]
    assert (one.token, other.token) == (1, None)
    work(two.ledgers[0])
    with pytest.raises(LeaseLostError):
        work(two.ledgers[1])
    one.leave()
    assert one.token is None
    assert [other.renew(), one.renew()] == [True, False]
    assert other.token == 2


def test_it_moves_from_a_holder_that_is_silent(two: Two) -> None:
    """It does not know: what it writes then is refused, in the very transaction."""
    one, other = two.leases
    one.renew()
    two.expire()
    assert other.renew()
    assert one.token is not None
    with pytest.raises(LeaseLostError, match="another aggregator does this now"):
        work(two.ledgers[0])
    work(two.ledgers[1])
    assert not one.renew()
    with pytest.raises(LeaseLostError):
        work(two.ledgers[0])


def test_it_is_not_taken_in_the_middle_of_a_transaction(two: Two) -> None:
    """Even if its time is over: who holds it ends what it writes, and may renew meanwhile."""
    one, other = two.leases
    one.renew()
    with two.ledgers[0].leading() as connection:
        two.expire()
        assert not other.renew()
        connection.execute(sa.text("INSERT INTO setting VALUES ('x', 'y')"))
        assert one.renew()
    assert not other.renew()
    two.expire()
    assert other.renew()


def test_nobody_has_it_while_the_database_is_silent(two: Two) -> None:
    """By its own clock a holder stops before another one may begin."""
    one, _ = two.leases
    one.renew()
    two.clock[0] = TTL_S - 1
    assert one.token == 1
    two.clock[0] = TTL_S
    assert one.token is None
    assert one.renew()


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
def test_who_cannot_share_is_told(new_url: Callable[[], str], first: bool, second: bool) -> None:
    """Whichever comes first; a restart of the same one is no second one."""
    ledger = Ledger.open(new_url())
    Lease(ledger, "host-a").join(alone=first)
    with pytest.raises(LedgerError, match=r"ledger\.url: host-a uses this ledger too.*telemetry"):
        Lease(ledger, "host-b").join(alone=second)
    again = Lease(ledger, "host-a")
    again.join(alone=first)
    again.leave()
    Lease(ledger, "host-b").join(alone=second)
    ledger.close()
