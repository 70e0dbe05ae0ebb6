"""Prolog and epilog: they mark, and they never fail a job."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.programs import until

SCRIPTS = Path(__file__).parents[2] / "deploy/slurm"
SLACK_S = 2.0
"""For a busy machine: the scripts bound how long they wait, not when they are run."""
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
def test_they_wait_a_second_at_most(tmp_path: Path, script: str) -> None:
    """What hangs for longer, as a mark does on a dead disk, goes on without the job."""
    pipe, made = tmp_path / "pipe", tmp_path / "made"
    os.mkfifo(pipe)
    hangs = program(tmp_path, f"trap '' TERM HUP; read -r line <{pipe}; echo \"$line\" >{made}")
    began_s = time.monotonic()
    assert 0 == run(script, hangs)
    assert 1 <= time.monotonic() - began_s < 1 + SLACK_S
    pipe.write_text("after all\n")
    until("the mark is made", lambda: made.exists() and made.read_text())
    assert "after all\n" == made.read_text()


@pytest.mark.parametrize("script", NAMES)
def test_a_hung_syslog_is_not_waited_for(tmp_path: Path, script: str) -> None:
    """Nor is one whose reader has gone."""
    for name in ("setsid", "sh", "timeout", "tail"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    logger = tmp_path / "logger"
    logger.write_text("#!/bin/sh\nexec sleep 5\n")
    logger.chmod(0o755)
    (tmp_path / "sleep").symlink_to(shutil.which("sleep") or "")
    began_s = time.monotonic()
    assert 0 == run(script, program(tmp_path, "echo said"), PATH=str(tmp_path))
    assert time.monotonic() - began_s < 1 + SLACK_S


def test_they_ask_slurm_nothing() -> None:
    """Slurm's commands in a prolog make a busy slurmctld busier; AdminComment is the site's."""
    words = {"scontrol", "squeue", "sacct", "sacctmgr", "srun", "AdminComment"}
    for script in SCRIPTS.glob("*.sh"):
        assert not words & set(re.findall(r"\w+", script.read_text()))


def test_a_gpu_is_let_go_of_before_its_reset(tmp_path: Path) -> None:
    """Each GPU by its UUID; one that cannot be reset keeps neither the next nor the node."""
    calls = tmp_path / "calls"
    wattkeeper = program(tmp_path, f'echo "wattkeeper $*" >>{calls}')
    smi = tmp_path / "smi"
    query = "--id=2,3 --query-gpu=uuid --format=csv,noheader"
    smi.write_text(
        f"#!/bin/sh\n[ \"$*\" = '{query}' ] && echo GPU-a && echo GPU-b && exit\n"
        f'echo "smi $*" >>{calls}; exit 3\n'
    )
    smi.chmod(0o755)
    assert 0 == run("reset-gpus.sh", wattkeeper, SLURM_JOB_GPUS="2,3", SMI=str(smi))
    assert [
        "wattkeeper release --gpu GPU-a --for 1m", "smi --gpu-reset --id=GPU-a",
        "wattkeeper release --gpu GPU-b --for 1m", "smi --gpu-reset --id=GPU-b",
    ] == calls.read_text().splitlines()  # fmt: skip


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
