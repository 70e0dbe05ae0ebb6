"""A ledger in a file and one on PostgreSQL, and its intake."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgresql.fixtures import POSTGRESQL, empty

from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.store import Ledger


@pytest.fixture(params=["sqlite", POSTGRESQL])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A new ledger with slots of 15 minutes."""
    if request.param == "postgresql":
        yield empty(request.getfixturevalue("shared_ledger"))
        return
    opened = Ledger.open(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def intake(ledger: Ledger) -> Intake:
    """The intake of that ledger."""
    return Intake(ledger)
