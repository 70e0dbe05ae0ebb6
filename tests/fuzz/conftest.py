"""An aggregator with a day of books and history, to be asked anything."""

from collections.abc import Iterator

import pytest
from tests.page.serving import SMALL, Served, serving


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve one node's day, with budgets and factors."""
    with serving(tmp_path_factory.mktemp("fuzz"), {"small": SMALL}) as running:
        yield running
