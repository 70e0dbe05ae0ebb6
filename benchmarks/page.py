"""The page in a real Chromium: how soon it is there, and how much of it there is."""

import argparse
import contextlib
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, sync_playwright
from tests.page.feeding import GPUS, SimulatedFleet

from benchmarks.processes import (
    await_page,
    fetch,
    free_port,
    installed,
    machine,
    running,
    wattkeeper,
)
from wattkeeper.delivery import wire

PATHS = ("/", "/jobs", "/jobs/west/1000", "/report?by=account", "/budgets", "/health")
_SLOTS = {1: 96, 250: 8}
"""Windows of each meter, as long as a slot; fewer where there are many nodes."""
_TIMES = """() => {
  const [page] = performance.getEntriesByType("navigation");
  const files = performance.getEntriesByType("resource");
  return {
    first_byte: page.responseStart - page.requestStart,
    ready: page.domContentLoadedEventEnd,
    sent: page.encodedBodySize,
    page: page.decodedBodySize,
    files: files.reduce((sum, one) => sum + one.encodedBodySize, 0),
    elements: document.querySelectorAll("*").length,
  };
}"""


def main(args: list[str]) -> int:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks page", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="*", default=[1, 250], help="of 8 GPUs")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(args)
    if not installed("chromium"):
        return 0
    print(f"## The page: {given.rounds} rounds each\n\n{machine()}\n")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        for nodes in given.nodes:
            with _served(nodes) as url:
                _print(nodes, url, browser, given.rounds)
        browser.close()
    return 0


@contextlib.contextmanager
def _served(nodes: int) -> Iterator[str]:
    """Run an aggregator that a fleet has just delivered to."""
    now_ms = time.time_ns() // 1_000_000
    fleet = SimulatedFleet(nodes, _SLOTS.get(nodes, 1), now_ms)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port, log, config = free_port(), folder / "log", folder / "aggregator.toml"
        racks = "\n".join(f"{rack} = {json.dumps(names)}" for rack, names in fleet.racks.items())
        config.write_text(f'silent_after = "1h"\n[groups.rack]\n{racks}\n')
        command = wattkeeper(
            "aggregator", "--config", str(config),
            "--listen", f"127.0.0.1:{port}", "--data-dir", str(folder / "data"),
        )  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        program = stack.enter_context(running("aggregator", command, log))
        await_page(program, f"{url}/healthz", log)
        for batch in fleet.batches():
            request = urllib.request.Request(
                f"{url}/v1/windows", wire.pack(batch), {"Content-Type": wire.CONTENT_TYPE}
            )
            with urllib.request.urlopen(request, timeout=60):
                pass
        _await_commit(url, fleet)
        yield url


def _await_commit(url: str, fleet: SimulatedFleet) -> None:
    """Wait until every GPU that was delivered has a name."""
    for _ in range(120):
        if json.loads(fetch(f"{url}/v1/fleet"))["gpus"] == fleet.nodes * GPUS:
            return
        time.sleep(1)
    raise SystemExit("the aggregator does not commit what it was sent")


def _print(nodes: int, url: str, browser: Browser, rounds: int) -> None:
    print(f"### {nodes * GPUS:,} GPUs\n")
    print("| page | first byte, first time | again, p50 (max) | DOM ready, p50 | sent | page "
          "| files | elements |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for path in PATHS:
        # The server's answers are new in each round but the first: later than they are kept.
        seen = []
        for _ in range(rounds + 1):
            context = browser.new_context()
            tab = context.new_page()
            tab.goto(f"{url}{path}", wait_until="load")
            seen.append(tab.evaluate(_TIMES))
            context.close()
            time.sleep(2.5)
        first, *again = seen
        bytes_ = [one["first_byte"] for one in again]
        ready = median(one["ready"] for one in again)
        sizes = " | ".join(f"{first[name] / 1000:.1f} kB" for name in ("sent", "page", "files"))
        print(
            f"| `{path}` | {first['first_byte']:.0f} ms | {median(bytes_):.0f} ms "
            f"({max(bytes_):.0f}) | {ready:.0f} ms | {sizes} | {first['elements']:,} |"
        )
    print()
