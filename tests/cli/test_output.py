"""Units for people, and tables that no name can break."""

import csv
import io
from contextlib import redirect_stdout

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wattkeeper.cli import output


@pytest.mark.parametrize(
    ("uj", "expected"),
    [
        (0, "0.00 J"),
        (1, "0.00 J"),
        (1_500_000, "1.50 J"),
        ("3600000000", "1.00 Wh"),
        (225 * 3_600_000_000, "225 Wh"),
        (12_345 * 3_600_000_000, "12.3 kWh"),
        (10**22, "2,777,778 MWh"),
        (-7_200_000_000, "-2.00 Wh"),
        (None, "-"),
    ],
)
def test_energy(uj: int | str | None, expected: str) -> None:
    """The unit fits the size; unknown is not zero."""
    assert expected == output.energy(uj)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.5, "0.5 W"), (312.4, "312 W"), (12_500, "12.5 kW"), (None, "-")]
)
def test_watts(value: float | None, expected: str) -> None:
    """Watts, and kilowatts where they are many."""
    assert expected == output.watts(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, "100 %"),
        (0.99999, "99.9 %"),
        (0.9876, "98.8 %"),
        (0.00123, "0.123 %"),
        (0.0, "0 %"),
        (None, "-"),
    ],
)
def test_percent(value: float | None, expected: str) -> None:
    """Almost all is never shown as all."""
    assert expected == output.percent(value)


@pytest.mark.parametrize(("value", "expected"), [(59.6, "0:01:00"), (90_061, "25:01:01")])
def test_span(value: float, expected: str) -> None:
    """Hours may be many."""
    assert expected == output.span(value)


@pytest.mark.parametrize("text", ["2026-11-23T20:15:00Z", "2026-11-23T20:15:00.943Z"])
def test_instants(text: str) -> None:
    """To the second, readable, still with their zone."""
    assert output.instant(text) == "2026-11-23 20:15:00Z"


def test_names_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes, markup and newlines in a job's name stay text."""
    output.console().print(output.table(["job"], [["\x1b[2J[red]x[/red]\nrm"]]))
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "[red]x[/red]" in text


@given(st.text(max_size=8) | st.text("=+-@1.e\t\r\n ", max_size=4), st.integers(), st.floats())
@example("=HYPERLINK(A1)", -1, -1e300)
@example("-1+2", 0, 0.0)
def test_csv_starts_no_formula(name: str, whole: int, part: float) -> None:
    """A job may be called anything; numbers stay numbers, and a row is one line."""
    out = io.StringIO()
    with redirect_stdout(out):
        row = {"name": name, "names": [name], "whole": whole, "text": str(whole), "part": part}
        output.emit_csv([row], list(row))
    assert 2 == len(out.getvalue().splitlines())
    (told,) = csv.DictReader(io.StringIO(out.getvalue()))
    for cell in (told["name"], told["names"]):
        assert cell[:1] not in ("=", "+", "-", "@") or float(cell) < 1
    assert (str(whole), str(whole), str(part)) == (told["whole"], told["text"], told["part"])
