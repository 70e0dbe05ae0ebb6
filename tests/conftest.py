"""What every test may use."""

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests.ledger import template as ledgers
from tests.postgresql.fixtures import new_url, server, shared_ledger, template

# How long a draw takes says how busy the machine is. Where CI is set, the parent is derandomized.
settings.register_profile(
    "wattkeeper",
    parent=settings.default,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("wattkeeper")
ledgers.use()


__all__ = ["new_url", "server", "shared_ledger", "template"]

MUST_RUN = ("browser", "compiler", "engines", "index", "postgresql", "promtool", "slurm", "systemd")
"""Markers of tests whose needs CI installs: there they may not be skipped."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one flag that renews golden files."""
    parser.addoption(
        "--regenerate",
        action="store_true",
        help="write the golden files in tests/fixtures anew instead of comparing with them",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what lasts longest: begun last, it would run while the other workers are idle."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a skip fail where WATTKEEPER_TEST_NO_SKIP says that everything is there."""
    report = yield
    must_run = any(item.get_closest_marker(marker) for marker in MUST_RUN)
    if report.skipped and must_run and os.environ.get("WATTKEEPER_TEST_NO_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"skipped, though CI has to make sure that it runs: {report.longrepr}"
    return report
