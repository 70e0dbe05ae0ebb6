"""`wattkeeper report --html`: a page in a file."""

from pathlib import Path

from tests.aggregator.conftest import Centre
from tests.cli.conftest import Run


async def test_a_report_is_written_into_a_file(centre: Centre, run: Run, tmp_path: Path) -> None:
    """With its plot and figures; nothing is printed."""
    await centre.fed()
    file = tmp_path / "report.html"
    outcome = await run("report", "--by", "user", "--since", "-24h", "--html", str(file))
    assert (0, "", "") == (outcome.code, outcome.out, outcome.err)
    text = file.read_text(encoding="utf-8")
    assert "<title>Energy by user, " in text
    assert "alice" in text
    assert "uPlot" in text


async def test_what_cannot_be_written_or_meant(centre: Centre, run: Run, tmp_path: Path) -> None:
    """A folder that is none, and a question that the aggregator refuses: 2, and why."""
    outcome = await run("report", "--html", str(tmp_path / "none" / "report.html"))
    assert outcome.code == 2
    assert "cannot be written" in outcome.err
    outcome = await run("report", "--by", "shoe", "--html", str(tmp_path / "report.html"))
    assert outcome.code == 2
    assert "account" in outcome.err
    assert not (tmp_path / "report.html").exists()
