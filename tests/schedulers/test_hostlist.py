"""Host lists as Slurm writes them."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.schedulers import hostlist


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("login1", ["login1"]),
        ("n[08-10]", ["n08", "n09", "n10"]),
        ("n[3,5]", ["n3", "n5"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        ("r1n[1,3]-ib", ["r1n1-ib", "r1n3-ib"]),
        ("rack[1-2]n[01-02]", ["rack1n01", "rack1n02", "rack2n01", "rack2n02"]),
        ("login1,gpu[1-2],x", ["login1", "gpu1", "gpu2", "x"]),
        ("a[1, 3-4]", ["a1", "a3", "a4"]),
        ("[1-2]", ["1", "2"]),
    ],
)
def test_host_lists(pattern: str, expected: list[str]) -> None:
    """Leading zeros, several brackets (the last counts fastest), lists of lists."""
    assert expected == hostlist.expand(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["", "n[1", "n]1", "n[a-b]", "n[5-1]", "n[1-999999]", "n[]", "a,,b", "a,", ",a", "n[[1]]",
     "n[1-1000]m[1-1000]", "n[1-99999999999999999999999]"],
)  # fmt: skip
def test_bad_host_lists(pattern: str) -> None:
    """Each is an error that shows how one looks."""
    with pytest.raises(ValueError, match=r"host list|range"):
        hostlist.expand(pattern)


@st.composite
def lists(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Return a host list and its nodes, made the other way round."""
    patterns, nodes = [], []
    for _ in range(draw(st.integers(1, 3))):
        pattern, parts = "", []
        for _ in range(draw(st.integers(1, 3))):
            word = draw(st.text("abn-.", min_size=1, max_size=3))
            width = draw(st.integers(1, 4))
            numbers = draw(st.lists(st.integers(0, 500), min_size=1, max_size=3))
            ranges = [(low, low + draw(st.integers(0, 3))) for low in numbers]
            texts = [f"{low:0{width}}-{high}" for low, high in ranges]
            pattern += f"{word}[{','.join(texts)}]"
            parts += [[word]]
            parts += [[
                f"{number:0{len(text.partition('-')[0])}}"
                for (low, high), text in zip(ranges, texts, strict=True)
                for number in range(low, high + 1)
            ]]  # fmt: skip
        patterns.append(pattern)
        nodes += ["".join(words) for words in itertools.product(*parts)]
    return ",".join(patterns), nodes


@given(lists())
def test_what_was_folded_unfolds(made: tuple[str, list[str]]) -> None:
    """Every node, in order, for brackets in any number and place."""
    pattern, nodes = made
    assert nodes == hostlist.expand(pattern)


@given(st.text(alphabet="n0123456789[]-, ab", max_size=24))
def test_never_explodes(pattern: str) -> None:
    """Any text gives at most LIMIT nodes, or a ValueError."""
    with contextlib.suppress(ValueError):
        assert len(hostlist.expand(pattern)) <= hostlist.LIMIT
