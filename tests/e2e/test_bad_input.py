"""At the programs' edge: exit code 2 and a message that names the field and the fix."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.programs import Site, until

PROGRAMS = ["agent", "aggregator"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Prepare folders and ports; there is no NVML library on this site."""
    site = Site(tmp_path, tmp_path / "none/libnvidia-ml.so.1", tmp_path / "none.state")
    yield site
    site.close()


def refused(site: Site, *args: str, **environ: str) -> str:
    """Run a command that must refuse, and return what it says."""
    done = site.cli(*args, **environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_unknown_key_in_the_file(site: Site, program: str) -> None:
    """A misspelt key names the file and the key that was meant."""
    file = site.folder / "my.toml"
    file.write_text('data_dri = "/tmp/x"\n')
    said = refused(site, program, "--config", str(file))
    assert f"{file}: data_dri: unknown key; did you mean data_dir?" in said


@pytest.mark.parametrize("program", PROGRAMS)
def test_unknown_variable(site: Site, program: str) -> None:
    """A misspelt variable is not ignored."""
    name = f"WATTKEEPER_{program.upper()}_LISTN"
    said = refused(site, program, **{name: "127.0.0.1:1"})
    assert f"{name}: unknown key; did you mean WATTKEEPER_{program.upper()}_LISTEN?" in said


@pytest.mark.parametrize("program", PROGRAMS)
def test_unknown_flag(site: Site, program: str) -> None:
    """A misspelt flag names the nearest."""
    said = refused(site, program, "--data-dirr", "/tmp/x")
    assert "--data-dirr: unknown argument; did you mean --data-dir?" in said


@pytest.mark.parametrize("program", PROGRAMS)
def test_port_in_use(site: Site, program: str) -> None:
    """A taken port names the key, the address and what to do."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        said = refused(site, program, "--listen", address, "--data-dir", str(site.folder / "data"))
    assert f"listen: {address}" in said
    assert "choose another" in said.lower()


@pytest.mark.parametrize("program", PROGRAMS)
def test_data_dir_that_cannot_be_made(site: Site, program: str) -> None:
    """A folder below a file can be made by nobody, not even by root."""
    (site.folder / "file").write_text("")
    folder = site.folder / "file/data"
    said = refused(site, program, "--data-dir", str(folder), "--listen", "127.0.0.1:0")
    assert f"{folder}" in said
    assert "data_dir: " in said


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("agent", "--sample-interval", "5"), "--sample-interval"),
        (("agent", "--window", "7s"), "must divide 5 minutes"),
        (("agent", "--listen", "nowhere"), "--listen"),
        (("agent", "--aggregator.url", "aggregator:9746"), "--aggregator.url"),
        (("aggregator", "--ledger.slot", "7m"), "choose one of 5m, 15m, 30m, 1h"),
    ],
)
def test_value_that_cannot_be(site: Site, args: tuple[str, ...], says: str) -> None:
    """A value out of range names its flag and what is allowed."""
    assert says in refused(site, *args, "--data-dir", str(site.folder / "data"))


def test_two_agents_in_one_data_dir(site: Site) -> None:
    """The second agent is told whose folder it is; the first goes on."""
    first = site.agent(delivers=False)
    until("the first is up", site.samples)
    said = refused(site, "agent", "--data-dir", str(site.agent_dir), "--listen", "127.0.0.1:0")
    assert f"data_dir: another agent is running in {site.agent_dir}" in said
    assert site.samples() is not None
    assert first.stop() == 0


def test_two_aggregators_in_one_data_dir(site: Site) -> None:
    """Two programs never write one ledger."""
    first = site.aggregator()
    until("the first is up", lambda: site.ask("/v1/fleet"))
    said = refused(
        site, "aggregator", "--data-dir", str(site.aggregator_dir), "--listen", "127.0.0.1:0"
    )
    assert "data_dir: " in said
    assert str(site.aggregator_dir) in said
    assert first.stop() == 0
