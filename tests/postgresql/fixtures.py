"""One PostgreSQL for each worker of the tests, and empty ledgers in it."""

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from tests.postgresql.server import Server, missing
from wattkeeper.ledger import schema
from wattkeeper.ledger.store import Ledger

POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.postgresql)
"""A parameter of tests that run on PostgreSQL too."""


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Start PostgreSQL; end it after the last test."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """Return the name of a database with an empty ledger, to copy."""
    name = server.database()
    Ledger.open(server.url(name)).close()
    return name


@pytest.fixture
def new_url(server: Server, template: str) -> Iterator[Callable[[], str]]:
    """Return what makes a database with an empty ledger and returns its URL."""
    names: list[str] = []

    def make() -> str:
        names.append(server.database(template))
        return server.url(names[-1])

    yield make
    for name in names:
        server.drop(name)


@pytest.fixture(scope="session")
def shared_ledger(server: Server, template: str) -> Iterator[Ledger]:
    """Open the ledger that tests share, each after `empty`: a database of its own costs 0.2 s."""
    ledger = Ledger.open(server.url(server.database(template)))
    yield ledger
    ledger.close()


def empty(ledger: Ledger) -> Ledger:
    """Return the ledger as it was made."""
    with ledger.writing() as connection:
        for table in schema.metadata.sorted_tables:
            if table not in (schema.setting, schema.lease):
                connection.execute(sa.delete(table))
        connection.execute(sa.delete(schema.setting).where(schema.setting.c.key != "slot_ms"))
    return ledger
