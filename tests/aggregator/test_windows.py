"""Deliveries over HTTP: what is taken, and what every bad one is told."""

import zlib
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.aggregator.conftest import TOKEN, Centre, started
from tests.aggregator.feeding import GPU_UJ, Feeder
from wattkeeper.delivery import wire


def problem(kind: str, field: str | None = None) -> Any:
    """Return a matcher of a problem's kind and field."""

    class _Matcher:
        def __eq__(self, other: object) -> bool:
            assert isinstance(other, dict)
            assert {"type", "title", "detail", "status"} <= set(other)
            return other["type"].endswith(f":{kind}") and other.get("field") == field

        def __hash__(self) -> int:
            return 0

        def __repr__(self) -> str:
            return f"problem {kind}, field {field}"

    return _Matcher()


async def test_a_batch_is_accepted_and_committed(centre: Centre) -> None:
    """The answer says what is in memory, after a commit what is on disk."""
    feeder = Feeder()
    batch = feeder.batch(feeder.run(3))
    status, ack = await centre.deliver(batch)
    assert status == 200
    assert (ack["accepted"], ack["committed"]) == (8, 0)
    assert feeder.previous.hex() == ack["accepted_hash"]
    assert await centre.aggregator.commit()
    status, ack = await centre.deliver(feeder.batch([]))
    assert (status, ack["accepted"], ack["committed"]) == (200, 8, 8)


async def test_a_replayed_batch_is_booked_once(centre: Centre) -> None:
    """The same bytes again change nothing."""
    feeder = Feeder()
    batch = feeder.batch(feeder.run(3))
    centre.clock[0] = feeder.at_ms
    for _ in range(3):
        status, ack = await centre.deliver(batch)
        assert (status, ack["accepted"]) == (200, 8)
    await centre.aggregator.commit()
    _, report = await centre.get("/v1/report", by="account", since="-1h")
    by_key = {row["key"]: row for row in report["rows"]}
    assert str(3 * GPU_UJ) == by_key["physics"]["energy_by_component_uj"]["gpu"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"not zlib", problem("bad-delivery", "body")),
        (b"", problem("bad-delivery", "body")),
        (zlib.compress(b"\xc1\xc1"), problem("bad-delivery", "body")),
        (zlib.compress(b"[1,2]")[:-3], problem("bad-delivery", "body")),
        (zlib.compress(bytes(wire.MAX_BATCH + 1)), problem("bad-delivery", "body")),
        (zlib.compress(msgspec.msgpack.encode({"node": 3})), problem("bad-delivery", "body")),
    ],
    ids=["plain", "empty", "no-msgpack", "cut", "bomb", "not-a-batch"],
)
async def test_malformed_bodies(centre: Centre, body: bytes, expected: Any) -> None:
    """Each is a 400 that says what is wrong."""
    assert (400, expected) == await centre.post(body)


async def test_another_version_names_the_fix(centre: Centre) -> None:
    """A newer agent is told to wait for the aggregator's upgrade."""
    batch = msgspec.structs.replace(Feeder().batch([]), version=2)
    status, body = await centre.deliver(batch)
    assert (400, problem("bad-delivery", "version")) == (status, body)
    assert "upgrade the aggregator" in body["detail"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("node", ""),
        ("node", "n1\nn2: fork: made up"),
        ("cluster", "\x1b[2J"),
        ("journal", "x" * 10_000),
        ("boot", ""),
        ("previous", b"short"),
        ("first", 0),
    ],
)
async def test_impossible_batches_name_the_field(centre: Centre, field: str, value: Any) -> None:
    """A batch that is well formed and makes no sense."""
    batch = msgspec.structs.replace(Feeder().batch([]), **{field: value})
    assert await centre.deliver(batch) == (400, problem("invalid", field))


async def test_an_oversized_body_is_413(centre: Centre) -> None:
    """More than MAX_BODY is not even read to its end."""
    assert (413, problem("too-large", "body")) == await centre.post(bytes(wire.MAX_BODY + 1))


async def test_wrong_content_type_is_415(centre: Centre) -> None:
    """The answer names the right one."""
    status, body = await centre.deliver(Feeder().batch([]), Content_Type="application/json")
    assert (415, problem("unsupported-media-type", "Content-Type")) == (status, body)
    assert wire.CONTENT_TYPE in body["detail"]


async def test_content_encoding_is_415(centre: Centre) -> None:
    """A body that is compressed twice is a bomb's disguise."""
    body = zlib.compress(wire.pack(Feeder().batch([])))
    status, answer = await centre.post(body, Content_Encoding="deflate")
    assert (415, problem("unsupported-media-type", "Content-Encoding")) == (status, answer)


@pytest.mark.parametrize("centre", [TOKEN], indirect=True)
@pytest.mark.parametrize(
    "shown", [None, "Bearer wrong", "Basic s3cret", "Bearer", "Bearer s3cre\u00fc"]
)
async def test_a_wrong_token_is_401(centre: Centre, shown: str | None) -> None:
    """Nothing is taken, and the token itself is told to nobody."""
    headers = {} if shown is None else {"Authorization": shown}
    status, body = await centre.deliver(Feeder().batch([]), **headers)
    assert (401, problem("unauthorized", "Authorization")) == (status, body)
    assert "s3cret" not in str(body)


@pytest.mark.parametrize("centre", [TOKEN], indirect=True)
async def test_the_right_token_is_taken(centre: Centre) -> None:
    """The scheme's case does not matter."""
    status, _ = await centre.deliver(Feeder().batch([]), Authorization="bearer s3cret")
    assert status == 200


async def test_a_fork_is_409(centre: Centre) -> None:
    """The same journal with another chain: a cloned image or a restored snapshot."""
    feeder = Feeder()
    await centre.deliver(feeder.batch(feeder.run(1)))
    clone = replace(feeder, previous=b"x" * 16)
    assert (409, problem("fork")) == await centre.deliver(clone.batch(clone.run(1)))


async def test_two_live_journals_are_409_and_shown(centre: Centre) -> None:
    """The second one is refused, and the node shows the conflict."""
    feeder = Feeder()
    await centre.deliver(feeder.batch(feeder.run(1)))
    twin = Feeder(journal="journal-2")
    assert (409, problem("two-live-journals")) == await centre.deliver(twin.batch(twin.run(1)))
    _, answer = await centre.get("/v1/nodes")
    assert [node["state"] for node in answer["nodes"]] == ["conflict"]
    assert 'wattkeeper_nodes{state="conflict"} 1.0' in await centre.text("/metrics")


async def test_two_live_nodes_with_one_gpu_are_409_and_shown(centre: Centre) -> None:
    """Two agents on one machine under two names: the second one's GPU is not booked again."""
    feeder = Feeder()
    await centre.deliver(feeder.batch(feeder.run(1)))
    twin = Feeder(node="node002", journal="journal-2")
    assert (409, problem("two-live-meters")) == await centre.deliver(twin.batch(twin.run(1)))
    assert await centre.aggregator.commit()
    _, answer = await centre.get("/v1/nodes")
    states = {node["node"]: (node["state"], node["events"]["conflict"]) for node in answer["nodes"]}
    assert {"node001": ("live", 1), "node002": ("conflict", 1)} == states
    assert 'wattkeeper_nodes{state="conflict"} 1.0' in await centre.text("/metrics")


async def test_hostile_labels_harm_nothing(centre: Centre) -> None:
    """Quotes, newlines, escapes and 10 kB: cut, escaped, and the exposition stays readable."""
    evil = '"} 1\nwattkeeper_evil 666\n\x1b[2J\\' + "x" * 10_000
    feeder = Feeder(labels={"job_id": evil, "user": evil, "account": evil, "name": evil})
    await centre.fed(feeder, windows=3)
    text = await centre.text("/metrics")
    assert not [line for line in text.splitlines() if line.startswith("wattkeeper_evil")]
    assert max(map(len, text.splitlines())) < 2000
    assert "\x1b" not in text
    status, answer = await centre.get("/v1/jobs", since="-1h")
    assert status == 200
    assert all(len(job["name"]) <= 256 for job in answer["jobs"])


async def test_what_was_taken_is_committed_at_the_end(centre: Centre) -> None:
    """A stop commits; the next start knows the cursor."""
    feeder = Feeder()
    await centre.deliver(feeder.batch(feeder.run(2)))
    await centre.aggregator.stop()
    again = type(centre.aggregator)(centre.aggregator.settings, now_ms=lambda: feeder.at_ms)
    async with started(again):
        ack = again.intake.accept(feeder.batch([]), feeder.at_ms)
        assert (ack.accepted, ack.committed) == (6, 6)
