"""Charts in characters, for every terminal."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from wattkeeper.cli.chart import MOST_LAYERS, Layer, Look, draw, look_of

BLOCKS = Look(40, 4, colors=False, blocks=True)
COLORS = Look(40, 4, colors=True, blocks=True)
PLAIN = Look(40, 4, colors=False, blocks=False)


def chart(look: Look, *layers: Layer, span_ms: int = 3_600_000) -> list[str]:
    """Return a chart's lines as they look without colours."""
    drawn = draw(layers, 0, span_ms, look, lambda values: [f"{value:g} W" for value in values])
    return [line.plain for line in drawn]


def test_a_stack() -> None:
    """The first layer lies at the bottom; the axis begins at 0; blank is not metered."""
    lines = chart(BLOCKS, Layer("gpu", [100, 100, None]), Layer("cpu", [50, 100, None]))
    assert lines == [
        "   200 W │          ▓▓▓▓▓▓▓▓▓▓          ",
        "         │▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓          ",
        "   100 W │████████████████████          ",
        "         │████████████████████          ",
        "     0 W └──────────────────────────────",
        "          00:00                    01:00",
        "          █ gpu   ▓ cpu   ",
        "          (blank: not metered)",
    ]


def test_without_blocks() -> None:
    """ASCII, and nothing else."""
    lines = chart(PLAIN, Layer("gpu", [100]), Layer("cpu", [100]))
    assert "\n".join(lines).isascii()
    assert lines[0] == f"   200 W |{'+' * 30}"
    assert lines[4] == f"     0 W +{'-' * 30}"


def test_with_colours() -> None:
    """Eighths; two layers in one cell are one before the other."""
    layers = [Layer("gpu", [125]), Layer("cpu", [50])]
    drawn = draw(layers, 0, 1000, COLORS, lambda values: [str(value) for value in values])
    assert drawn[1].plain[10:] == "▄" * 30
    assert {str(span.style) for span in drawn[1].spans} == {"green on cyan"}
    assert drawn[0].plain[10:] == "▄" * 30
    assert {str(span.style) for span in drawn[0].spans} == {"cyan"}
    assert drawn[2].plain[10:] == "█" * 30


@pytest.mark.parametrize(
    ("span_ms", "first", "last"),
    [
        (600_000, "00:00:00", "00:10:00"),
        (3_600_000, "00:00", "01:00"),
        (3 * 86_400_000, "01-01 00:00", "01-04 00:00"),
        (90 * 86_400_000, "1970-01-01", "1970-04-01"),
    ],
)
def test_times_suit_the_span(span_ms: int, first: str, last: str) -> None:
    """Seconds in minutes, dates in months."""
    line = chart(BLOCKS, Layer("gpu", [1.0]), span_ms=span_ms)[5]
    assert (line.split()[0].strip() in first, line.endswith(last)) == (True, True)


VALUES = st.lists(st.one_of(st.none(), st.floats(0, 1e9), st.just(0.0)), max_size=200)


@settings(deadline=None)
@given(
    series=st.lists(VALUES, max_size=MOST_LAYERS),
    look=st.builds(
        Look, st.integers(40, 200), st.sampled_from([6, 8, 16]), st.booleans(), st.booleans()
    ),
)
def test_any_values_fit_the_terminal(series: list[list[float | None]], look: Look) -> None:
    """Whatever was metered, no line is longer than it is wide, and none is missing."""
    steps = max(map(len, series), default=0)
    layers = [
        Layer(f"layer {number}", [*values, *[None] * (steps - len(values))])
        for number, values in enumerate(series)
    ]
    drawn = draw(layers, 0, 60_000, look, lambda values: [f"{value:.3g} W" for value in values])
    assert len(drawn) >= look.height + 3
    for line in drawn[: look.height + 1]:
        assert line.cell_len <= look.width + 4


def console(**how: object) -> Console:
    """Return a console on a file of that encoding."""
    encoding = str(how.pop("encoding", "utf-8"))
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(file=file, width=100, height=40, **how)  # type: ignore[arg-type]


def test_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours where they are, blocks where they can be written, 80 columns where it is piped."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert look_of(console(force_terminal=True), 14) == Look(100, 16, colors=True, blocks=True)
    assert look_of(console(force_terminal=True, no_color=True), 14).colors is False
    ascii_only = look_of(console(force_terminal=True, encoding="ascii"), 14)
    assert (ascii_only.colors, ascii_only.blocks) == (False, False)
    assert look_of(console(), 14) == Look(80, 12, colors=False, blocks=True)
    monkeypatch.setenv("TERM", "dumb")
    assert look_of(console(force_terminal=True), 14) == Look(80, 12, colors=False, blocks=False)
