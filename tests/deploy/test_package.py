"""The wheel as it is installed: outside the checkout, without a network, with what was locked."""

import hashlib
import os
import platform
import re
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.programs import ROOT, Program, fetch, free_port, until
from wattkeeper import __version__

# One worker builds the wheelhouse and installs from it.
pytestmark = [pytest.mark.index, pytest.mark.xdist_group("package")]

_CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("WATTKEEPER", "PYTHON", "PIP_", "VIRTUAL_ENV"))
}


def run(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run a program outside the checkout."""
    return subprocess.run(
        command, cwd="/", env=_CLEAN, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build one for this Python and machine."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    built = subprocess.run(
        [sys.executable, ROOT / "deploy/wheelhouse.py", folder,
         "--python", here, "--machine", platform.machine()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if built.returncode:
        pytest.skip(f"no wheels to be had: {built.stderr[-500:]}")
    return folder


class Installation:
    """A new environment in a folder of its own."""

    def __init__(self, folder: Path, wheelhouse: Path) -> None:
        self.folder, self.wheelhouse = folder, wheelhouse
        made = run(sys.executable, "-m", "venv", "--without-pip", folder)
        assert made.returncode == 0, made.stderr

    def add(self, requirement: str) -> None:
        """Install it, with nothing but the wheelhouse to take from."""
        done = run(
            sys.executable, "-m", "pip", "--python", self.folder / "bin/python",
            "install", "--quiet", "--no-index", "--no-compile", "--disable-pip-version-check",
            "--find-links", self.wheelhouse, requirement,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def wattkeeper(self, *args: str) -> "subprocess.CompletedProcess[str]":
        """Run the installed command."""
        return run(self.folder / "bin/wattkeeper", *args)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory, wheelhouse: Path) -> Installation:
    """Install what a node needs."""
    installation = Installation(tmp_path_factory.mktemp("node") / "venv", wheelhouse)
    installation.add("wattkeeper")
    return installation


@pytest.fixture(scope="session")
def centre(tmp_path_factory: pytest.TempPathFactory, wheelhouse: Path) -> Installation:
    """Install what an aggregator needs."""
    installation = Installation(tmp_path_factory.mktemp("centre") / "venv", wheelhouse)
    installation.add("wattkeeper[aggregator]")
    return installation


def test_the_wheelhouse_is_whole(wheelhouse: Path) -> None:
    """Every file has its checksum, and every locked package its wheel."""
    lines = (wheelhouse / "SHA256SUMS").read_text().splitlines()
    said = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = [file for file in wheelhouse.iterdir() if file.name != "SHA256SUMS"]
    assert said == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    locked = re.findall(
        r"^([a-z0-9-]+)==", (wheelhouse / "requirements.txt").read_text(), re.MULTILINE
    )
    wheels = {name.partition("-")[0].replace("_", "-").lower() for name in said}
    assert {*locked, "wattkeeper", "requirements.txt"} == wheels


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    """Wheels of two releases never get mixed."""
    (tmp_path / "old.whl").touch()
    script = ROOT / "deploy/wheelhouse.py"
    done = run(sys.executable, script, tmp_path)
    assert (1, True) == (done.returncode, "is not empty" in done.stderr)
    assert ["old.whl"] == [file.name for file in tmp_path.iterdir()]


def test_the_version_is_one(node: Installation) -> None:
    """Project file, package and command say the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert f"wattkeeper {__version__}\n" == node.wattkeeper("--version").stdout


def test_a_node_carries_no_centre(node: Installation) -> None:
    """Without the extra, the agent's commands work, and the others say what to install."""
    doctor = node.wattkeeper("doctor", "--format", "json")
    assert (True, "") == (doctor.returncode in {0, 1}, doctor.stderr)
    listed = run(node.folder / "bin/python", "-m", "pip", "list", "--format", "freeze").stdout
    assert not re.search(
        "^(duckdb|sqlalchemy|numpy|pyarrow|jinja2|alembic|grpclib)=", listed, re.MULTILINE
    )
    aggregator = node.wattkeeper("aggregator")
    assert 2 == aggregator.returncode
    assert "pip install 'wattkeeper[aggregator]'" in aggregator.stderr


def test_scripts_come_with_it(node: Installation) -> None:
    """What belongs into the folders of other programs lies beside the version that it is of."""
    for file in (
        path for part in ("slurm", "systemd") for path in (ROOT / "deploy" / part).iterdir()
    ):
        installed = node.folder / "share/wattkeeper" / file.parent.name / file.name
        assert file.read_bytes() == installed.read_bytes()
        assert (file.suffix == ".sh") == bool(installed.stat().st_mode & stat.S_IXUSR)


@pytest.fixture
def demo(centre: Installation, tmp_path: Path) -> Iterator[str]:
    """Let the installed fleet run; give the address of its aggregator."""
    port = free_port()
    program = Program(
        ["demo", "--nodes", "1", "--gpus", "1",
         "--listen", f"127.0.0.1:{port}", "--data-dir", str(tmp_path / "demo")],
        _CLEAN, tmp_path / "demo.log", centre.folder / "bin/python",
    )  # fmt: skip
    yield f"http://127.0.0.1:{port}"
    program.kill()


def test_the_installed_fleet_runs(demo: str) -> None:
    """Migrations, templates and static files are inside: books, page and style are answered."""

    def page() -> str | None:
        try:
            return fetch(f"{demo}/")
        except OSError:
            return None

    html = until("the page answers", page)
    assets = re.findall(r'(?:href|src)="(/static/[^"]+)"', html)
    assert {".css", ".js"} <= {Path(asset.partition("?")[0]).suffix for asset in assets}
    assert all(fetch(f"{demo}{asset}") for asset in assets)
