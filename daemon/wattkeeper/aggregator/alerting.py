"""Alerts straight from here, while this aggregator leads: to Alertmanager, or to a webhook."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from sqlalchemy.exc import SQLAlchemyError

from wattkeeper.aggregator.budget_config import AlertsSection
from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.budgets.alerts import Links
from wattkeeper.budgets.telling import Counts, Receiver, Teller, TellError
from wattkeeper.ledger.lease import Lease
from wattkeeper.ledger.store import LeaseLostError, Ledger, LedgerError
from wattkeeper.model.state import Finding, State
from wattkeeper.values import host_of

_EVERY_S = 1.0
_TROUBLE = "alerts"


class Alerting:
    """Tells whom the configuration names; nobody where Prometheus' rules do. `pool` may block."""

    def __init__(
        self,
        section: AlertsSection,
        ledger: Ledger,
        lease: Lease,
        *,
        pool: Executor,
        troubles: Troubles,
        now_ms: Callable[[], int],
    ) -> None:
        self._lease = lease
        self._troubles = troubles
        self._teller: Teller | None = None
        if section.via != "prometheus":
            receiver = Receiver(
                section.via,
                section.url,
                section.token_file,
                section.ca,
                timeout_s=section.timeout.total_seconds(),
                repeat_s=section.repeat.total_seconds(),
                links=Links(section.page or "", section.runbook),
            )
            self._teller = Teller(ledger, receiver, pool, now_ms)

    @property
    def counts(self) -> Counts | None:
        """What was told, None where nobody is."""
        return None if self._teller is None else self._teller.counts

    def begin(self) -> list[asyncio.Task[None]]:
        """Return the task that tells what is due until it is cancelled, none if nobody is told."""
        if self._teller is None:
            return []
        return [asyncio.create_task(self._run(self._teller), name="alerts")]

    async def _run(self, teller: Teller) -> None:
        while True:
            if self._lease.token is not None:
                await self._tell(teller)
            await asyncio.sleep(_EVERY_S)

    async def _tell(self, teller: Teller) -> None:
        try:
            told = await teller.tell()
        except LeaseLostError:
            return
        except (TellError, LedgerError, SQLAlchemyError) as error:
            self._troubles.failed(_TROUBLE, error)
            return
        if told:
            self._troubles.recovered(_TROUBLE)

    def findings(self) -> list[Finding]:
        """Return whether the receiver takes what it is told."""
        if self._teller is None:
            return []
        why = self._troubles.why(_TROUBLE)
        if why:
            fix = f"{self._teller.counts.waiting} alerts wait and are tried again"
            return [Finding("alerts", State.FAILING, why, fix)]
        receiver = self._teller.receiver
        where = ", ".join(map(host_of, receiver.urls))
        return [Finding("alerts", State.OK, f"go to {receiver.via} at {where}")]
