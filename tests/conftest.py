"""What every test may use."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one flag that renews golden files."""
    parser.addoption(
        "--regenerate",
        action="store_true",
        help="write the golden files in tests/fixtures anew instead of comparing with them",
    )
