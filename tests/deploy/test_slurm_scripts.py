"""Prolog and epilog: they mark, and they never fail a job."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "deploy/slurm"
NAMES = {"prolog.sh": "start", "epilog.sh": "end"}


def run(script: str, program: Path, **environ: str) -> int:
    """Run a script as slurmd does: with next to nothing in its environment."""
    given = {"PATH": "/usr/bin:/bin", "WATTKEEPER": str(program), "SLURM_JOB_ID": "7", **environ}
    return subprocess.run([SCRIPTS / script], env=given, check=False).returncode


def program(tmp_path: Path, text: str) -> Path:
    """Make a program to be called instead of wattkeeper."""
    file = tmp_path / "program"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


@pytest.mark.parametrize("script", NAMES)
def test_they_mark(tmp_path: Path, script: str) -> None:
    """The real command is called, and its mark lies in the spool."""
    call = program(tmp_path, f'exec {sys.executable} -m wattkeeper "$@"')
    daemon = str(Path(__file__).parents[2] / "daemon")
    environ = {"PYTHONPATH": daemon, "WATTKEEPER_AGENT_DATA_DIR": str(tmp_path)}
    assert 0 == run(script, call, SLURM_JOB_GPUS="0,1", **environ)
    (mark,) = (tmp_path / "marks").glob("*.json")
    said = json.loads(mark.read_text())
    assert (NAMES[script], "7", [0, 1]) == (said["kind"], said["raw_id"], said["gpus"])


@pytest.mark.parametrize("script", NAMES)
@pytest.mark.parametrize("text", ["exit 2", "kill -9 $$", "echo trouble >&2; exit 1"])
def test_they_never_fail(tmp_path: Path, script: str, text: str) -> None:
    """Slurm drains a node whose prolog fails."""
    assert 0 == run(script, program(tmp_path, text))


@pytest.mark.parametrize("script", NAMES)
def test_they_do_not_need_wattkeeper(tmp_path: Path, script: str) -> None:
    """A node where it is not installed yet runs its jobs."""
    assert 0 == run(script, tmp_path / "nothing")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck() -> None:
    """No warning of any kind."""
    done = subprocess.run(
        ["shellcheck", *sorted(SCRIPTS.glob("*.sh"))], capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stdout)
