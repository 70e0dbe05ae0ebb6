"""The load: every agent's delivery at its own point of the window, over its own connection.

Runs as a process of its own (`python -m benchmarks.generator …`) and prints one line of JSON.
"""

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field

from benchmarks.fleet import WINDOW_MS, Fleet, Round
from wattkeeper.delivery.wire import CONTENT_TYPE

_ASK_AGAIN_S = 2.0
_PATIENCE_S = 60.0
"""For the last answers."""
_AT_ONCE = 50
_SPREAD = 0.8
"""Part of the window over which agents spread their deliveries, as the real ones do."""


@dataclass(slots=True)
class Outcome:
    """What came of the deliveries. `late`: not answered before the node's next was due."""

    sent: int = 0
    accepted: int = 0
    refused: int = 0
    late: int = 0
    problems: list[str] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    lag_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    registered_s: float = 0.0
    bytes: int = 0


class Node(asyncio.Protocol):
    """One agent's connection: a request at a time, the answer checked against the chain."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._expects: Round | None = None
        self._sent_at = 0.0
        self.committed = 0
        self.answered: asyncio.Event = asyncio.Event()
        self.answered.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a connection that the aggregator closed."""
        if not self.answered.is_set():
            self.outcome.problems.append(f"connection lost: {exc}")
            self.answered.set()

    def post(self, body: bytes, round_: Round, head: bytes) -> None:
        """Send a delivery, unless the one before is still unanswered."""
        if not self.answered.is_set():
            self.outcome.late += 1
            return
        assert self._transport is not None
        self._expects, self._sent_at = round_, time.perf_counter()
        self.answered.clear()
        self.outcome.sent += 1
        self.outcome.bytes += len(body)
        self._transport.write(head % len(body) + body)

    def data_received(self, data: bytes) -> None:
        """Read the answer; whole once as much has come as its header says."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) < length:
            return
        self._buffer = b""
        self.outcome.latency_ms.append((time.perf_counter() - self._sent_at) * 1000)
        self._check(head, body)
        self.answered.set()

    def _check(self, head: bytes, body: bytes) -> None:
        expects = self._expects
        assert expects is not None
        if not head.startswith(b"HTTP/1.1 200"):
            self.outcome.refused += 1
        else:
            ack = json.loads(body)
            self.committed = int(ack["committed"])
            if (ack["accepted"], ack["accepted_hash"]) == (expects.accepted, expects.accepted_hash):
                self.outcome.accepted += 1
                return
        if len(self.outcome.problems) < 5:
            self.outcome.problems.append(body.decode(errors="replace")[:300])


async def run(port: int, nodes: int, holders: int, seconds: int) -> Outcome:
    """Register the fleet, then deliver one window of every node per ten seconds.

    Registering takes longer than a window, so the fleet's windows lie some time in the past: an
    aggregator takes them as it takes any backlog.
    """
    outcome = Outcome()
    head = (
        f"POST /v1/windows HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: %d\r\n\r\n"
    ).encode()
    fleet = Fleet(nodes, holders, _wall_ms() // WINDOW_MS * WINDOW_MS - WINDOW_MS)
    began = time.monotonic()
    first, connections = await _register(fleet, port, head, outcome)
    registered_s = time.monotonic() - began
    await _settle(fleet, connections, head, first)
    loaded = Outcome(refused=outcome.refused, problems=outcome.problems, registered_s=registered_s)
    for node in connections:
        node.outcome = loaded
    print("registered", file=sys.stderr, flush=True)
    began = time.monotonic()
    for round_ in range(seconds * 1000 // WINDOW_MS):
        await _deliver(fleet, connections, head, began + round_ * WINDOW_MS / 1000, loaded)
    async with asyncio.timeout(_PATIENCE_S):
        for node in connections:
            await node.answered.wait()
    loaded.seconds = time.monotonic() - began
    return loaded


async def _register(
    fleet: Fleet, port: int, head: bytes, outcome: Outcome
) -> tuple[Round, list[Node]]:
    """Send every node's first window with its dictionary, a bounded number at a time.

    Each connects when it is its turn: a connection that says nothing is not kept.
    """
    loop = asyncio.get_running_loop()
    first = fleet.next_round()
    connections: list[Node] = []
    for i in range(fleet.nodes):
        _, node = await loop.create_connection(lambda: Node(outcome), "127.0.0.1", port)
        connections.append(node)
        node.post(fleet.first_body(i, first, _wall_ms()), first, head)
        if i >= _AT_ONCE:
            await connections[i - _AT_ONCE].answered.wait()
    for node in connections[-_AT_ONCE:]:
        await node.answered.wait()
    return first, connections


async def _settle(fleet: Fleet, connections: list[Node], head: bytes, first: Round) -> None:
    """Send again what is known already until it is committed: that commit is not the load's."""
    last = len(connections) - 1
    while connections[last].committed < first.accepted:
        await asyncio.sleep(_ASK_AGAIN_S)
        connections[last].post(fleet.body(last, first, _wall_ms()), first, head)
        await connections[last].answered.wait()


async def _deliver(
    fleet: Fleet, connections: list[Node], head: bytes, began: float, outcome: Outcome
) -> None:
    """Send one window of every node, each at its own point of the ten seconds."""
    round_ = fleet.next_round()
    step = _SPREAD * WINDOW_MS / 1000 / fleet.nodes
    for i, node in enumerate(connections):
        early = began + i * step - time.monotonic()
        if early > 0.001:
            await asyncio.sleep(early)
        elif not i % 20:
            await asyncio.sleep(0)
        if not i % 100:
            outcome.lag_ms.append(max(0.0, -early) * 1000)
        node.post(fleet.body(i, round_, _wall_ms()), round_, head)
    await asyncio.sleep(max(0.0, began + WINDOW_MS / 1000 - time.monotonic()))


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def main() -> int:
    """Run the load and print its outcome."""
    parser = argparse.ArgumentParser()
    for name in ("--port", "--nodes", "--holders", "--seconds"):
        parser.add_argument(name, type=int, required=True)
    given = parser.parse_args()
    outcome = asyncio.run(run(given.port, given.nodes, given.holders, given.seconds))
    summary = asdict(outcome)
    for name in ("latency_ms", "lag_ms"):
        ordered = sorted(summary[name]) or [0.0]
        summary[name] = [ordered[len(ordered) * part // 100] for part in (50, 99)] + ordered[-1:]
    cpu = time.process_time()
    print(json.dumps({**summary, "cpu_s": cpu}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
