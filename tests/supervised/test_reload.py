"""What a reload takes over, and what it only names."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from wattkeeper.agent.config import AgentSettings
from wattkeeper.flags import ConfigError
from wattkeeper.supervised.reload import Reload


def settings(**more: Any) -> AgentSettings:
    """Return settings of one agent."""
    return AgentSettings(node="n1", **more)


def reload(read: Callable[[], AgentSettings], taken: list[str | None]) -> Callable[[], Any]:
    """Return the reload of an agent that runs with the token `old`, and notes what it takes."""
    running = settings(aggregator={"url": "http://a:9746", "token": "old"})
    takers = {"aggregator.token": lambda new: taken.append(new.aggregator.shown)}
    return Reload(running, read, takers)


async def test_takes_over_what_it_can_and_names_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also back to what it was started with; the token itself is never said."""
    taken: list[str | None] = []
    tokens = iter(["new", "old"])

    def read() -> AgentSettings:
        section = {"url": "http://b:9746", "token": next(tokens)}
        return settings(aggregator=section, max_holders=7)

    again = reload(read, taken)
    with caplog.at_level(logging.INFO):
        await again()
        await again()
    assert ["new", "old"] == taken
    assert "reload: aggregator.url differs; restart to take it over" in caplog.messages
    assert "reload: max_holders differs; restart to take it over" in caplog.messages
    assert not any("token differs" in message or "new" in message for message in caplog.messages)


async def test_a_wrong_file_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The daemon goes on as it was, and says what is wrong."""
    taken: list[str | None] = []

    def read() -> AgentSettings:
        raise ConfigError("window: is no duration")

    await reload(read, taken)()
    assert ["reload: window: is no duration; all stays as it is"] == caplog.messages
    assert not taken
