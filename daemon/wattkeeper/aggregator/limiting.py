"""How much may come how fast: questions by caller, deliveries by node, bodies by memory."""

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable

from aiohttp import web

from wattkeeper.aggregator.access.gate import CALLER, Handler, caller_of
from wattkeeper.aggregator.limit_config import LimitsSection
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.delivery.wire import MAX_BODY, Batch
from wattkeeper.listening.keeper import address_of
from wattkeeper.listening.turns import Turns

_MOST_KEYS = 100_000
"""Callers or nodes that are remembered; of more, those that were silent for longest are not."""
_BURST_S = 30
"""What was not used of so many seconds may be used at once."""
_ENTRIES_BURST_S = 300
_JOURNALS = 0.1
_JOURNALS_BURST_S = 100
"""A node has another journal when it is installed anew, restored or cloned: ten at once will do."""
_AT_ONCE = 4
"""Questions of one caller that are asked at a time; more wait. Others' wait behind these alone."""
_PATIENCE_S = 60.0
_MIB = 1 << 20


class Rates:
    """A bucket of tokens for each key: `rate` of them a second, `burst_s` seconds' at once."""

    def __init__(
        self,
        rate: float,
        burst_s: float = _BURST_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = max(1.0, rate * burst_s)
        self._now_s = now_s
        self._left: dict[Hashable, tuple[float, float]] = {}

    def wait_s(self, key: Hashable, tokens: int = 1) -> float:
        """Take tokens; return 0, or the seconds until there are as many, or all there may be."""
        now_s = self._now_s()
        left, since_s = self._left.pop(key, (self._burst, now_s))
        left = min(self._burst, left + (now_s - since_s) * self._rate)
        wanted = min(float(tokens), self._burst)
        enough = left >= wanted
        self._left[key] = (left - wanted if enough else left, now_s)
        if len(self._left) > _MOST_KEYS:
            del self._left[next(iter(self._left))]
        return 0.0 if enough else (wanted - left) / self._rate


class Limiting:
    """The limits on requests; those on connections are the listener's.

    `counts` gets `refused_questions`.
    """

    def __init__(self, settings: LimitsSection, counts: Counter[str]) -> None:
        self._counts = counts
        self._questions = Rates(settings.questions)
        self._deliveries = Rates(settings.deliveries)
        self._entries = Rates(settings.entries, _ENTRIES_BURST_S)
        self._journals = Rates(_JOURNALS, _JOURNALS_BURST_S)
        self._turns = Turns(_AT_ONCE)
        self._most_bytes = settings.bodies * _MIB
        self._bytes = 0
        self.most_nodes = settings.nodes

    @web.middleware
    async def questions(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer each caller so many questions. Whoever has a name is told apart by it."""
        if request.method in ("GET", "HEAD"):
            caller = caller_of(request)
            transport = request.transport
            peer = None if transport is None else transport.get_extra_info("peername")
            key = (caller.role, caller.name) if caller.name else address_of(peer)
            try:
                self._check(self._questions, key, "questions")
            except ProblemError:
                self._counts["refused_questions"] += 1
                raise
            if CALLER in request:  # a probe waits for nobody
                async with self._turn(key):
                    return await handler(request)
        return await handler(request)

    @contextlib.asynccontextmanager
    async def _turn(self, key: Hashable) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await stack.enter_async_context(self._turns.turn(key))
            except TimeoutError as error:
                self._counts["refused_questions"] += 1
                detail = f"{_AT_ONCE} questions of yours are not answered yet; wait for them"
                raise ProblemError(429, "too-many", detail, retry_after_s=5) from error
            yield

    def delivery(self, batch: Batch) -> None:
        """Take a delivery of a node, and what it adds to the dictionary.

        Raises:
            ProblemError: 429, it is one too many.

        """
        key = (batch.cluster, batch.node)
        self._check(self._deliveries, key, "deliveries")
        entries = len(batch.holders) + len(batch.epochs) + len(batch.meters)
        if entries:
            self._check(self._entries, key, "entries", entries)

    def journal(self, batch: Batch) -> None:
        """Take a node's new journal.

        Raises:
            ProblemError: 429, it is one too many.

        """
        self._check(self._journals, (batch.cluster, batch.node), "journals")

    @contextlib.asynccontextmanager
    async def body(self, request: web.Request) -> AsyncIterator[bytes]:
        """Give the body of a request, for whose memory there is room.

        Raises:
            HTTPRequestEntityTooLarge: it has more than MAX_BODY bytes.
            ProblemError: 429, too many bodies are on their way; 400, it broke off.

        """
        if (request.content_length or 0) > MAX_BODY:
            raise web.HTTPRequestEntityTooLarge(MAX_BODY, request.content_length or 0)
        body = bytearray()
        try:
            try:
                async for chunk in request.content.iter_any():
                    body += chunk
                    self._bytes += len(chunk)
                    if len(body) > MAX_BODY:
                        raise web.HTTPRequestEntityTooLarge(MAX_BODY, len(body))
                    if self._bytes > self._most_bytes:
                        detail = "many deliveries are on their way here; send it again later"
                        raise ProblemError(429, "busy", detail, retry_after_s=5)
            except ConnectionError as error:
                raise ProblemError(400, "cut-short", "the body broke off", "body") from error
            yield bytes(body)
        finally:
            self._bytes -= len(body)

    def _check(self, rates: Rates, key: Hashable, what: str, tokens: int = 1) -> None:
        wait_s = rates.wait_s(key, tokens)
        if wait_s:
            where = "" if rates is self._journals else f" (limits.{what})"
            detail = f"too many {what}: wait {math.ceil(wait_s)} s{where}"
            raise ProblemError(429, "too-many", detail, retry_after_s=max(1, math.ceil(wait_s)))
