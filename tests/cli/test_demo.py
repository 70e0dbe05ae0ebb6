"""The demo shows the product at work, says everywhere that it is simulated, and ends in order."""

import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from wattkeeper.cli.command import CommandError
from wattkeeper.cli.demo import Demo


def test_ends_with_metered_energy_beside_the_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Books balance, jobs are compared, and one is asked for as a user would."""
    demo = Demo(
        nodes=2,
        gpus=2,
        speed=5_000,
        seed=2,
        duration=timedelta(minutes=4),
        listen="127.0.0.1:0",
        data_dir=tmp_path / "demo",
    )
    assert demo.run() == 0
    shown = capsys.readouterr().out
    assert "residual 0 µJ" in shown
    assert "SIMULATED jobs: metered energy beside the truth" in shown
    assert "exclusive GPUs, marks" in shown
    assert "$ wattkeeper job " in shown
    assert "$ wattkeeper trace " in shown
    assert "kW │" in shown or "W │" in shown
    assert "cluster simulated" in shown
    left = {part.name for part in (tmp_path / "demo").iterdir()}
    assert {"SIMULATED", "nodes", "aggregator", "truth.csv"} == left
    header, *rows = (tmp_path / "demo/truth.csv").read_text().splitlines()
    assert "job_id,how_it_was_seen,seconds,metered_uj,true_uj,error" == header
    assert rows


def test_never_empties_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    """A real ledger in the way is left alone, and the fix is named."""
    (tmp_path / "ledger.sqlite").write_text("real")
    with pytest.raises(CommandError, match="folder of its own"):
        Demo(data_dir=tmp_path, listen="127.0.0.1:0").run()
    assert (tmp_path / "ledger.sqlite").read_text() == "real"


def test_ctrl_c_ends_it_in_order(tmp_path: Path) -> None:
    """The program says what it has, closes its books and exits with 0."""
    command = [
        sys.executable, "-m", "wattkeeper", "demo", "--nodes", "1", "--gpus", "1",
        "--speed", "100", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "demo"),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline().startswith("SIMULATED")
        program.send_signal(signal.SIGINT)
        rest = program.stdout.read()
        assert program.wait(timeout=60) == 0
    assert "SIMULATED" in rest
