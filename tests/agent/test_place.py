"""Bad configuration and bad places: a message that names the field and the fix."""

import os
from pathlib import Path

import pytest

from wattkeeper.agent.config import AgentSettings
from wattkeeper.agent.place import claim, file_system, look
from wattkeeper.model.state import State
from wattkeeper.settings import ConfigError, load


def settings(text: str, tmp_path: Path, environ: dict[str, str] | None = None) -> AgentSettings:
    """Load a configuration file and an environment."""
    path = tmp_path / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return load(AgentSettings, program="agent", config_path=path, environ=environ or {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('sample_intervall = "1s"', r"sample_intervall: unknown key; .*sample_interval"),
        ('[aggregator]\nurll = "http://x"', r"aggregator.urll: unknown key; .*url"),
        ('sample_interval = "5"', r"sample_interval: '5' is not a duration; .*10s"),
        ("sample_interval = 5", r"sample_interval: 5 is not a duration"),
        ('sample_interval = "5 parsecs"', r"sample_interval: .*is not a duration"),
        ('sample_interval = "10ms"', r"sample_interval: '10ms' is out of range; .*100ms and 60s"),
        ('sample_interval = "2m"', r"sample_interval: '2m' is out of range"),
        ('window = "7s"', r"window: '7s' must divide 5 minutes"),
        ('window = "0s"', r"window: '0s' must divide 5 minutes"),
        ('window = "500ms"', r"window: '500ms' must divide 5 minutes"),
        ('sample_interval = "30s"\nwindow = "10s"', r"sample_interval \(30s\) is longer than"),
        ('listen = "9745"', r"listen: '9745' is not an address"),
        ('listen = "127.0.0.1:99999"', r"listen: .*is not an address"),
        ('node = ""', r"node: "),
        ("max_holders = 0", r"max_holders: 0 "),
        ("[journal]\nmax_bytes = 5", r"journal.max_bytes: 5 "),
        ('[aggregator]\nurl = "ftp://x"', r"aggregator.url: "),
        ("listen = ", r"cannot be read as TOML"),
    ],
)
def test_bad_values_name_the_field(text: str, message: str, tmp_path: Path) -> None:
    """Every bad input of the file is told with its key and what to do."""
    with pytest.raises(ConfigError, match=message):
        settings(text, tmp_path)


def test_an_unknown_variable_is_an_error_but_not_what_kubernetes_injects(tmp_path: Path) -> None:
    """A misspelt variable would otherwise be ignored without a word."""
    with pytest.raises(ConfigError, match=r"WATTKEEPER_AGENT_WINDOWW: unknown key"):
        settings("", tmp_path, {"WATTKEEPER_AGENT_WINDOWW": "10s"})
    injected = {
        "WATTKEEPER_AGENT_SERVICE_HOST": "10.0.0.1",
        "WATTKEEPER_AGENT_PORT": "tcp://10.0.0.1:9745",
        "WATTKEEPER_AGENT_PORT_9745_TCP_ADDR": "10.0.0.1",
        "WATTKEEPER_AGENT_WINDOW": "30s",
    }
    assert settings('window = "10s"', tmp_path, injected).window.total_seconds() == 30


def mounts(tmp_path: Path, *lines: str) -> Path:
    """Return a procfs with these mounts."""
    procfs = tmp_path / "proc"
    (procfs / "self").mkdir(parents=True)
    (procfs / "self/mounts").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return procfs


def test_a_network_disk_is_refused_and_a_volatile_one_is_told(tmp_path: Path) -> None:
    """The nearest mount decides, also one with a space in its name, and the later of two."""
    data = tmp_path / "a disk"
    data.mkdir()
    escaped = str(data).replace(" ", "\\040")
    procfs = mounts(
        tmp_path, "/dev/sda / ext4 rw 0 0", f"none {escaped} tmpfs rw 0 0",
        f"server:/x {escaped} nfs4 rw 0 0",
    )  # fmt: skip
    assert file_system(data / "not/yet", procfs) == "nfs4"
    assert look(data, procfs).state is State.FAILING
    with (
        pytest.raises(ConfigError, match=r"data_dir: .* is on nfs4, .*; set data_dir to .* local"),
        claim(data / "journal", procfs),
    ):
        pass
    assert not (data / "journal").exists()
    assert look(tmp_path, procfs).state is State.OK
    assert look(tmp_path, tmp_path / "nothing").state is State.OK


def test_a_folder_in_a_file_cannot_be_written(tmp_path: Path) -> None:
    """The reason and the remedy, no traceback."""
    (tmp_path / "file").write_text("")
    procfs = mounts(tmp_path, "/dev/sda / ext4 rw 0 0")
    with (
        pytest.raises(ConfigError, match=r"data_dir: cannot write .*Not a directory; set data_dir"),
        claim(tmp_path / "file/below", procfs),
    ):
        pass


def test_a_second_agent_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    """One journal, one agent; the folder is free again afterwards."""
    procfs = mounts(tmp_path, "/dev/sda / ext4 rw 0 0")
    data = tmp_path / "data"
    with claim(data, procfs):
        assert data.stat().st_mode & 0o777 == 0o700
        assert str(os.getpid()) in (data / "agent.lock").read_text()
        with (
            pytest.raises(ConfigError, match="another agent is running"),
            claim(data, procfs),
        ):
            pass
    with claim(data, procfs):
        pass


def test_a_folder_too_long_for_the_control_socket_is_refused(tmp_path: Path) -> None:
    """The kernel's limit would otherwise show as a bare OSError."""
    with (
        pytest.raises(ConfigError, match=r"data_dir: .* is too long for the control socket"),
        claim(tmp_path / ("x" * 108), Path("/proc")),
    ):
        pass
