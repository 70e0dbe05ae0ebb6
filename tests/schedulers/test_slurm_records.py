"""Cutting Slurm's JSON into records while it comes in."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.schedulers.slurm_records import Records


class Record(msgspec.Struct, frozen=True):
    """What is read of each record."""

    job_id: Any = None
    name: Any = None


def cut(answer: bytes, size: int) -> Iterator[bytes]:
    """Yield an answer in chunks."""
    return (answer[at : at + size] for at in range(0, len(answer), size))


def read(chunks: Iterable[bytes]) -> tuple[list[Record], Records[Record]]:
    """Return the records, and what read them."""
    records = Records(chunks, Record)
    return list(records), records


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["account", "job_id", "name", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    jobs=st.lists(
        st.dictionaries(st.sampled_from(["account", "job_id", "name"]), JSON), max_size=6
    ),
    size=st.integers(1, 200),
    indent=st.sampled_from([None, 2]),
    first=st.booleans(),
)
def test_every_record_once(
    jobs: list[dict[str, Any]], size: int, indent: int | None, first: bool
) -> None:
    """Whatever is in them, however they are written, wherever the chunks end."""
    around = {"meta": {"command": ["squeue", '"jobs": [']}, "errors": []}
    body = {"jobs": jobs, **around} if first else {**around, "jobs": jobs}
    found, records = read(cut(json.dumps(body, indent=indent).encode(), size))
    expected = [Record(job.get("job_id"), job.get("name")) for job in jobs]
    assert expected == found
    assert records.envelope == {**around, "jobs": []}


def test_lists_inside_that_look_like_the_list() -> None:
    """Records in a record that begin with the same key: cut there, and put together again."""
    job = {"account": "a", "job_id": 1, "steps": [{"account": number} for number in range(9)]}
    body = json.dumps({"jobs": [{**job, "job_id": number} for number in range(5)]}).encode()
    found, _ = read(cut(body, 50))
    assert [0, 1, 2, 3, 4] == [record.job_id for record in found]


def test_bytes_that_are_no_text() -> None:
    """A name in another encoding costs its own characters, not the record."""
    body = b'{"jobs": [{"name": "caf\xe9", "job_id": 1}, {"name": "b", "job_id": 2}]}'
    found, _ = read([body])
    assert [Record(1, "caf\ufffd"), Record(2, "b")] == found


def test_what_is_no_record() -> None:
    """Counted, and the others are there."""
    found, records = read([b'{"jobs": [{"job_id": 1}, 5, null, ["x"], {"job_id": 2}]}'])
    assert [1, 2] == [record.job_id for record in found]
    assert records.flawed == 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502 Bad Gateway</html>",
        b"slurm_load_jobs error: Unable to contact slurm controller",
        b'{"jobs": [{"job_id": 1}, {"job_id": 2}',
        b'{"jobs": [',
        b'{"jobs": [{"job_id": 1}',
        b'{"jobs": [{"job_id": 1},,,',
        b"[]",
        b"3",
        b'{"errors": [{"error": "x"}',
    ],
)
def test_what_is_no_answer(body: bytes) -> None:
    """Garbage, and an answer that breaks off: an error, never fewer jobs."""
    with pytest.raises(ValueError, match="JSON"):
        read([body])


def test_an_object_without_a_list() -> None:
    """No records; what it says instead is in the envelope."""
    found, records = read([b'{"errors": [{"error": "down"}]}'])
    assert found == []
    assert records.envelope == {"errors": [{"error": "down"}]}


def test_garbage_without_end() -> None:
    """It is not read to its end, which there may be none of."""
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * (1 << 20)

    with pytest.raises(ValueError, match="no list of records"):
        read(endless())
    assert taken < 10
    taken = 0

    def forever() -> Iterator[bytes]:
        yield b'{"jobs": [{"name": "'
        yield from endless()

    with pytest.raises(ValueError, match="no record ends"):
        read(forever())
    assert taken < 100
