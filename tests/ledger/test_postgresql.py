"""What can go wrong with a PostgreSQL: it is said, and no joule is lost or booked twice."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from psycopg import sql
from tests.ledger.books import SLOT, T0, Journal, Meter, holder
from tests.postgresql.proxy import Proxy
from tests.postgresql.server import Server, missing

from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.store import Ledger, LedgerError

pytestmark = pytest.mark.postgresql
NOW = T0 + 4 * SLOT
WINDOWS = 30


def journal() -> Journal:
    """Return a journal of one meter and one holder."""
    journal = Journal(holders={16: holder("7")})
    meter = Meter(journal)
    meter.point()
    meter.run(WINDOWS, (16, 5_000), (1, 700))
    return journal


@pytest.fixture
def proxy(server: Server) -> Iterator[tuple[Proxy, str]]:
    """A network in front of the server, and what to write for the server's folder in a URL."""
    with (
        tempfile.TemporaryDirectory(prefix="wk-px-", dir="/tmp") as folder,
        Proxy(server.folder, Path(folder)) as proxy,
    ):
        yield proxy, folder


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_both_ways_to_write_a_url(new_url: Callable[[], str], scheme: str) -> None:
    """With and without the driver's name."""
    ledger = Ledger.open(new_url().replace("postgresql", scheme, 1), slot_ms=SLOT)
    assert ledger.slot_ms == SLOT
    ledger.close()


def test_nobody_answers() -> None:
    """The message says where, and shows no password."""
    url = "postgresql://ann:s3cret@127.0.0.1:1/books?sslpassword=s3cret"
    with pytest.raises(LedgerError, match=r"ledger\.url: cannot open .*127\.0\.0\.1.*refused") as e:
        Ledger.open(url)
    assert "s3cret" not in str(e.value)
    assert "postgresql+psycopg://ann:***@127.0.0.1:1/books" in str(e.value)


def test_a_wrong_password(server: Server) -> None:
    """The server's own words; neither the wrong password nor the right one is in them."""
    name = server.database()
    server.run(sql.SQL("CREATE ROLE locked_in LOGIN PASSWORD 'right-s3cret'").format())
    server.run(sql.SQL("ALTER DATABASE {} OWNER TO locked_in").format(sql.Identifier(name)))
    with pytest.raises(LedgerError, match="password authentication failed") as caught:
        Ledger.open(server.url(name, "locked_in", "wrong-s3cret"))
    assert "s3cret" not in str(caught.value)
    Ledger.open(server.url(name, "locked_in", "right-s3cret")).close()
    server.drop(name)
    server.run(sql.SQL("DROP ROLE locked_in").format())


def test_no_right_to_make_the_schema(server: Server) -> None:
    """From PostgreSQL 15 on nobody but the owner may make tables."""
    name = server.database()
    server.run(sql.SQL("CREATE ROLE guest LOGIN").format())
    with pytest.raises(LedgerError, match="permission denied for schema public"):
        Ledger.open(server.url(name, "guest"))
    server.drop(name)
    server.run(sql.SQL("DROP ROLE guest").format())


def test_a_newer_schema(new_url: Callable[[], str]) -> None:
    """It is left alone."""
    url = new_url()
    ledger = Ledger.open(url)
    with ledger.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    ledger.close()
    with pytest.raises(LedgerError, match="written by a newer version of wattkeeper"):
        Ledger.open(url)


def test_a_database_that_cannot_hold_every_text(server: Server) -> None:
    """Names in other letters would stop every commit that has one."""
    create = "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"
    server.run(sql.SQL(create).format())
    try:
        with pytest.raises(LedgerError, match="its texts are in LATIN1; make one with"):
            Ledger.open(server.url("latin"))
    finally:
        server.drop("latin")


def test_several_begin_at_once(server: Server) -> None:
    """Each waits for the one that makes the schema."""
    name = server.database()
    failed: list[LedgerError] = []

    def begin() -> None:
        try:
            Ledger.open(server.url(name)).close()
        except LedgerError as error:
            failed.append(error)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    server.drop(name)
    assert failed == []


def test_a_question_sees_one_instant(shared_ledger: Ledger) -> None:
    """Whatever is committed between its statements, a balance is of one moment."""
    count = sa.text("SELECT count(*) FROM gap")
    with shared_ledger.reading() as reading:
        before = reading.execute(count).scalar()
        with shared_ledger.writing() as writing:
            writing.execute(
                sa.text("INSERT INTO gap (meter, from_ms, to_ms, uj) VALUES (1, 0, 1, 1)")
            )
        assert reading.execute(count).scalar() == before
        with pytest.raises(sa.exc.InternalError, match="read-only transaction"):
            reading.execute(sa.text("DELETE FROM gap"))


@pytest.mark.parametrize("at", [b"INSERT INTO posting", b"INSERT INTO point", b"COMMIT"])
@pytest.mark.parametrize("answered", [False, True])
def test_a_connection_that_breaks_in_a_commit(
    new_url: Callable[[], str], proxy: tuple[Proxy, str], at: bytes, answered: bool
) -> None:
    """Nothing is lost and nothing is booked twice, also where only the answer was lost."""
    network, folder = proxy
    url = new_url()
    ledger = Ledger.open(url.partition("host=")[0] + f"host={folder}")
    intake = Intake(ledger)
    written = journal()
    intake.accept(written.batch(1, 20, NOW), NOW)
    network.break_at, network.answered = at, answered
    with pytest.raises(LedgerError, match="ledger: not written: "):
        intake.commit_sync()
    assert network.broken == 1
    for _ in range(3):
        try:
            written.deliver(intake, NOW)
            intake.commit_sync()
        except LedgerError:
            continue
    assert intake.accept(written.batch(len(written.records) + 1, None, NOW), NOW).committed == 31
    answer = balance(ledger)
    assert (answer.balanced, answer.total_uj) == (True, WINDOWS * 5_700)
    ledger.close()


def test_a_server_that_is_restarted() -> None:
    """Questions fail while it is away; the next commit after it writes what was taken before."""
    if reason := missing():
        pytest.skip(reason)
    with Server() as server:
        ledger = Ledger.open(server.url(server.database()))
        intake = Intake(ledger)
        written = journal()
        intake.accept(written.batch(1, 20, NOW), NOW)
        intake.commit_sync()
        written.deliver(intake, NOW)
        server.stop()
        with pytest.raises(LedgerError, match="ledger: not written: "):
            intake.commit_sync()
        with pytest.raises(sa.exc.OperationalError):
            balance(ledger)
        server.start()
        intake.commit_sync()
        answer = balance(ledger)
        assert (answer.balanced, answer.total_uj) == (True, WINDOWS * 5_700)
        ledger.close()
