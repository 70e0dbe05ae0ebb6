"""`wattkeeper migrate`: what it refuses, and what it says."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.postgresql.server import Server
from tests.telemetry.engines import victoria_metrics
from tests.telemetry.remote_stores import rows
from wattkeeper.aggregator.folder import hold
from wattkeeper.aggregator.stores import LedgerCursors
from wattkeeper.cli import migrate_history
from wattkeeper.cli.main import main
from wattkeeper.ledger import moving, schema
from wattkeeper.ledger.store import Ledger
from wattkeeper.telemetry.base import Cursor
from wattkeeper.telemetry.duck import DuckStore
from wattkeeper.telemetry.duck_options import DuckOptions
from wattkeeper.telemetry.remote import RemoteStore


@pytest.fixture(autouse=True)
def _no_machine_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wattkeeper.settings.FOLDER", tmp_path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with an empty ledger, as the aggregator is configured."""
    folder = tmp_path / "data"
    folder.mkdir()
    Ledger.open(folder / "ledger.sqlite").close()
    monkeypatch.setenv("WATTKEEPER_AGGREGATOR_DATA_DIR", str(folder))
    return folder


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """What to do before and after, and that it may be interrupted."""
    with pytest.raises(SystemExit):
        main(["migrate", "--help"])
    text = capsys.readouterr().out
    for part in ("Stop the aggregator", "goes on where it was", "exit code 0", "--again"):
        assert part in text


def test_without_a_new_ledger(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The configuration still has the file: the message says what to set."""
    assert main(["migrate"]) == 2
    assert "ledger.url: it is not set to a PostgreSQL" in capsys.readouterr().err


def test_without_an_old_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typo makes no empty ledger."""
    monkeypatch.setenv("WATTKEEPER_AGGREGATOR_LEDGER__URL", "postgresql://127.0.0.1:1/x")
    assert main(["migrate", "--source", str(folder / "other.sqlite")]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert not (folder / "other.sqlite").exists()
    assert main(["migrate"]) == 2
    assert "cannot open postgresql+psycopg://127.0.0.1:1/x" in capsys.readouterr().err


def test_an_aggregator_that_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the old ledger: its folder is held."""
    monkeypatch.setenv("WATTKEEPER_AGGREGATOR_LEDGER__URL", "postgresql://127.0.0.1:1/x")
    lock = hold(folder)
    assert main(["migrate"]) == 2
    os.close(lock)
    assert "another aggregator is using" in capsys.readouterr().err


@pytest.mark.postgresql
def test_exit_1_where_both_differ(
    folder: Path,
    server: Server,
    new_url: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The new ledger stays closed to aggregators; begun again, both are the same."""
    monkeypatch.setenv("WATTKEEPER_AGGREGATOR_LEDGER__URL", new_url())
    old = Ledger.open(folder / "ledger.sqlite")
    with old.writing() as connection:
        row = {"meter": 1, "from_ms": 0, "to_ms": 5, "uj": 7, "reason": "x"}
        connection.execute(sa.insert(schema.gap).values(row))
    old.close()
    copy = moving.copy

    def wrong(source: Ledger, target: Ledger, told: moving.Told) -> None:
        copy(source, target, told)
        with target.writing() as connection:
            connection.execute(sa.text("UPDATE gap SET uj = 8"))

    with monkeypatch.context() as patch:
        patch.setattr(moving, "copy", wrong)
        assert main(["migrate"]) == 1
    text = capsys.readouterr().err
    assert "gap: 1 rows before, 1 now, and others" in text
    assert "run it again with --again" in text
    assert main(["migrate"]) == 1
    assert main(["migrate", "--again"]) == 0
    assert "1 rows in " in capsys.readouterr().out


@pytest.mark.engines
@pytest.mark.postgresql
def test_the_history_goes_to_an_engine(
    folder: Path,
    new_url: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Carried and proved; where the engine lacks some, both stay closed and it is said what."""
    held = rows(*range(30), *range(8_640, 8_650))
    with closing(DuckStore(folder / "telemetry", DuckOptions(free_bytes=0))) as store:
        store.write(held, {"j": Cursor(7, b"h" * 16)})
    url = new_url()
    monkeypatch.setenv("WATTKEEPER_AGGREGATOR_LEDGER__URL", url)
    (folder / "engine").mkdir()
    with victoria_metrics(folder / "engine") as engine:
        monkeypatch.setenv("WATTKEEPER_AGGREGATOR_TELEMETRY__URL", engine.write_url)
        with monkeypatch.context() as patch:
            patch.setattr(RemoteStore, "write", lambda *_: None)
            patch.setattr(migrate_history, "_PATIENCE_S", 0)
            assert main(["migrate"]) == 1
        told = capsys.readouterr()
        assert "J here, 0.000 J in the engine" in told.err
        assert "remove carried.json" in told.err
        assert "Start the aggregator" not in told.out
        (folder / "telemetry" / "carried.json").unlink()
        assert main(["migrate"]) == 0
        out = capsys.readouterr().out
        assert "on each of 2 days of history is the same" in out
        assert "Start the aggregator" in out
    with closing(Ledger.open(url)) as ledger:
        assert LedgerCursors(ledger).read() == {"j": Cursor(7, b"h" * 16)}
