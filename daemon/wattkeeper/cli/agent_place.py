"""Where the agent of this node is, for the commands that talk to it."""

from pathlib import Path

from wattkeeper.agent.config import AgentSettings
from wattkeeper.settings import load


def agent_settings(data_dir: Path | None) -> AgentSettings:
    """Return the agent's configuration, with another `data_dir` if one is given.

    Raises:
        ConfigError: the configuration cannot be read.

    """
    overrides = {} if data_dir is None else {"data_dir": data_dir}
    return load(AgentSettings, program="agent", overrides=overrides)
