"""`POST /v1/windows`: deliveries of agents."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor

import msgspec
from aiohttp import web

from wattkeeper.aggregator.access.caller import Caller
from wattkeeper.aggregator.access.gate import Handler, caller_of
from wattkeeper.aggregator.limiting import Limiting
from wattkeeper.aggregator.live import Live
from wattkeeper.aggregator.node_certificate import check_certificate
from wattkeeper.aggregator.openapi import problem_response
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.aggregator.recording import Recording
from wattkeeper.aggregator.snapshot import DeliveryCounts
from wattkeeper.aggregator.targets import Targets
from wattkeeper.delivery import wire
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.refusal import Refusal
from wattkeeper.ledger.store import LedgerError

PATH = "/v1/windows"
_LARGE = 512 << 10
"""Bytes, inflated, from which on a delivery is unpacked in a thread: a backlog, not a window."""
_STATUS = {"fork": 409, "two-live-journals": 409, "two-live-meters": 409, "invalid": 400}

_log = logging.getLogger(__name__)


class Deliveries:
    """Takes deliveries, and counts them for metrics. `recording`: where a history is kept."""

    def __init__(
        self,
        intake: Intake,
        recording: Recording | None,
        live: Live,
        targets: Targets,
        counts: DeliveryCounts,
        limiting: Limiting,
        *,
        pool: Executor,
        reader: Executor,
        now_ms: Callable[[], int],
    ) -> None:
        self._intake = intake
        self._take = intake.accept if recording is None else recording.accept
        self._live = live
        self._targets = targets
        self._counts = counts
        self._limiting = limiting
        self._pool = pool
        self._reader = reader
        self._now_ms = now_ms
        self._quarrels: set[tuple[str, str]] = set()

    @web.middleware
    async def counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count the deliveries that are refused, whoever refuses them."""
        if request.path != PATH:
            return await handler(request)
        try:
            return await handler(request)
        except ProblemError as problem:
            self._counts.refused[problem.kind] += 1
            raise
        except web.HTTPRequestEntityTooLarge:
            self._counts.refused["too-large"] += 1
            raise

    async def handle(self, request: web.Request) -> web.Response:
        """Take one delivery and answer with an `Ack`."""
        batch = await self._unpack(request)
        _check_node(batch, caller_of(request))
        check_certificate(request, batch.node)
        self._limiting.delivery(batch)
        await self._look(batch)
        self._check_room(batch)
        ack = self._accept(batch)
        return web.Response(body=msgspec.json.encode(ack), content_type="application/json")

    async def _unpack(self, request: web.Request) -> wire.Batch:
        if request.content_type != wire.CONTENT_TYPE:
            detail = f"send Content-Type: {wire.CONTENT_TYPE}"
            raise ProblemError(415, "unsupported-media-type", detail, "Content-Type")
        if request.headers.get("Content-Encoding", "identity") != "identity":
            detail = "the body is compressed by itself: send no Content-Encoding"
            raise ProblemError(415, "unsupported-media-type", detail, "Content-Encoding")
        async with self._limiting.body(request) as body:
            self._counts.taken["bytes"] += len(body)
            try:
                plain = wire.inflate(body, _LARGE) if len(body) < _LARGE else None
                if plain is not None:
                    return wire.decode(plain)
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._pool, wire.unpack, body)
            except wire.WireError as error:
                field, _, _ = str(error).partition(":")
                raise ProblemError(400, "bad-delivery", str(error), field) from error

    def _check_room(self, batch: wire.Batch) -> None:
        """Let no new node or journal have books where there are too many: they can be made up."""
        most = self._limiting.most_nodes
        if not self._intake.has_room(batch, most):
            detail = f"{most} nodes have books here; raise limits.nodes of the aggregator"
            raise ProblemError(403, "too-many-nodes", detail, "node")
        if self._intake.is_new(batch.journal):
            self._limiting.journal(batch)

    async def _look(self, batch: wire.Batch) -> None:
        """Read what another aggregator may have written of a node before its delivery is judged."""
        if self._intake.knows(batch):
            return
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._reader, self._intake.look, batch)
        except LedgerError as error:
            raise ProblemError(503, "ledger-unavailable", f"{error}; send it again") from error

    def _accept(self, batch: wire.Batch) -> wire.Ack:
        now_ms = self._now_ms()
        node = (batch.cluster, batch.node)
        try:
            ack = self._take(batch, now_ms)
        except Refusal as refusal:
            if refusal.kind in {"two-live-journals", "two-live-meters"}:
                self._live.refused(batch, now_ms)
            if refusal.kind != "invalid" and node not in self._quarrels:
                self._quarrels.add(node)
                _log.warning("%s: %s: %s", batch.node, refusal.kind, refusal.detail)
            field = refusal.detail.partition(":")[0] if refusal.kind == "invalid" else ""
            status = _STATUS[refusal.kind]
            raise ProblemError(status, refusal.kind, refusal.detail, field) from refusal
        if node in self._quarrels:
            self._quarrels.discard(node)
            _log.info("%s: deliveries are taken again", batch.node)
        self._counts.taken["deliveries"] += 1
        self._counts.taken["records"] += len(batch.records)
        self._live.delivered(batch, now_ms)
        if batch.snapshot is not None:
            self._targets.advertised(batch.cluster, batch.node, batch.snapshot.advertise)
        return ack


def _check_node(batch: wire.Batch, caller: Caller) -> None:
    """An agent speaks for its own nodes only, whatever token it has got hold of."""
    if caller.delivers is None or caller.delivers.has(batch.cluster, batch.node):
        return
    detail = (
        f"the token {caller.name!r} does not deliver for node {batch.node[:80]!r} of cluster "
        f"{batch.cluster[:80]!r}; make one that does with `wattkeeper token agent`"
    )
    raise ProblemError(403, "wrong-node", detail, "node")


def openapi() -> dict[str, object]:
    """Return the path item of the delivery for the OpenAPI document."""
    fields = {
        name: {"type": "string" if kind is str else "integer"}
        for name, kind in wire.Ack.__annotations__.items()
    }
    ack = {"type": "object", "properties": fields, "required": sorted(fields)}
    binary = {"type": "string", "format": "binary"}
    return {
        "post": {
            "summary": "Deliver windows of a node's journal",
            "description": "A zlib-compressed MessagePack batch, as docs/delivery.md describes it.",
            "requestBody": {"required": True, "content": {wire.CONTENT_TYPE: {"schema": binary}}},
            "responses": {
                "200": {
                    "description": "what is accepted and committed",
                    "content": {"application/json": {"schema": ack}},
                },
                "default": problem_response(),
            },
        }
    }
