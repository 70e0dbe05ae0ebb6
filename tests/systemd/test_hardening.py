"""What can be said of the units without starting them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.programs import ROOT

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)

UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
EXPOSURE = {"wattkeeper-agent": 2.5, "wattkeeper-aggregator": 1.4, "wattkeeper-relay": 1.4}
"""What `systemd-analyze security` says, from 0 (can do nothing) to 10 (can do everything)."""
SINCE = {
    "ProtectHostname": 242, "RestrictSUIDSGID": 242, "ProtectKernelLogs": 244, "ProtectClock": 245,
    "ProtectProc": 247,
}  # fmt: skip
"""Settings that came after systemd 239, which skips them."""


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_exposure(unit: Path) -> None:
    """No worse than docs/operations.md says."""
    threshold = EXPOSURE[unit.stem]
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager",
         f"--threshold={round(threshold * 10)}", unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout
    assert f"| `{unit.stem}` | {threshold} |" in (ROOT / "docs/operations.md").read_text()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_every_line_is_explained(unit: Path) -> None:
    """Each setting stands below a comment, and one that came after 239 says since when."""
    comment: list[str] = []
    explained = True
    for line in unit.read_text().splitlines():
        if line.startswith("#"):
            comment = [line] if explained else [*comment, line]
            explained = False
        elif not line or line.startswith("["):
            comment, explained = [], True
        elif not line.startswith(("Description=", "WantedBy=")):
            explained = True
            assert comment, f"{line}: why?"
            since = SINCE.get(line.partition("=")[0])
            assert since is None or f"since {since}" in " ".join(comment), line
