"""`wattkeeper config`."""

import json
import re
from pathlib import Path

import pytest

from wattkeeper.aggregator.config import AggregatorSettings, LedgerSection
from wattkeeper.cli.main import main
from wattkeeper.flags import ConfigError


@pytest.fixture(autouse=True)
def _no_machine_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wattkeeper.settings.FOLDER", tmp_path)
    monkeypatch.setattr("wattkeeper.cli.config.FOLDER", tmp_path)


def test_show_says_where_each_value_is_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """File, variable and default, and the token masked."""
    (tmp_path / "aggregator.toml").write_text('listen = ":1"\ntoken = "s3cret"\n')
    monkeypatch.setenv("WATTKEEPER_AGGREGATOR_LEDGER__SLOT", "30m")
    assert main(["config", "show", "aggregator", "--format", "json"]) == 0
    text = capsys.readouterr().out
    rows = {row["key"]: row for row in json.loads(text)}
    assert (":1", str(tmp_path / "aggregator.toml")) == (
        rows["listen"]["value"],
        rows["listen"]["origin"],
    )
    assert (
        rows["ledger.slot"]["value"],
        rows["ledger.slot"]["origin"],
    ) == ("30m", "WATTKEEPER_AGGREGATOR_LEDGER__SLOT")
    assert rows["commit_interval"]["origin"] == "default"
    assert "s3cret" not in text


def test_check_names_constants(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To change one would change closed periods; a fallback is none."""
    path = tmp_path / "aggregator.toml"
    path.write_text(
        '[factors.price]\nvalue = 0.2\nunit = "EUR/kWh"\n'
        '[factors.carbon]\nvalue = 400\nfile = "c.csv"\n',
        "utf-8",
    )
    assert main(["config", "check", "aggregator"]) == 0
    _, remark, *more = capsys.readouterr().out.splitlines()
    assert remark.startswith("aggregator: factors.price.value counts at all times")
    assert not more


@pytest.mark.parametrize(
    "url", ["postgresql://ann:s3cret@db/books", "postgresql://ann@db/books?password=s3cret"]
)
def test_the_password_of_a_database_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    """Neither by `show` nor where the URL is wrong."""
    monkeypatch.setenv("WATTKEEPER_AGGREGATOR_LEDGER__URL", url)
    assert main(["config", "show", "aggregator", "--format", "json"]) == 0
    rows = {row["key"]: row["value"] for row in json.loads(capsys.readouterr().out)}
    assert rows["ledger.url"] == url.replace("s3cret", "***")
    monkeypatch.setenv("WATTKEEPER_AGGREGATOR_LEDGER__URL", url.replace("postgresql", "mysql"))
    assert main(["config", "check", "aggregator"]) == 2
    text = capsys.readouterr().err
    assert "is no database for a ledger" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file"),
        ("host=db", "holds no URL like postgresql://"),
        (b"\xff\xfe", "cannot be read (no text)"),
    ],
)
def test_a_file_with_the_url_of_the_ledger(
    tmp_path: Path, content: str | bytes | None, message: str
) -> None:
    """It is read at the start, and what is wrong with it is said without what is in it."""
    path = tmp_path / "url"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    chosen = AggregatorSettings(ledger=LedgerSection(url_file=path))
    with pytest.raises(ConfigError, match=re.escape(message)):
        chosen.ledger_url()
    path.write_text(" postgresql://db/books\n")
    assert chosen.ledger_url() == "postgresql://db/books"
    with pytest.raises(ValueError, match="choose one"):
        LedgerSection(url_file=path, url="sqlite:///x")


@pytest.mark.parametrize("form", ["table", "csv"])
def test_show_both_programs(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a program it is both."""
    assert main(["config", "show", "--format", form]) == 0
    text = capsys.readouterr().out
    for part in ("sample_interval", "takeover_after", "127.0.0.1:9745", "127.0.0.1:9746"):
        assert part in text


def test_check_finds_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and the key; 0 once it is right."""
    path = tmp_path / "agent.toml"
    path.write_text('sample_intervall = "1s"\n')
    assert main(["config", "check"]) == 2
    assert "sample_intervall: unknown key; did you mean sample_interval?" in (
        capsys.readouterr().err
    )
    path.write_text('sample_interval = "1s"\n')
    assert main(["config", "check"]) == 0
    assert str(path) in capsys.readouterr().out


def test_check_of_a_given_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--config` beats /etc."""
    path = tmp_path / "mine.toml"
    path.write_text("groups = 3\n")
    assert main(["config", "check", "aggregator", "--config", str(path)]) == 2
    assert f"{path}: groups: 3" in capsys.readouterr().err
