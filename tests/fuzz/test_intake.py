"""Deliveries that were tampered with: never a 500, and what is refused books nothing."""

import asyncio
import zlib
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.aggregator.feeding import CPU_UJ, GPU_UJ, SLOT_MS, Feeder
from tests.fuzz.asking import Client, check, client
from tests.page.serving import SMALL, Served

from wattkeeper.delivery import wire
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.model.grid import floor

EXAMPLES = 150
HEADERS = {"Content-Type": wire.CONTENT_TYPE}
START_MS = floor(SMALL.end_ms, SLOT_MS) - 4 * SLOT_MS
EDGES = (0, -1, 1, 2**31, 2**32, 2**53, 2**63 - 1, -(2**63), 2**64 - 1, 10**15, -(10**15))
TEXTS = (
    "",
    "\0",
    "x" * 257,
    "n\n2",
    "\x1b[31m",
    "..",
    "node001",
    "journal-1",
    "gpu/GPU-1",
    "\u2028",
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(EDGES),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(TEXTS),
    st.binary(max_size=20),
    st.lists(st.integers(-2, 40), max_size=3),
    st.dictionaries(st.integers(0, 20), st.integers(0, 3), max_size=2),
    st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
)
_numbers = count(1)


def feeder() -> Feeder:
    """Return a node that nobody has heard of."""
    number = f"f{next(_numbers):06}"
    return Feeder(
        node=number,
        cluster="fuzz",
        journal=f"journal-{number}",
        raw_id=number,
        uuid=f"GPU-{number}",
        origin_ms=START_MS,
    )


def tampered(draw: st.DrawFn, tree: Any, *, record: bool = False) -> Any:
    """Return a part of a delivery in which something, somewhere, is another."""
    if record and isinstance(tree, bytes):
        return msgspec.msgpack.encode(tampered(draw, msgspec.msgpack.decode(tree)))
    if not tree or not isinstance(tree, (dict, list)) or draw(st.integers(0, 4)) == 0:
        return draw(VALUES)
    places: list[Any] = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    place = draw(st.sampled_from(places))
    change = draw(st.sampled_from(("deeper", "deeper", "deeper", "gone", "more")))
    if change == "deeper":
        tree[place] = tampered(draw, tree[place], record=record or place == "records")
    elif change == "gone":
        del tree[place]
    elif isinstance(tree, list):
        tree.insert(place, draw(VALUES))
    else:
        tree[draw(st.one_of(st.integers(-1, 2**64 - 1), st.text(max_size=4)))] = draw(VALUES)
    return tree


@st.composite
def bodies(draw: st.DrawFn, batch: wire.Batch) -> bytes:
    """Return the body of a delivery, damaged at one of its levels."""
    plain = msgspec.msgpack.encode(batch)
    level = draw(st.sampled_from(("fields", "fields", "fields", "msgpack", "zlib", "streams")))
    if level == "fields":
        tree = msgspec.msgpack.decode(plain)
        for _ in range(draw(st.integers(1, 2))):
            tree = tampered(draw, tree)
        return zlib.compress(msgspec.msgpack.encode(tree))
    if level == "streams":
        return zlib.compress(plain) + draw(st.binary(max_size=9)) + zlib.compress(plain)
    whole = plain if level == "msgpack" else zlib.compress(plain)
    # How long it is depends on the node's name; what is drawn must not.
    at, cut = draw(st.integers(0, 1000)) * len(whole) // 1000, draw(st.integers(0, 9))
    whole = whole[:at] + draw(st.binary(max_size=9)) + whole[at + cut :]
    return zlib.compress(whole) if level == "msgpack" else whole


def deliver(asking: Client, batch: wire.Batch) -> wire.Ack:
    """Deliver a batch as it is."""
    status, _, body = asking.ask("POST", "/v1/windows", HEADERS, wire.pack(batch))
    assert status == 200, body
    return msgspec.json.decode(body, type=wire.Ack)


@pytest.mark.parametrize("known", [False, True], ids=["first", "next"])
def test_deliveries(served: Served, known: bool) -> None:
    """The first of a node, or one that goes on; a true one is taken after it."""
    aggregator = served.centres["small"].aggregator
    intake = aggregator.intake
    with client(served) as asking:

        @settings(max_examples=EXAMPLES)
        @given(st.data())
        def run(data: st.DataObject) -> None:
            node = feeder()
            if known:
                deliver(asking, node.batch(node.run(4)))
            before = (intake.pending_postings, intake.position(node.journal))
            body = data.draw(bodies(node.batch(node.run(3), node.snapshot())))
            status, kind, said = asking.ask("POST", "/v1/windows", HEADERS, body)
            check(status, kind, said, body)
            if status == 200:
                msgspec.json.decode(said, type=wire.Ack)
            else:
                assert (intake.pending_postings, intake.position(node.journal)) == before

        run()
        true = feeder()
        deliver(asking, true.batch(true.run(90)))
        assert asyncio.run_coroutine_threadsafe(aggregator.commit(), served.loop).result(60)
        own = [one for one in balance(aggregator.ledger).meters if one.node == true.node]
        assert sum(one.measured_uj for one in own) == 90 * (GPU_UJ + CPU_UJ)
        assert {one.residual_uj for one in own} == {0}
        for path in ("/", "/v1/jobs", "/v1/report?by=user", "/v1/nodes", "/v1/balance", "/metrics"):
            assert asking.ask("GET", path, {})[0] == 200
