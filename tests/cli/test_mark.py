"""`wattkeeper mark` never fails a job, and says what went wrong."""

from pathlib import Path

import pytest

from wattkeeper.cli.main import main


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an agent that is down, in the environment of a prolog."""
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("SLURM_JOB_GPUS", "0,1")
    return tmp_path


def test_the_mark_waits_for_an_agent_that_is_down(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is in the spool, and nothing is said."""
    assert 0 == main(["mark", "start", "--data-dir", str(data_dir)])
    assert 1 == len(list((data_dir / "marks").glob("*.json")))
    assert ("", "") == capsys.readouterr()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SLURM_JOB_ID", "", "SLURM_JOB_ID is not set"),
        ("SLURM_JOB_GPUS", "zz", "expected indices such as 0,1,2"),
        ("WATTKEEPER_AGENT_WINDOW", "7s", "must divide 5 minutes"),
    ],
)
def test_what_goes_wrong_is_said_and_fails_no_job(
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    message: str,
) -> None:
    """Slurm drains a node whose prolog fails; `--strict` is for trying it out."""
    monkeypatch.setenv(variable, value)
    assert 0 == main(["mark", "start", "--data-dir", str(data_dir)])
    assert message in capsys.readouterr().err
    assert 2 == main(["mark", "start", "--strict", "--data-dir", str(data_dir)])


def test_a_folder_where_no_agent_has_run_is_told(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mark there would wait for ever."""
    nowhere = data_dir / "nowhere"
    assert 0 == main(["mark", "start", "--data-dir", str(nowhere)])
    assert "no agent has run in" in capsys.readouterr().err
    assert not nowhere.exists()
