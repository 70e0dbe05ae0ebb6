"""`wattkeeper mark` never fails a job, and says what went wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wattkeeper.cli import mark
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
        ("SLURM_JOB_GPUS", "zz", "is no list of indices such as 0,1,2"),
        ("WATTKEEPER_AGENT_PATH__PROCFS", "/nowhere", "it holds no boot id"),
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


def test_the_agents_own_configuration_says_where(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is read, the environment is stronger, and GPUs may be named outright."""
    folder = data_dir / "etc"
    folder.mkdir()
    (folder / "agent.toml").write_text(f'data_dir = "{data_dir}"\n[path]\nprocfs = "/proc"\n')
    monkeypatch.setattr(mark, "FOLDER", folder)
    assert 0 == main(["mark", "start", "--strict", "--gpu", "GPU-a,GPU-b", "--gpu", "GPU-c"])
    (file,) = (data_dir / "marks").glob("*.json")
    assert ["GPU-a", "GPU-b", "GPU-c"] == json.loads(file.read_text())["uuids"]
    monkeypatch.setenv("WATTKEEPER_AGENT_DATA_DIR", str(data_dir / "elsewhere"))
    assert 2 == main(["mark", "end", "--strict"])
    monkeypatch.delenv("WATTKEEPER_AGENT_DATA_DIR")
    (folder / "agent.toml").write_text("data_dir = ")
    assert 2 == main(["mark", "end", "--strict"])


def test_wrong_use(data_dir: Path) -> None:
    """A flag that does not exist is wrong use."""
    with pytest.raises(SystemExit) as left:
        main(["mark", "begin", "--data-dir", str(data_dir)])
    assert 2 == left.value.code


def test_a_mark_imports_little() -> None:
    """Every job waits for it twice: no pydantic, no asynchronous HTTP, no tables."""
    code = (
        "import sys; from wattkeeper.cli.main import main; main(['mark', 'end']); "
        "print([m for m in ('pydantic', 'aiohttp', 'rich', 'prometheus_client') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.splitlines()[-1]
