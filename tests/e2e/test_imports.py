"""What the programs load: an agent runs beside people's jobs and carries nothing of the centre."""

import subprocess
import sys

import pytest

from tests.e2e.programs import ROOT

HEAVY = {
    "alembic", "cramjam", "duckdb", "grpc", "grpclib", "jinja2", "kubernetes", "numpy", "psycopg",
    "pyarrow", "sqlalchemy", "yaml", "amdsmi",
}  # fmt: skip
CENTRE = {
    f"wattkeeper.{part}"
    for part in ("aggregator", "budgets", "factors", "ledger", "schedulers", "telemetry")
}
CHILD = {"asyncio", "aiohttp", "pydantic", "msgspec"}


def loaded(*modules: str) -> set[str]:
    """Return what a fresh interpreter has loaded after importing these."""
    code = f"import {', '.join(modules)}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(ROOT / "daemon")},
    )  # fmt: skip
    return set(done.stdout.split())


@pytest.mark.parametrize("command", ["agent", "mark", "release", "doctor"])
def test_the_node_loads_nothing_heavy(command: str) -> None:
    """Every command of a node, with all that it imports when it runs."""
    modules = loaded(
        f"wattkeeper.cli.{command}", "wattkeeper.agent.service", "wattkeeper.agent.build"
    )
    assert "wattkeeper.sources.nvml" in modules
    assert set() == modules & (HEAVY | CENTRE)


@pytest.mark.parametrize(
    "module", ["aggregator.access.relaying", "cli.job", "cli.report", "cli.top"]
)
def test_a_login_node_needs_nothing_of_the_centre_s(module: str) -> None:
    """`wattkeeper` without extras is enough to ask, and to relay."""
    assert set() == loaded(f"wattkeeper.{module}") & HEAVY


def test_a_mark_is_quick() -> None:
    """Every job waits for it twice."""
    modules = loaded("wattkeeper.cli.main", "wattkeeper.cli.mark")
    assert set() == modules & (HEAVY | CENTRE | {"asyncio", "aiohttp", "pydantic", "difflib"})


@pytest.mark.parametrize("child", ["nvml_child", "amd_child"])
def test_the_driver_s_child_is_small(child: str) -> None:
    """The process in the driver's hands has no event loop and no framework."""
    modules = loaded(f"wattkeeper.sources.{child}")
    assert ("pynvml" in modules) == (child == "nvml_child")
    assert set() == modules & (HEAVY | CENTRE | CHILD)
