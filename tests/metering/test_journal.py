"""The journal: numbered, chained, released, forked, mended; whole after anything."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from wattkeeper.delivery.wire import GENESIS, chain, decode_record
from wattkeeper.holders.base import HolderKey
from wattkeeper.metering.book import BookState
from wattkeeper.metering.dictionary import HOLDER
from wattkeeper.metering.journal import FILE, Journal, JournalError
from wattkeeper.model.meter import Method
from wattkeeper.model.window import Point, Record, Share, Tombstone, Window


def open_journal(folder: Path, **how: object) -> Journal:
    """Open the journal of a node in `folder`."""
    settings = {"cluster": "c", "node": "n", "max_bytes": 1 << 30, "durable": False} | how
    return Journal(folder, **settings)  # type: ignore[arg-type]


def window(number: int, holder: int = 1) -> Window:
    """Return the window `number` of an unbroken chain of counts."""
    start = 1_790_000_000_000 + number * 10_000
    return Window(
        1, 1, start, start + 10_000, number * 10_000 + 10_000, number * 5, number * 5 + 5, 10_000,
        Method.COUNTER, (Share(holder, 5, 0, 10_000),),
    )  # fmt: skip


def fill(journal: Journal, count: int, holder: int = 1) -> None:
    """Append windows one by one."""
    first = journal.meta.last
    for number in range(first, first + count):
        journal.append([window(number, holder)], {})


def everything(journal: Journal) -> list[Record]:
    """Return every record as it would be sent, with the chain checked."""
    records: list[Record] = []
    after = 0
    while True:
        stretch = journal.stretch(after, 200)
        value = stretch.previous
        for payload in stretch.payloads:
            value = chain(value, payload)
            records.append(decode_record(payload))
        after = stretch.first + len(stretch.payloads) - 1
        assert journal.hash_at(after) == value
        if after >= journal.meta.last:
            return records


def edit(folder: Path, sql: str, *values: object) -> None:
    """Change the file behind the journal's back."""
    db = sqlite3.connect(folder / FILE)
    assert db.execute(sql, values).rowcount > 0, "the edit changed nothing"
    db.commit()
    db.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Return a journal of ten windows."""
    with open_journal(tmp_path) as opened:
        fill(opened, 10)
        yield opened


def test_records_come_back_in_order_after_reopening(tmp_path: Path, journal: Journal) -> None:
    """What was appended is there, under the same numbers and hashes."""
    journal.close()
    with open_journal(tmp_path) as again:
        assert [window(n) for n in range(10)] == everything(again)
        assert journal.meta.journal == again.meta.journal
        assert (again.meta.last, again.pending) == (10, 10)


def test_states_and_memos_are_those_of_the_last_append(tmp_path: Path, journal: Journal) -> None:
    """State and records commit together."""
    state = BookState(1, booked_uj=50)
    journal.append([window(10)], {"gpu/x": msgpack(state)}, {"holders": {"a": [1]}})
    journal.close()
    with open_journal(tmp_path) as again:
        assert {"gpu/x": state} == again.states()
        assert again.memo("holders") == {"a": [1]}
        assert again.memo("other") is None


def msgpack(state: BookState) -> bytes:
    """Encode a state as the agent does."""
    import msgspec

    return msgspec.msgpack.encode(state)


def test_release_drops_what_is_committed_and_keeps_the_chain(journal: Journal) -> None:
    """Sending goes on behind it; a number below is no longer known; release never goes back."""
    hash_4 = journal.hash_at(4)
    journal.release(4, [])
    journal.release(2, [])
    assert [window(n) for n in range(4, 10)] == everything(journal)
    stretch = journal.stretch(0, 1)
    assert (5, hash_4) == (stretch.first, stretch.previous)
    assert journal.hash_at(3) is None
    journal.release(99, [])
    assert journal.pending == 0
    assert journal.stretch(0, 1000).payloads == ()


def test_a_fork_carries_all_that_is_unreleased(tmp_path: Path, journal: Journal) -> None:
    """Another id, numbers from 1, `fork_of` set, dictionary and nonce kept; reopened as well."""
    old, nonce = journal.meta.journal, journal.meta.nonce
    number = journal.dictionary.payer(HolderKey("slurm", "1", 0))
    journal.append([window(10, number)], {})
    journal.release(4, [])
    journal.fork()
    assert (old, nonce) == (journal.meta.fork_of, journal.meta.nonce)
    assert journal.meta.journal != old
    journal.close()
    with open_journal(tmp_path) as again:
        assert [*(window(n) for n in range(4, 10)), window(10, number)] == everything(again)
        assert again.stretch(0, 1).previous == GENESIS
        assert number in again.dictionary.entries[HOLDER]


def test_the_journal_of_another_node_is_put_aside(tmp_path: Path, journal: Journal) -> None:
    """It came with a disk image; the node that wrote its windows delivers them."""
    journal.close()
    with open_journal(tmp_path, node="other") as again:
        assert "is the journal of node" in again.set_aside
        assert again.meta.node == "other"
        assert again.meta.journal != journal.meta.journal
        assert again.meta.nonce != journal.meta.nonce
        assert (everything(again), again.states()) == ([], {})
    aside = next(tmp_path.glob("journal.sqlite.aside-????????"))
    aside.rename(tmp_path / "journal.sqlite")
    with open_journal(tmp_path) as back:
        assert len(everything(back)) == 10


def test_shrink_merges_only_what_was_never_sent(tmp_path: Path) -> None:
    """What may have left the node keeps its number and hash; joules are conserved."""
    with open_journal(tmp_path, max_bytes=1) as journal:
        fill(journal, 40)
        sent = journal.stretch(0, 300)
        count = len(sent.payloads)
        hashes = [journal.hash_at(n) for n in range(count + 1)]
        assert journal.shrink()
        assert hashes == [journal.hash_at(n) for n in range(count + 1)]
        records = everything(journal)
        assert len(records) < 40
        assert sum(r.energy_uj for r in records if isinstance(r, Window)) == 200
        assert not journal.shrink()


def test_shrink_is_not_tried_at_every_append(tmp_path: Path) -> None:
    """Merging reads the whole backlog: where it did not help it waits until more has come."""
    with open_journal(tmp_path, max_bytes=1 << 17) as journal:
        while journal.size() <= 1 << 17:
            fill(journal, 100)
        journal.stretch(0, 1 << 30)
        fill(journal, 2)
        assert journal.shrink()
        fill(journal, 2)
        assert not journal.shrink()
        fill(journal, 200)
        assert journal.shrink()


def test_a_fork_keeps_whole_what_was_sent(tmp_path: Path) -> None:
    """Half of a merged window might be booked already, under the old journal."""
    with open_journal(tmp_path, max_bytes=1) as journal:
        fill(journal, 40)
        journal.stretch(0, 1 << 30)
        journal.fork()
        assert not journal.shrink()
        assert len(everything(journal)) == 40


@pytest.mark.parametrize("number", [1, 5, 10])
def test_an_altered_record_becomes_a_tombstone_that_names_it(
    tmp_path: Path, journal: Journal, number: int
) -> None:
    """The record is given up under its own number and meter; every other one stays."""
    from wattkeeper.delivery.wire import encode_record

    forged = encode_record(window(500))
    edit(tmp_path, "UPDATE record SET payload = ? WHERE seq = ?", forged, number)
    _expect_tombstones(journal, {number}, meter=1)


@pytest.mark.parametrize("number", [1, 5, 10])
def test_garbage_becomes_a_tombstone(tmp_path: Path, journal: Journal, number: int) -> None:
    """Bytes that are no record: the meter cannot be told."""
    edit(tmp_path, "UPDATE record SET payload = ? WHERE seq = ?", b"\xa1\xff", number)
    journal.pending_since_ms()
    _expect_tombstones(journal, {number}, meter=0)


@pytest.mark.parametrize("number", [1, 5, 10])
def test_a_deleted_record_becomes_a_tombstone(
    tmp_path: Path, journal: Journal, number: int
) -> None:
    """Also the last one: the journal knows how many there were."""
    edit(tmp_path, "DELETE FROM record WHERE seq = ?", number)
    _expect_tombstones(journal, {number}, meter=0)


def test_every_altered_record_is_found(tmp_path: Path, journal: Journal) -> None:
    """Mending the first does not launder the others."""
    edit(tmp_path, "UPDATE record SET payload = x'93' WHERE seq IN (3, 4, 8)")
    edit(tmp_path, "DELETE FROM record WHERE seq = 6")
    _expect_tombstones(journal, {3, 4, 6, 8}, meter=0)


@pytest.mark.parametrize("doing", ["fork", "shrink"])
def test_rewriting_launders_nothing(tmp_path: Path, doing: str) -> None:
    """A fork or a merge checks what it takes along."""
    with open_journal(tmp_path, max_bytes=1) as journal:
        fill(journal, 10)
        edit(tmp_path, "UPDATE record SET payload = x'93' WHERE seq = 5")
        getattr(journal, doing)()
        lost = [r for r in everything(journal) if isinstance(r, Tombstone)]
        assert [Tombstone(0, "record 5 of the journal was altered or lost")] == lost


def test_an_accepted_record_that_vanished_stops_nothing(tmp_path: Path, journal: Journal) -> None:
    """Deliveries go on behind it, and the hash there tells the aggregator."""
    before = journal.hash_at(5)
    edit(tmp_path, "DELETE FROM record WHERE seq = 5")
    assert journal.hash_at(5) is None
    stretch = journal.stretch(5, 10_000)
    assert len(stretch.payloads) == 5
    assert before != stretch.previous


def test_a_record_put_behind_the_end_is_not_sent_and_not_in_the_way(
    tmp_path: Path, journal: Journal
) -> None:
    """A doubled record with a valid hash behind the last one is overwritten by the next."""
    row = sqlite3.connect(tmp_path / FILE).execute("SELECT payload FROM record WHERE seq = 10")
    payload = row.fetchone()[0]
    value = chain(journal.hash_at(10) or b"", payload)
    edit(tmp_path, "INSERT INTO record VALUES (11, ?, ?)", payload, value)
    assert [window(n) for n in range(10)] == everything(journal)
    fill(journal, 1)
    assert [window(n) for n in range(11)] == everything(journal)


def _expect_tombstones(journal: Journal, numbers: set[int], meter: int) -> None:
    expected: list[Record] = [window(n) for n in range(10)]
    for number in numbers:
        reason = f"record {number} of the journal was altered or lost"
        expected[number - 1] = Tombstone(meter, reason)
    assert expected == everything(journal)
    fill(journal, 1)
    assert [*expected, window(10)] == everything(journal)


def test_a_failed_append_keeps_the_dictionary(tmp_path: Path, journal: Journal) -> None:
    """Entries are stored with the next append that works, and are not pruned before."""
    number = journal.dictionary.payer(HolderKey("slurm", "7", 1))
    blocker = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    journal._db.execute("PRAGMA busy_timeout = 0")
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="locked"):
        journal.append([window(10, number)], {})
    assert journal.meta.last == 10
    with pytest.raises(JournalError, match="locked"):
        journal.release(5, [])
    blocker.execute("ROLLBACK")
    blocker.close()
    journal.release(5, [])
    assert number in journal.dictionary.entries[HOLDER]
    journal.append([window(10, number)], {})
    journal.close()
    with open_journal(tmp_path) as again:
        assert number in again.dictionary.entries[HOLDER]
        assert [window(10, number)] == everything(again)[-1:]


def test_holders_are_pruned_only_when_nothing_names_them(tmp_path: Path, journal: Journal) -> None:
    """Not while a record, an open window or a restart may still need them; numbers never return."""
    first = journal.dictionary.payer(HolderKey("slurm", "1", 0))
    journal.append([window(10, first)], {})
    second = journal.dictionary.payer(HolderKey("slurm", "2", 0))
    journal.append([window(11, second)], {})
    journal.release(10, [])
    assert {first, second} == set(journal.dictionary.entries[HOLDER])
    journal.release(11, [])
    assert {second} == set(journal.dictionary.entries[HOLDER])
    journal.close()
    with open_journal(tmp_path) as again:
        again.release(12, [second])
        assert {second} == set(again.dictionary.entries[HOLDER])
        third = again.dictionary.payer(HolderKey("slurm", "1", 0))
        assert third > second
        fill(again, 1, third)
        again.release(13, [])
        assert set() == set(again.dictionary.entries[HOLDER])


def test_a_damaged_file_is_put_aside_and_metering_goes_on(tmp_path: Path, journal: Journal) -> None:
    """The old file stays for a person to look at."""
    journal.close()
    (tmp_path / FILE).write_bytes(b"this is not a database, at all" * 400)
    with open_journal(tmp_path) as again:
        assert "is damaged" in again.set_aside
        assert Path(again.set_aside.partition(" ")[0]).exists()
        fill(again, 1)
    with open_journal(tmp_path) as third:
        assert third.set_aside == ""
        assert third.meta.last == 1


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE meta SET value = x'93'",
        "UPDATE state SET payload = x'c1'",
        "UPDATE entry SET payload = x'c1'",
        "UPDATE entry SET kind = 'nonsense'",
    ],
)
def test_content_that_sqlite_cannot_tell_as_damaged_is_put_aside(tmp_path: Path, sql: str) -> None:
    """SQLite has no checksums: flipped bytes in a cell pass its own check."""
    with open_journal(tmp_path) as journal:
        number = journal.dictionary.payer(HolderKey("slurm", "1", 0))
        journal.append([window(0, number)], {"gpu/x": msgpack(BookState(1))})
    edit(tmp_path, sql)
    with open_journal(tmp_path) as again:
        assert "is damaged" in again.set_aside
        assert again.meta.last == 0


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path, journal: Journal) -> None:
    """The message says what to do; nothing is put aside."""
    journal.close()
    db = sqlite3.connect(tmp_path / FILE)
    db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(JournalError, match=r"newer agent.*upgrade this agent"):
        open_journal(tmp_path)
    assert list(tmp_path.glob("*.aside*")) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Not a damaged file: an error with the path."""
    with pytest.raises(JournalError, match=r"data_dir: cannot open .*missing"):
        open_journal(tmp_path / "missing")


def test_an_error_in_the_middle_leaves_no_transaction_open(
    tmp_path: Path, journal: Journal
) -> None:
    """Whatever breaks a transaction, the next one works."""
    with pytest.raises(TypeError):
        journal.append([object()], {})  # type: ignore[list-item]
    assert journal.meta.last == 10
    fill(journal, 1)
    assert len(everything(journal)) == 11


def test_points_count_as_pending_since(tmp_path: Path) -> None:
    """The age of the oldest record is that of its end."""
    with open_journal(tmp_path) as journal:
        assert journal.pending_since_ms() is None
        journal.append([Point(1, 1, 77, 7, 0), window(0)], {})
        assert journal.pending_since_ms() == 77
        journal.release(1, [])
        assert window(0).end_ms == journal.pending_since_ms()
