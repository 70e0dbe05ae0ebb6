"""The page in a real Chromium, at 8 and at 2,000 GPUs."""

from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import Visiting
from tests.page.serving import SMALL, Served
from wattkeeper.delivery import wire

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

PATHS = (
    "/",
    "/jobs",
    "/jobs/west/1000",
    "/report?by=account",
    "/nodes/west/gpu001",
    "/budgets",
    "/health",
)
FAINT = (Path(__file__).parent / "contrast.js").read_text()
"""Returns texts whose contrast to what is behind them is less than WCAG's AA asks for."""


def _fits(page: Page) -> bool:
    """Tell whether nothing sticks out to the side."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize(
    ("fleet", "width", "scheme"),
    [
        ("small", 1280, "light"),
        ("small", 390, "dark"),
        ("large", 1280, "dark"),
        ("large", 390, "light"),
    ],
)
def test_every_page_is_quiet_and_legible(
    visit: Visiting, fleet: str, width: int, scheme: str
) -> None:
    """No error, no question to anybody else, enough contrast, and nothing cut off."""
    tab = visit(fleet, width=width, color_scheme=scheme)
    for path in PATHS:
        page = tab.see(path)
        assert page.evaluate(FAINT) == [], path
        assert _fits(page), path
        for picture in page.locator("img, iframe, object").all():
            pytest.fail(f"{path}: {picture}")


@pytest.mark.parametrize(("fleet", "gpus"), [("small", 8), ("large", 2000)])
def test_every_gpu_is_in_the_map(visit: Visiting, fleet: str, gpus: int) -> None:
    """A cell each, without a handler of its own; a node's link says what is in it."""
    page = visit(fleet).see("/")
    assert page.locator("#map .c").count() == gpus
    link = page.get_by_role("link", name="gpu001: 8 GPUs", exact=False)
    expect(link).to_be_visible()
    link.click()
    expect(page.get_by_role("heading", name="gpu001")).to_be_visible()


def test_a_list_by_keys(visit: Visiting) -> None:
    """`/` goes to the search, typing searches, a heading sorts; all of it in the address."""
    page = visit("large").see("/jobs")
    expect(page.locator("tbody tr")).to_have_count(125)
    page.keyboard.press("/")
    page.keyboard.type("alice whisper")
    expect(page.locator("tbody tr")).not_to_have_count(125)
    for row in page.locator("tbody tr").all():
        assert "alice" in row.inner_text()
        assert "whisper" in row.inner_text()
    assert "q=alice+whisper" in page.url
    expect(page.locator("[type=search]")).to_be_focused()
    page.locator("thead a", has_text="energy").focus()
    page.keyboard.press("Enter")
    expect(page.locator("th[aria-sort=descending]")).to_have_text("energy ↓")
    page.keyboard.press("Enter")
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("energy ↑")
    assert {"sort=energy", "order=asc", "q=alice+whisper"} <= set(
        page.url.partition("?")[2].split("&")
    )
    expect(page.locator("[type=search]")).to_have_value("alice whisper")
    page.go_back()
    expect(page.locator("th[aria-sort=descending]")).to_have_text("energy ↓")


def test_what_is_half_typed_stays(visit: Visiting) -> None:
    """A period that is none yet is told as such beside the report and the form, not instead."""
    tab = visit()
    page = tab.see("/report")
    period = page.get_by_label("Period")
    period.press_sequentially("2026-1")
    expect(page.get_by_role("status")).to_contain_text("2026-1")
    expect(period).to_be_focused()
    expect(page.locator("tbody tr")).not_to_have_count(0)
    period.press_sequentially("1")
    expect(page.locator("#trouble")).to_be_empty()
    expect(period).to_have_value("2026-11")
    assert all("400" in fault for fault in tab.faults)
    tab.faults.clear()


def test_tab_begins_with_the_way_to_the_content(visit: Visiting) -> None:
    """Who has no mouse need not pass the navigation on each page."""
    page = visit().see("/jobs")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_live_figures_change_in_place(visit: Visiting, served: Served) -> None:
    """What changed is patched: elements, and who is looked at, stay."""
    tab = visit()
    page = tab.see("/")
    link = page.get_by_role("link", name="gpu001: 8 GPUs", exact=False)
    link.focus()
    page.evaluate("document.querySelector('#map a').mine = true")
    (batch,) = SMALL.batches()
    live = tuple(wire.Live(one, batch.wall_ms, 111_000, 88_000, 500_000) for one in range(1, 9))
    snapshot = wire.Snapshot(meters=live)
    again = msgspec.structs.replace(batch, snapshot=snapshot)
    served.deliver("small", again)
    for _ in range(20):
        tab.look_again()
        if page.locator("#tiles").inner_text().find("888 W") >= 0:
            break
        page.wait_for_timeout(250)
    expect(page.locator("#tiles")).to_contain_text("888 W")
    expect(page.locator("#map .c").first).to_have_text("88 °C")
    assert page.evaluate("document.querySelector('#map a').mine") is True
    expect(link).to_be_focused()
    served.deliver("small", batch)


def test_an_aggregator_that_goes_away(visit: Visiting) -> None:
    """The page says since when, keeps what it has, and goes on when it is back."""
    tab = visit()
    page = tab.see("/health")
    page.context.set_offline(offline=True)
    tab.look_again()
    expect(page.get_by_role("status")).to_contain_text("No answer since")
    page.context.set_offline(offline=False)
    tab.look_again()
    expect(page.locator("#trouble")).to_be_empty()
    assert all("ERR_INTERNET_DISCONNECTED" in fault for fault in tab.faults)
    tab.faults.clear()


def test_a_plot_tells_what_is_under_the_mouse(visit: Visiting) -> None:
    """Each layer's own value, not the sum that is drawn."""
    page = visit().see("/jobs/west/1000")
    page.locator(".u-over").hover()
    tip = page.locator(".tip")
    expect(tip).to_be_visible()
    expect(tip).to_contain_text("dram")
    expect(tip.locator("tr")).to_have_count(4)


def test_without_scripts_nothing_is_missing(visit: Visiting) -> None:
    """Plots are still pictures; lists are sorted by their links."""
    tab = visit("large", java_script_enabled=False)
    page = tab.page
    for _ in range(20):  # a history that takes long is left out, until it is there
        page.goto(f"{tab.base}/")
        if page.locator(".still path").count():
            break
    expect(page.locator(".still path")).to_have_count(4)
    expect(page.locator(".still svg")).to_be_visible()
    page.get_by_role("link", name="Jobs").click()
    page.locator("thead a", has_text="energy").click()
    expect(page.locator("th[aria-sort=descending]")).to_have_text("energy ↓")


def test_a_report_is_read_without_any_network(visit: Visiting, tmp_path: Path) -> None:
    """Saved and opened from a disk: plot, figures, and paper."""
    tab = visit()
    file = tmp_path / "report.html"
    answer = tab.page.request.get(f"{tab.base}/report.html?by=account&since=-24h")
    file.write_bytes(answer.body())
    tab.base = "file://"
    page = tab.page
    page.context.set_offline(offline=True)
    page.goto(file.as_uri())
    expect(page.locator(".uplot")).to_be_visible()
    expect(page.get_by_role("heading", name="Energy by account")).to_be_visible()
    page.emulate_media(media="print")
    expect(page.locator(".still svg")).to_be_visible()
    expect(page.locator(".uplot")).not_to_be_visible()
