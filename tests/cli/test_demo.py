"""The demo shows the product at work, says everywhere that it is simulated, and ends in order."""

import json
import re
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.e2e.programs import fetch, free_port, until
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


def test_agents_answer_prometheus(tmp_path: Path) -> None:
    """With `--agents` the aggregator lists each agent, and it can be scraped there."""
    centre, agents = free_port(), free_port()
    command = [
        sys.executable, "-m", "wattkeeper", "demo", "--nodes", "1", "--gpus", "1", "--speed", "20",
        "--listen", f"127.0.0.1:{centre}", "--agents", f"127.0.0.1:{agents}",
        "--data-dir", str(tmp_path / "demo"),
    ]  # fmt: skip

    def targets() -> list[str] | None:
        try:
            listed = json.loads(fetch(f"http://127.0.0.1:{centre}/v1/prometheus/targets"))
        except OSError:
            return None
        return [target for one in listed for target in one["targets"]] or None

    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as program:
        try:
            assert [f"127.0.0.1:{agents}"] == until("the agent is listed", targets)
            exposed = fetch(f"http://127.0.0.1:{agents}/metrics")
        finally:
            program.send_signal(signal.SIGINT)
        assert program.wait(30) == 0
    assert re.search(r'wattkeeper_gpu_temperature_celsius{.*node="sim001"', exposed)
