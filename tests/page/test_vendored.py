"""The charting library is the published one, byte by byte."""

import hashlib
import io
import os
import subprocess
import tarfile
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

FOLDER = resources.files("wattkeeper.aggregator.page") / "static" / "uplot"


def _noted() -> dict[str, Any]:
    return tomllib.loads((FOLDER / "VENDORED.toml").read_text())


def test_the_files_are_those_that_are_noted() -> None:
    """Each with its sum, and none beside them."""
    files: dict[str, str] = _noted()["files"]
    for path, digest in files.items():
        body = (FOLDER / path.rpartition("/")[2]).read_bytes()
        assert digest == hashlib.sha256(body).hexdigest(), path
    expected = {path.rpartition("/")[2] for path in files} | {"VENDORED.toml"}
    assert expected == {one.name for one in FOLDER.iterdir()}


@pytest.mark.skipif(
    "WATTKEEPER_TEST_NPM" not in os.environ, reason="asks npm; set WATTKEEPER_TEST_NPM=1"
)
def test_the_sums_are_those_of_the_package(tmp_path: Path) -> None:
    """As npm has it."""
    noted = _noted()
    package = f"{noted['name']}@{noted['version']}"
    run = subprocess.run(
        ["npm", "pack", "--silent", package], cwd=tmp_path, check=True, capture_output=True
    )
    archive = tmp_path / run.stdout.decode().strip()
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as packed:
        for path, digest in noted["files"].items():
            member = packed.extractfile(f"package/{path}")
            assert member is not None
            assert digest == hashlib.sha256(member.read()).hexdigest(), path
