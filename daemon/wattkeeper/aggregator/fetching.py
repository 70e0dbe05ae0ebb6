"""Fetching factors: a task for each, with a deadline, and answers of bounded size."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from wattkeeper import __version__
from wattkeeper.aggregator.pricing import FACTORS
from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.factors.answer import read
from wattkeeper.factors.series import Value
from wattkeeper.factors.settings import FactorSection, FactorsSection
from wattkeeper.ledger.factor_values import FactorValue, keep_factor
from wattkeeper.ledger.store import LeaseLostError, Ledger, LedgerError
from wattkeeper.values import host_of, why_not

MAX_BYTES = 4 << 20
"""A year of half-hours is 3 MB of JSON."""
_AGAIN_S = 60.0
"""Pause after a failure, if the factor's own is longer."""
_LOOK_AGAIN_S = 1.0
"""How soon an aggregator that was given the lease begins to fetch."""


class FetchError(Exception):
    """There is no answer that can be used. The message says why."""


class Fetching:
    """Fetches each factor that has a URL, at its own interval, while `leads` says so.

    `writer` runs what writes into the ledger.
    """

    def __init__(
        self,
        settings: FactorsSection,
        ledger: Ledger,
        *,
        leads: Callable[[], bool],
        troubles: Troubles,
        writer: Executor,
        now_ms: Callable[[], int],
    ) -> None:
        self._sections = {
            name: section
            for name in FACTORS
            if (section := getattr(settings, name)).url is not None
        }
        self._ledger = ledger
        self._leads = leads
        self._troubles = troubles
        self._writer = writer
        self._now_ms = now_ms

    def begin(self) -> list[asyncio.Task[None]]:
        """Return the tasks that do it; they run until they are cancelled."""
        return [
            asyncio.create_task(self._run(name, section), name=f"fetch {name}")
            for name, section in self._sections.items()
        ]

    async def _run(self, name: str, section: FactorSection) -> None:
        what = f"factors.{name}"
        pause_s = section.interval.total_seconds()
        timeout = aiohttp.ClientTimeout(total=section.timeout.total_seconds())
        agent = {"User-Agent": f"wattkeeper/{__version__}", "Accept": "application/json"}
        async with aiohttp.ClientSession(timeout=timeout, headers=agent) as session:
            while True:
                if not self._leads():
                    await asyncio.sleep(_LOOK_AGAIN_S)
                    continue
                try:
                    await self.fetch(session, name, section)
                except LeaseLostError:
                    await asyncio.sleep(_LOOK_AGAIN_S)
                except (FetchError, LedgerError) as error:
                    self._troubles.failed(what, error)
                    await asyncio.sleep(min(_AGAIN_S, pause_s))
                else:
                    self._troubles.recovered(what)
                    await asyncio.sleep(pause_s)

    async def fetch(self, session: aiohttp.ClientSession, name: str, section: FactorSection) -> int:
        """Fetch one factor now and keep what is new; return how many values that is.

        Raises:
            FetchError: no answer, or none with a value in it.
            LedgerError: it cannot be kept.

        """
        try:
            body = await _get(session, section)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # A ValueError: aiohttp's word on a header or an address that cannot be sent.
            url = section.url or ""
            raise FetchError(f"{host_of(url)}: {why_not(error, url)}") from error
        try:
            found = await asyncio.to_thread(_read, body, section, self._now_ms())
        except ValueError as error:
            raise FetchError(f"the answer of {host_of(section.url or '')} {error}") from error
        source = section.source or str(urlsplit(section.url or "").hostname)
        values = [FactorValue(*one, source) for one in found]
        keep = partial(
            keep_factor, self._ledger, name, section.measure.base, values, self._now_ms()
        )
        return await asyncio.get_running_loop().run_in_executor(self._writer, keep)


async def _get(session: aiohttp.ClientSession, section: FactorSection) -> bytes:
    headers = {}
    if section.token_file is not None:
        token = await asyncio.to_thread(_token, section.token_file)
        bearer = section.token_header.lower() == "authorization"
        headers[section.token_header] = f"Bearer {token}" if bearer else token
    url = section.url or ""
    # A redirection would take the token to another place.
    async with session.get(
        url, headers=headers, proxy=_proxy(url), allow_redirects=False
    ) as answer:
        if answer.status != 200:
            raise FetchError(f"{host_of(url)} answers {answer.status} {answer.reason}")
        body = bytearray()
        async for chunk in answer.content.iter_chunked(1 << 16):
            body += chunk
            if len(body) > MAX_BYTES:
                raise FetchError(
                    f"the answer of {host_of(url)} has more than {MAX_BYTES >> 20} MiB"
                )
        return bytes(body)


def _read(body: bytes, section: FactorSection, now_ms: int) -> list[Value]:
    found = read(body, section.recipe, section.measure, now_ms)
    for one in found:
        section.check_rate(one.rate)
    return found


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no text"
        raise FetchError(f"token_file: {path} cannot be read ({why})") from error
    if not token.isprintable():
        raise FetchError(f"token_file: {path} holds more than a token; write one line of text")
    return token


def _proxy(url: str) -> str | None:
    """Return the proxy that https_proxy, http_proxy and no_proxy name for a URL."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)
