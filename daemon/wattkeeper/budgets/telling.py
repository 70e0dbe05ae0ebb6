"""Tells a receiver of alerts what was reached and left, until it has taken it.

What waits to be told stands in the ledger, with what was taken: so nothing is told anew after a
restart, and no end of an alert is lost by one. Alertmanager is told again and again what goes on,
as it wants; a webhook once.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import aiohttp

from wattkeeper.budgets.alerts import Links, for_alertmanager, for_webhook
from wattkeeper.ledger import breaches
from wattkeeper.ledger.breaches import Breach, Told
from wattkeeper.ledger.store import Ledger
from wattkeeper.values import host_of, why_not

KEPT_MS, UNHEARD_MS = 86_400_000, 3_600_000
"""An end that nobody took for so long is told no more, or that of what nobody had heard of."""
MOST = 500
"""Breaches in one request to Alertmanager, and requests to a webhook at once."""
_MISSED = 4
"""Repeats that Alertmanager may miss before it takes an alert for over, as Prometheus has it."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


class TellError(Exception):
    """The receiver did not take it. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where alerts go. `urls`: every Alertmanager of a cluster, or one webhook."""

    via: Literal["alertmanager", "webhook"]
    urls: Sequence[str]
    token_file: Path | None = None
    ca: Path | None = None
    timeout_s: float = 10.0
    repeat_s: float = 60.0
    links: Links = field(default_factory=Links)


@dataclass(slots=True)
class Counts:
    """What was told: alerts that were taken, requests that failed, and what waits."""

    sent: int = 0
    failures: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class _News:
    """What goes on, and what has ended and was not told yet."""

    reached: Sequence[Breach]
    left: Sequence[Breach]

    @property
    def waiting(self) -> list[Breach]:
        """What the receiver has not heard of."""
        return [one for one in self.reached if one.told is Told.NOTHING] + list(self.left)


@dataclass(slots=True)
class Teller:
    """Tells one receiver. `pool` runs what blocks; belongs to the event loop."""

    ledger: Ledger
    receiver: Receiver
    pool: Executor
    now_ms: Callable[[], int]
    counts: Counts = field(default_factory=Counts)
    _repeat_s: float = 0.0
    _retry_s: float = 0.0
    _pause_s: float = 0.0

    async def tell(self) -> bool:
        """Tell what is due; return whether anything was told.

        Raises:
            TellError: the receiver did not take it; it is tried again after a while.
            LedgerError: the ledger does not tell what is due, or take what was told.

        """
        loop = asyncio.get_running_loop()
        news = await loop.run_in_executor(self.pool, self._look)
        self.counts.waiting = len(news.waiting)
        if loop.time() < self._retry_s:
            return False
        again = self.receiver.via == "alertmanager" and loop.time() >= self._repeat_s
        if not news.waiting and not (again and news.reached):
            return False
        try:
            await self._send(news)
        except TellError:
            self.counts.failures += 1
            self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s or _FIRST_PAUSE_S)
            self._retry_s = loop.time() + self._pause_s
            raise
        self._pause_s = 0.0
        self._repeat_s = loop.time() + self.receiver.repeat_s
        return True

    def _look(self) -> _News:
        now_ms = self.now_ms()
        left = [
            one
            for one in breaches.untold(self.ledger, now_ms - KEPT_MS)
            if one.told is not Told.NOTHING or (one.to_ms or 0) >= now_ms - UNHEARD_MS
        ]
        return _News(breaches.reached_now(self.ledger)[:MOST], left[:MOST])

    async def _send(self, news: _News) -> None:
        tls = await self._in_thread(self._tls)
        headers = await self._in_thread(self._headers)
        timeout = aiohttp.ClientTimeout(total=self.receiver.timeout_s)
        connector = aiohttp.TCPConnector(ssl=tls)
        async with aiohttp.ClientSession(
            timeout=timeout, connector=connector, headers=headers
        ) as session:
            if self.receiver.via == "alertmanager":
                await self._to_alertmanagers(session, news)
            else:
                await self._to_webhook(session, news)

    async def _to_alertmanagers(self, session: aiohttp.ClientSession, news: _News) -> None:
        # In this order: left and reached again is one alert, whose last word counts.
        told = [*news.left, *news.reached]
        until_ms = self.now_ms() + round(_MISSED * self.receiver.repeat_s * 1000)
        body = for_alertmanager(told, until_ms, self.receiver.links)
        # One of a cluster is enough: they tell each other, and what goes on comes again.
        results = await asyncio.gather(
            *(_post(session, f"{url}/api/v2/alerts", body) for url in self.receiver.urls),
            return_exceptions=True,
        )
        failed = [one for one in results if isinstance(one, BaseException)]
        for error in failed:
            if not isinstance(error, TellError):
                raise error
        if len(failed) == len(results):
            raise failed[0]
        await self._taken(told)

    async def _to_webhook(self, session: aiohttp.ClientSession, news: _News) -> None:
        of_budget = attrgetter("budget")
        new = {one.budget for one in news.waiting}
        told = sorted([*news.left, *news.reached], key=of_budget)
        refused = None
        for budget, group in groupby(told, of_budget):
            if budget not in new:
                continue
            about = list(group)
            try:
                await _post(session, self.receiver.urls[0], for_webhook(about, self.receiver.links))
            except TellError as error:  # the others are told all the same
                refused = refused or error
            else:
                await self._taken(about)
        if refused is not None:
            raise refused

    async def _taken(self, told: Sequence[Breach]) -> None:
        """Write down what the receiver knows now."""
        self.counts.sent += len(told)
        new = [one.id for one in told if one.to_ms is None and one.told is Told.NOTHING]
        over = [one.id for one in told if one.to_ms is not None]
        for numbers, know in ((new, Told.REACHED), (over, Told.LEFT)):
            if numbers:
                await self._in_thread(breaches.tell, self.ledger, numbers, know)
        self.counts.waiting = max(0, self.counts.waiting - len(new) - len(over))

    async def _in_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.pool, work, *args)

    def _headers(self) -> dict[str, str]:
        path = self.receiver.token_file
        if path is None:
            return {}
        try:
            token = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise TellError(f"alerts.token_file: {path} cannot be read ({error})") from error
        if not token.isprintable():
            raise TellError(
                f"alerts.token_file: {path} has more than a token in it; write one line"
            )
        return {"Authorization": f"Bearer {token}"}

    def _tls(self) -> ssl.SSLContext | bool:
        if not any(url.startswith("https://") for url in self.receiver.urls):
            return True
        try:
            return ssl.create_default_context(cafile=self.receiver.ca)
        except OSError as error:
            raise TellError(f"alerts.ca: {self.receiver.ca} cannot be read ({error})") from error


async def _post(session: aiohttp.ClientSession, url: str, body: object) -> None:
    """Post JSON.

    Raises:
        TellError: it was not taken.

    """
    who = host_of(url)
    try:
        async with session.post(url, json=body, allow_redirects=False) as answer:
            said = (await answer.content.read(300)).decode("utf-8", "replace").strip()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:  # ValueError: of a header
        raise TellError(f"{who}: {why_not(error, url)}; is alerts.url its address?") from error
    if answer.status in (401, 403):
        raise TellError(f"{who}: refuses us ({answer.status}); see alerts.token_file")
    if answer.status >= 300:
        raise TellError(f"{who}: answered {answer.status} {said}")
