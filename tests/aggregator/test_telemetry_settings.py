"""Settings of the history: what cannot be meant so is said, with the key and the fix."""

from datetime import timedelta
from pathlib import Path

import pytest

from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.settings import ConfigError, load


def read(text: str, tmp_path: Path) -> AggregatorSettings:
    """Return what a configuration file says."""
    file = tmp_path / "aggregator.toml"
    file.write_text(text)
    return load(AggregatorSettings, program="aggregator", config_path=file, environ={})


def test_a_whole_configuration(tmp_path: Path) -> None:
    """Every key is read."""
    text = (
        '[telemetry]\nurl = "http://vm:8428/api/v1/write"\ntenant = "7"\ntimeout = "10s"\n'
        '[retention]\nfull = "7d"\nfive_minutes = "90d"\nhours = "900d"\n'
    )
    settings = read(text, tmp_path)
    assert settings.telemetry.tenant == "7"
    assert settings.telemetry.timeout == timedelta(seconds=10)
    assert settings.retention.hours == timedelta(days=900)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[retention]\nfull = "90d"\nfive_minutes = "30d"\n', "each as long as the one before"),
        ('[retention]\nfull = "1h"\n', "a day and more"),
        ('[telemetry]\ntenant = "7"\n', "tenant belongs to an engine; set url too"),
        ('[telemetry]\nurl = "none"\ntoken_file = "/x"\n', "token_file belongs to an engine"),
        ("[telemetry]\nmemory = 8\n", "telemetry.memory"),
        ('[telemetry]\ntimeout = "0s"\n', "choose between 1s and 10m"),
        ('[telemetry]\nurll = "x"\n', "telemetry.urll"),
    ],
)
def test_what_cannot_be_meant_so(text: str, said: str, tmp_path: Path) -> None:
    """It is an error at the start."""
    with pytest.raises(ConfigError) as caught:
        read(text, tmp_path)
    assert said in " ".join(str(caught.value).split())
