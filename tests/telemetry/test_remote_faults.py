"""An engine that answers badly, for long: a clear state, nothing lost, nothing twice."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.telemetry.fake_engine import FakeEngine, Say, fake_engine
from tests.telemetry.remote_stores import remote_store, row, rows

from wattkeeper.model.state import State
from wattkeeper.telemetry import remote_write
from wattkeeper.telemetry.base import Cursor, TelemetryError
from wattkeeper.telemetry.remote import RemoteStore
from wattkeeper.telemetry.remote_http import Endpoint
from wattkeeper.telemetry.remote_options import RemoteOptions
from wattkeeper.telemetry.remote_send import Refusal, Sender
from wattkeeper.telemetry.remote_wire import encode

_QUICK: dict[str, Any] = {"timeout_s": 1, "patience_s": 0.2, "batch_rows": 2}
_NO_ROWS = encode(())
_FAULTS = {
    "400": (Say(400, b"snappy: corrupt input"), "corrupt input; is telemetry.url"),
    "401": (Say(401), "token"),
    "403": (Say(403, b"no"), "may not write"),
    "404": (Say(404, b"404 page not found"), "--web.enable-remote-write-receiver"),
    "302": (Say(302, headers={"Location": "/login"}), "/login"),
    "page": (Say(200, b"<html>It works!</html>"), "It works!"),
    "429": (Say(429, b"slowly", {"Retry-After": "30"}), "slowly"),
    "500": (Say(500, b"no leader"), "no leader"),
    "503": (Say(503), "HTTP 503"),
    "hangs": (Say(hangs=True), "does not answer within 1 s"),
}


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """Return a fake engine."""
    with fake_engine() as running:
        yield running


def _failing(store: RemoteStore) -> list[str]:
    return [f"{f.subject}: {f.detail}" for f in store.findings() if f.state is not State.OK]


@pytest.mark.parametrize("fault", _FAULTS)
def test_a_fault_that_lasts(
    engine: FakeEngine, tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line in the log, a finding with what to do, cursors that stay; then all of it, once."""
    say, words = _FAULTS[fault]
    caplog.set_level(logging.INFO)
    with remote_store(engine.write_url, tmp_path, **_QUICK) as store:
        store.write(rows(0), {"j": Cursor(1, b"1")})
        engine.say.append(Say(takes=True))  # the first batch gets through
        engine.always = say
        waiting = rows(*range(1, 8))
        for last in (4, 6, 7):
            with pytest.raises(TelemetryError, match="http"):
                store.write(waiting[:last], {"j": Cursor(last, b"2")})
            store.write([], {"other": Cursor(last, b"")})
            assert Cursor(1, b"1") == store.cursors()["j"]
        (failing,) = _failing(store)
        assert failing.startswith("telemetry: http")
        assert words in failing
        engine.always = None
        engine.released.set()
        store._sender._not_before = 0.0  # half a minute has passed
        store.write(waiting, {"j": Cursor(7, b"2")})
        assert Cursor(7, b"2") == store.cursors()["j"]
        assert not _failing(store)
        assert {at_ms for _, at_ms in engine.taken} == {row(n).end_ms - 1 for n in range(8)}
        assert set(engine.taken.values()) == {1}
        assert store.counts()["sent_rows"] == 8
    levels = [(record.levelname, record.message.rpartition(": ")[2]) for record in caplog.records]
    assert ["WARNING", "INFO"] == [level for level, _ in levels]
    assert levels[1][1] == "works again"


def test_an_answer_that_is_lost_is_not_a_loss(engine: FakeEngine, tmp_path: Path) -> None:
    """The engine took them, but nobody heard: they go there again, as the same samples."""
    with remote_store(engine.write_url, tmp_path) as store:
        engine.say += [Say(500, takes=True), Say(200, b"x" * 100, cut=True, takes=True)]
        store.write(rows(0, 1), {"j": Cursor(1, b"")})
        assert set(engine.taken.values()) == {3}
        assert {"j": Cursor(1, b"")} == store.cursors()
        assert store.counts()["retries"] == 2


def test_cursors_that_do_not_get_to_disk(engine: FakeEngine, tmp_path: Path) -> None:
    """Then the write failed; the same rows again are not sent again."""
    with remote_store(engine.write_url, tmp_path) as store:
        database = store._cursors._database  # type: ignore[attr-defined]
        database.execute("PRAGMA query_only = 1")
        with pytest.raises(TelemetryError, match=r"cursors\.sqlite does not take .* disk full"):
            store.write(rows(0), {"j": Cursor(1, b"")})
        database.execute("PRAGMA query_only = 0")
        assert {} == store.cursors()
        store.write(rows(0, 1), {"j": Cursor(2, b"")})
        assert {"j": Cursor(2, b"")} == store.cursors()
        assert set(engine.taken.values()) == {1}


def test_refused_rows_that_do_not_get_to_disk(engine: FakeEngine, tmp_path: Path) -> None:
    """They are not forgotten: the write fails until they are kept."""
    (tmp_path / "refused").write_text("a file where the folder has to be")
    with remote_store(engine.write_url, tmp_path) as store:
        engine.say.append(Say(400, b"out of order sample"))
        with pytest.raises(TelemetryError, match="cannot be kept"):
            store.write(rows(0), {"j": Cursor(1, b"")})
        assert {} == store.cursors()
        assert "cannot be kept" in _failing(store)[0]
        (tmp_path / "refused").unlink()
        store.write(rows(0), {"j": Cursor(1, b"")})
        assert {"j": Cursor(1, b"")} == store.cursors()
        assert store.counts()["refused_kept_rows"] == 1


def test_a_body_that_is_too_large_is_halved(engine: FakeEngine, tmp_path: Path) -> None:
    """413 is no refusal of samples; of a single row it cannot be helped."""
    with remote_store(engine.write_url, tmp_path) as store:
        engine.say += [Say(413), Say(413)]
        store.write(rows(*range(8)), {})
        assert {at_ms for _, at_ms in engine.taken} == {row(n).end_ms - 1 for n in range(8)}
        assert store.counts()["refused_rows"] == 0
        engine.always = Say(413)
        with pytest.raises(TelemetryError, match="a single row is too large"):
            store.write(rows(9), {})


def test_an_engine_that_refuses_without_end(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search for what it would take is bounded; all of it is kept."""
    engine.always = Say(400, b"out of order sample")
    monkeypatch.setattr(remote_write, "_MOST_REFUSALS", 100)
    many = [row(cell) for cell in range(300)]
    with remote_store(engine.write_url, tmp_path) as store:
        store.write(many, {"j": Cursor(1, b"")})
        assert store.counts()["refused_kept_rows"] == 300
        assert store.counts()["requests"] < 140
        assert "300 rows" in _failing(store)[0]


def test_two_rows_of_one_instant(engine: FakeEngine, tmp_path: Path) -> None:
    """One is sent, the other kept; an engine would drop one without a word."""
    other = replace(row(0), uj=7, parts=(replace(row(0).parts[0], uj=7, idle_uj=0),))
    with remote_store(engine.write_url, tmp_path) as store:
        store.write([row(0), row(0), other], {})
        assert set(engine.taken.values()) == {1}
        assert "same instant" in _failing(store)[0]


def _sender(engine: FakeEngine, waits: list[float], patience_s: float) -> tuple[Endpoint, Sender]:
    """Return a sender that notes how long it would wait."""
    options = RemoteOptions(engine.write_url)
    endpoint = Endpoint(options.url, options)

    def note(seconds: float) -> bool:
        waits.append(seconds)
        return False

    return endpoint, Sender(endpoint, patience_s, note)


def test_waiting_is_asked_for(engine: FakeEngine) -> None:
    """Retry-After is kept, by later calls too; without it pauses grow."""
    waits: list[float] = []
    endpoint, sender = _sender(engine, waits, 60)
    engine.say += [Say(429, headers={"Retry-After": "7"}), Say(503), Say(503), Say(503)]
    assert sender.send(_NO_ROWS) is None
    assert waits.pop(0) == 7
    assert all(0.1 < wait <= 2 for wait in waits)
    assert sum(waits[:1]) < sum(waits[-1:])
    engine.say.append(Say(503, headers={"Retry-After": "3600"}))
    with pytest.raises(TelemetryError, match="503"):
        sender.send(_NO_ROWS)
    asked = len(engine.requests)
    with pytest.raises(TelemetryError, match="503"):
        sender.send(_NO_ROWS)
    assert asked == len(engine.requests)
    endpoint.close()


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("0", 0, 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0), ("soon", 0, 0), ("-1", 0, 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 600, 600), ("9" * 400, 600, 600), ("²", 0, 0),
    ],
)  # fmt: skip
def test_how_long_to_wait(engine: FakeEngine, text: str, least: float, most: float) -> None:
    """Seconds or a date, never longer than ten minutes."""
    waits: list[float] = []
    endpoint, sender = _sender(engine, waits, 1e6)
    engine.say.append(Say(429, headers={"Retry-After": text.encode().decode("latin-1")}))
    sender.send(_NO_ROWS)
    assert least <= waits[0] <= max(most, 0.25)
    endpoint.close()


@pytest.mark.parametrize(
    ("status", "body", "refused"),
    [
        (400, "out of order sample", True),
        (400, "out of bounds", True),
        (400, "duplicate sample for timestamp", True),
        (500, "too old sample", True),
        (409, "store locally for endpoint : conflict: out of bounds", True),
        (400, "its timestamp is too old (err-mimir-sample-timestamp-too-old)", True),
        (400, "already been ingested (err-mimir-sample-out-of-order)", True),
        (400, "the same timestamp (err-mimir-sample-duplicate-timestamp)", True),
        (400, "received a sample whose timestamp is too far in the future", True),
        (400, "invalid label", False),
        (503, "out of order", False),
    ],
)  # fmt: skip
def test_what_is_a_refusal(engine: FakeEngine, status: int, body: str, refused: bool) -> None:
    """The words of Prometheus, Thanos and Mimir for a sample whose time does not suit."""
    options = RemoteOptions(engine.write_url, patience_s=0.1)
    endpoint = Endpoint(options.url, options)
    engine.always = Say(status, body.encode())
    sender = Sender(endpoint, 0.1)
    if refused:
        found = sender.send(_NO_ROWS)
        assert isinstance(found, Refusal)
        assert ("out of bounds" in body) == found.before_all
    else:
        with pytest.raises(TelemetryError):
            sender.send(_NO_ROWS)
    endpoint.close()


def test_a_stop_does_not_wait(engine: FakeEngine, tmp_path: Path) -> None:
    """Who waits for the engine gives up when the store is closed."""
    engine.always = Say(429, headers={"Retry-After": "50"})
    raised: list[str] = []
    with remote_store(engine.write_url, tmp_path) as store:

        def write() -> None:
            try:
                store.write(rows(0), {})
            except TelemetryError as error:
                raised.append(str(error))

        thread = threading.Thread(target=write)
        thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert len(raised) == 1
