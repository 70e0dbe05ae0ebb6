"""A ledger in a file, and its intake."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.store import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A new ledger with slots of 15 minutes."""
    opened = Ledger.open(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def intake(ledger: Ledger) -> Intake:
    """The intake of that ledger."""
    return Intake(ledger)
