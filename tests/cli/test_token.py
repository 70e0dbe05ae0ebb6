"""`wattkeeper token`: secrets in files of their owner alone, hashes in the tokens file."""

import csv
import io
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import Outcome
from wattkeeper.aggregator.access import tokens
from wattkeeper.aggregator.access.tokens import AgentToken, ReaderToken, digest, read
from wattkeeper.cli.main import main

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let aggregator.toml name a tokens file in the test's folder."""
    monkeypatch.setattr("wattkeeper.settings.FOLDER", tmp_path)
    path = tmp_path / "tokens.toml"
    (tmp_path / "aggregator.toml").write_text(f'[access]\ntokens_file = "{path}"\n')
    return path


@pytest.fixture
def token(capsys: pytest.CaptureFixture[str]) -> "Token":
    """Run `wattkeeper token ARGS…`."""
    return Token(capsys)


class Token:
    """The command."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str) -> Outcome:
        """Run it."""
        self._capsys.readouterr()
        code = main(["token", *args])
        captured = self._capsys.readouterr()
        return Outcome(code, captured.out, captured.err)


def test_a_token_for_each_node(token: Token, place: Path, tmp_path: Path) -> None:
    """A file of mode 0600 a node; the tokens file has what belongs to each."""
    out = tmp_path / "out"
    args = ("agent", "--cluster", "west", "--nodes", "n[1-3]", "--out", str(out))
    assert 0 == token(*args, "--expires", "90d").code
    assert 0o700 == stat.S_IMODE(out.stat().st_mode)
    known = {one.sha256: one for one in read(place)}
    for node in ("n1", "n2", "n3"):
        assert 0o600 == stat.S_IMODE((out / node).stat().st_mode)
        found = known.pop(digest((out / node).read_text().strip()))
        assert isinstance(found, AgentToken)
        assert ("west", frozenset({node})) == (found.cluster, found.names)
        assert found.expires is not None
        assert timedelta(0) <= datetime.now(UTC) + timedelta(days=90) - found.expires
    assert not known
    assert stat.S_IMODE(place.stat().st_mode) == 0o644


def test_two_count_while_they_are_rotated(token: Token, place: Path, tmp_path: Path) -> None:
    """The new one is another; the old one counts until it is revoked, comments stay."""
    args = ("agent", "--cluster", "west", "--nodes", "*", "--out", str(tmp_path / "out"))
    token(*args)
    old = (tmp_path / "out" / "west").read_text().strip()
    place.write_text("# of ours\n" + place.read_text())
    place.chmod(0o640)
    token(*args)
    new = (tmp_path / "out" / "west").read_text().strip()
    names = {one.sha256: one.name for one in read(place)}
    assert {digest(old), digest(new)} == set(names)
    assert 0 == token("revoke", names[digest(old)]).code
    assert [digest(new)] == [one.sha256 for one in read(place)]
    assert place.read_text().startswith("# of ours\n# Tokens of")
    assert 0o640 == stat.S_IMODE(place.stat().st_mode)
    done = token("revoke", names[digest(old)])
    assert (2, True) == (done.code, "token list" in done.err)


def test_a_readers_token_is_told_once(token: Token, place: Path, tmp_path: Path) -> None:
    """On standard output alone, or in a file; never in the tokens file."""
    done = token("reader", "--role", "manager", "--user", "ann", "--accounts", "physics, chemistry")
    secret = done.out.strip()
    assert secret not in place.read_text() + done.err
    (found,) = read(place)
    assert isinstance(found, ReaderToken)
    assert ("ann", ("physics", "chemistry"), digest(secret)) == (
        found.user,
        found.accounts,
        found.sha256,
    )
    done = token("reader", "--role", "scraper", "--out", str(tmp_path / "secret"))
    assert "" == done.out
    assert digest((tmp_path / "secret").read_text().strip()) == read(place)[1].sha256


def test_list_says_what_counts(token: Token, place: Path) -> None:
    """In every format; what has expired stays in sight."""
    token("reader", "--role", "operator")
    token("reader", "--role", "user", "--user", "alice", "--expires", "1ms")
    token("proxy", "--expires", "3d")
    rows = json.loads(token("list", "--format", "json").out)
    assert ["counts", "expired", "ends soon"] == [row["state"] for row in rows]
    assert ["operator", "user alice", "users, manager at most"] == [row["for"] for row in rows]
    lines = list(csv.DictReader(io.StringIO(token("list", "--format", "csv").out)))
    assert [row["name"] for row in rows] == [line["name"] for line in lines]
    assert "expired" in token("list").out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("agent", "--cluster", "w", "--out", "x"), "--nodes is missing"),
        (("agent", "--cluster", "w", "--nodes", "n[1", "--out", "x"), "--nodes"),
        (("agent", "--cluster", "w", "--nodes", "../n", "--out", "x"), "cannot be the name"),
        (("agent", "--role", "user"), "--role is not for"),
        (("reader",), "--role is missing"),
        (("reader", "--role", "user"), "user is missing"),
        (("reader", "--role", "user", "--user", "a", "--accounts", "b"), "accounts belong"),
        (("proxy", "--role", "scraper"), "asks for users"),
        (("revoke",), "NAME is missing"),
        (("list", "some"), "NAME is not for"),
        (("list",), "cannot be read"),
    ],
)
def test_wrong_use(token: Token, place: Path, args: tuple[str, ...], said: str) -> None:
    """Each says what is wrong, and makes nothing."""
    done = token(*args)
    assert (2, "") == (done.code, done.out)
    assert said in done.err
    assert not place.exists()


def test_two_at_once(token: Token, place: Path) -> None:
    """The second one leaves the first one's work alone."""
    place.with_name("tokens.toml.new").touch()
    done = token("reader", "--role", "operator")
    assert (2, True) == (done.code, "is at work" in done.err)
    assert not place.exists()


def test_what_is_revoked_meanwhile_stays_so(
    token: Token, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads the file to write it anew has it already: nobody else changes it in between."""
    token("reader", "--role", "operator")
    (old,) = read(place)
    others: list[Outcome] = []

    def meanwhile(path: Path) -> list[tokens.Token]:
        monkeypatch.undo()
        others.append(token("revoke", old.name, "--tokens-file", str(path)))
        return read(path)

    monkeypatch.setattr("wattkeeper.cli.token_files.read", meanwhile)
    assert 0 == token("reader", "--role", "scraper", "--tokens-file", str(place)).code
    assert [(2, True)] == [(one.code, "is at work" in one.err) for one in others]
    assert 2 == len(read(place))
    assert 0 == token("revoke", old.name, "--tokens-file", str(place)).code
    assert 1 == len(read(place))
