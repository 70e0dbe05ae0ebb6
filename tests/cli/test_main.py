"""The table of commands, help, and wrong use."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wattkeeper.cli.main import COMMANDS, main


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """In groups, with examples, exit code 0."""
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, entry in COMMANDS.items():
        assert f"  {name}" in text
        assert entry.help in text
    assert "Examples:" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "usage:"),
        (["jbo"], "did you mean `job`?"),
        (["xyzzy"], "no such command"),
        (["jobs", "--usr", "x"], "--usr: unknown argument; did you mean --user?"),
        (["jobs", "--limit", "0"], "--limit: '0'"),
        (["jobs", "--limit"], "--limit: expected one argument"),
        (["jobs", "extra"], "extra: unknown argument"),
        (["report", "--format", "xml"], "--format"),
        (["balance", "--min-coverage", "2"], "--min-coverage"),
        (["config"], "ACTION"),
        (["config", "chek"], "chek"),
        (["config", "show", "--config", "/nowhere.toml"], "PROGRAM"),
        (["config", "show", "aggregator", "--config", "/nowhere.toml"], "no such file"),
        (["aggregator", "--ledger.slot", "7m"], "--ledger.slot: '7m' is not a slot length"),
        (["jobs", "--url", "aggregator:9746"], "http://HOST:9746"),
        (["trace", "1", "2"], "2: unknown argument"),
        (["export"], "--out"),
        (["export", "--out", "x.xlsx"], ".parquet nor in .csv"),
        (["export", "--out", "x.csv", "--metric", "watts"], "'watts' is none of power"),
        (["export", "--out", "x.csv", "--step", "soon"], "--step: 'soon' is not a duration"),
        (["export", "--out", "x.csv", "--step", "0.5s"], "--step: must be whole seconds"),
    ],
)
def test_wrong_use_is_2(args: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A short text on standard error that names what is wrong, nothing on standard output."""
    assert main(args) == 2
    captured = capsys.readouterr()
    assert (captured.out, says in captured.err) == ("", True), captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    "name", sorted({"job", "jobs", "report", "balance", "config", "trace", "export"})
)
def test_each_command_teaches(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` has examples and explains each flag."""
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: wattkeeper {name}" in text
    assert "Examples:" in text
    assert "<" not in text.replace("<lambda>", "<")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """One line."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("wattkeeper ")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_exists(name: str) -> None:
    """The table points at what is there."""
    entry = COMMANDS[name]
    module = importlib.import_module(f"wattkeeper.cli.{entry.module}")
    assert callable(getattr(module, entry.command).run)


def test_help_imports_nothing_heavy() -> None:
    """`wattkeeper --help` is quick: no pydantic, aiohttp, SQLAlchemy, rich."""
    code = (
        "import sys; from wattkeeper.cli.main import main; main(['--help']); "
        "print([m for m in ('pydantic', 'aiohttp', 'sqlalchemy', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_aggregator_without_its_extra(tmp_path: Path) -> None:
    """A node's installation has no database library: the fix is one command."""
    code = (
        "import sys; sys.modules['sqlalchemy'] = None; from wattkeeper.cli.main import main; "
        f"sys.exit(main(['aggregator', '--data-dir', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "pip install 'wattkeeper[aggregator]'" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr


def test_the_commands_that_ask_do_not_import_the_ledger() -> None:
    """A client needs no database library."""
    code = (
        "import sys; import wattkeeper.cli.job, wattkeeper.cli.jobs, wattkeeper.cli.report, "
        "wattkeeper.cli.balance, wattkeeper.cli.trace, wattkeeper.cli.export; "
        "print([m for m in ('sqlalchemy', 'alembic', 'pyarrow', 'duckdb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_reader_that_has_seen_enough_gets_no_no(form: str) -> None:
    """`| head` ends the program as SIGPIPE would: exit code 1 would say "no"."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "wattkeeper", "config", "show", "agent", "--format", form]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (141, b"") == (done.returncode, done.stderr)
