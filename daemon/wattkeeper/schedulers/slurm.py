"""Slurm, 22.05 to 26.05: `squeue --json` or slurmrestd, and the accounts for what was missed."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Literal

from wattkeeper.schedulers import slurm_child
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo
from wattkeeper.schedulers.slurm_child import Answer
from wattkeeper.schedulers.slurm_jobs import MANAGER
from wattkeeper.schedulers.slurm_memory import Memory, one_each
from wattkeeper.schedulers.slurm_wire import Done, Request

_MARGIN_MS = 60_000
"""Asked for again each time: clocks differ, and ends are written late."""
_SWEEP_MS = 600_000
"""How often the accounts are asked though nothing is missing: slurmctld forgets a job MinJobAge
after its end (300 s, or 2 s), so one that lived between two answers may never have been seen."""
_RETRY_MS = 120_000
_PATIENCE_S = 5.0
"""The accounts may take longer than this; what they say then stands in the next answer."""

_log = logging.getLogger(__name__)

Fetch = Callable[[Request], Coroutine[None, None, tuple[Answer, Done]]]


@dataclass(frozen=True, slots=True)
class SlurmOptions:
    """How Slurm is asked.

    `cluster`: under which name agents report. `rest`: `unix:/path` or `http://host:port` of
    slurmrestd, empty for the commands (in folder `bin`, with configuration `conf`, each empty for
    the usual). `token_file`, `user`: for slurmrestd. `accounts`: whether slurmdbd is asked,
    `lookback_s` how far back at the start. `topology`: whether nodes' switches are asked for.
    """

    cluster: str
    interval_s: float = 30.0
    timeout_s: float = 60.0
    accounts: bool = True
    lookback_s: float = 86_400.0
    max_bytes: int = 8 << 30
    rest: str = ""
    user: str = ""
    token_file: str = ""
    bin: str = ""
    conf: str = ""
    topology: bool = False


class Slurm:
    """One Slurm cluster as a scheduler (`base.Scheduler`). Belongs to the event loop."""

    name = "slurm"

    def __init__(
        self,
        options: SlurmOptions,
        *,
        fetch: Fetch = slurm_child.fetch,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._options = options
        self._fetch = fetch
        self._now_ms = now_ms or (lambda: time.time_ns() // 1_000_000)
        self._memory = Memory(options.cluster, MANAGER)
        self._slurm_cluster = ""
        self._version = ""
        self._since_ms: int | None = None
        self._swept_ms: int | None = None
        self._sweep_after_ms = 0
        self._sweep: asyncio.Task[tuple[Answer, Done]] | None = None
        self._sweep_ms = 0
        self._complaints: dict[str, str] = {}

    @property
    def interval_s(self) -> float:
        """Seconds between two polls."""
        return self._options.interval_s

    async def start(self) -> None:
        """Do nothing yet: the first answer says whether Slurm is there."""

    async def ask(self, since_ms: int) -> Knowledge:
        """Return what goes on, what ended since, and the nodes; one query each.

        Raises:
            OSError: slurmctld cannot be asked. Of slurmdbd that is only logged.

        """
        asked_ms = self._now_ms()
        # The same instant again: the last answer was not booked.
        self._memory.accept(accepted=since_ms != self._since_ms)
        self._since_ms = since_ms
        from_ms = self._memory.since_ms(since_ms) - _MARGIN_MS
        answer, done = await self._fetch(self._request("live", from_ms, asked_ms))
        self._slurm_cluster = done.slurm_cluster or self._slurm_cluster
        self._version = done.version
        # In a thread, like all that looks at every run: of 100,000 it takes a tenth of a second.
        told = await asyncio.to_thread(self._memory.live, answer.runs, asked_ms)
        self._complain("nodes", done.no_nodes)
        self._complain("topology", done.no_topology)
        flaw = f"{done.flawed} jobs could not be read, the first because: {done.flaw}"
        self._complain("jobs", flaw if done.flawed else "")
        # Of that job alone: its grants, if it had any, stand, and the others' GPUs are known.
        self._complain("gpus", done.doubt and f"GPUs are not known: {done.doubt}")
        if self._options.accounts:
            told += await self._accounts(asked_ms)
        asked_accounts_ms = (self._swept_ms or 0) if self._options.accounts else None
        told += self._memory.given_up(asked_ms, asked_accounts_ms)
        self._memory.forget(asked_ms if self._swept_ms is None else self._swept_ms)
        return Knowledge(
            workloads=await asyncio.to_thread(one_each, told),
            # Before the question was put: what it says was true then, and later.
            granted_ms=None if done.flawed else asked_ms,
            nodes=None if done.no_nodes else answer.nodes,
        )

    async def close(self) -> None:
        """Let go of a question that is under way."""
        if self._sweep is not None:
            self._sweep.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await self._sweep
            self._sweep = None

    async def _accounts(self, now_ms: int) -> list[WorkloadInfo]:
        """Return what the accounts know of runs that slurmctld did not tell the end of."""
        if self._sweep is None and self._wants_sweep(now_ms):
            self._sweep_ms = now_ms
            request = self._request("ended", self._sweep_since_ms(now_ms), now_ms)
            self._sweep = asyncio.create_task(self._fetch(request), name="slurm accounts")
        if self._sweep is None:
            return []
        await asyncio.wait({self._sweep}, timeout=_PATIENCE_S)
        if not self._sweep.done():
            return []
        sweep, self._sweep = self._sweep, None
        try:
            answer, done = sweep.result()
        except OSError as error:
            self._sweep_after_ms = now_ms + _RETRY_MS
            self._complain("accounts", str(error))
            return []
        self._swept_ms = self._sweep_ms
        self._sweep_after_ms = now_ms + _SWEEP_MS
        self._complain("accounts", done.flaw if done.flawed else "")
        return await asyncio.to_thread(self._memory.accounts, answer.runs)

    def _wants_sweep(self, now_ms: int) -> bool:
        if now_ms >= self._sweep_after_ms:
            return True
        # After a failure it waits: a slurmdbd that is down is not helped by questions.
        return self._memory.missed_since_ms is not None and "accounts" not in self._complaints

    def _sweep_since_ms(self, now_ms: int) -> int:
        first_ms = now_ms - round(self._options.lookback_s * 1000)
        since_ms = first_ms if self._swept_ms is None else self._swept_ms
        missed_ms = self._memory.missed_since_ms
        return min(since_ms, since_ms if missed_ms is None else missed_ms) - _MARGIN_MS

    def _request(self, what: Literal["live", "ended"], since_ms: int, now_ms: int) -> Request:
        options = self._options
        return Request(
            what=what,
            cluster=options.cluster,
            since_ms=max(0, since_ms),
            now_ms=now_ms,
            timeout_s=options.timeout_s,
            max_bytes=options.max_bytes,
            slurm_cluster=self._slurm_cluster,
            rest=options.rest,
            version=self._version,
            user=options.user,
            token_file=options.token_file,
            bin=options.bin,
            conf=options.conf,
            topology=options.topology,
        )

    def _complain(self, what: str, message: str) -> None:
        """Log the first of a row of failures, and the recovery."""
        before = self._complaints.pop(what, "")
        if message:
            self._complaints[what] = message
            if not before:
                _log.warning("slurm %s: %s", what, message)
        elif before:
            _log.info("slurm %s: works again", what)
