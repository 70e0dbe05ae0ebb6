"""The tables of the ledger.

Every number is a 64-bit integer: instants in UTC milliseconds, `slot` the start of a slot, `day`
a count of days since 1970, energies in whole microjoules. `holder` in `posting` and `rollup` is
an `Account` below 16, else the id of a row in `holder`: `journal id << 32 | number`, so that no
dictionary has to be in memory to book a share. Names of people and jobs stand in `identity` alone,
which can be erased without touching a figure.
"""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table, Text

HOLDER_BITS = 32
"""A holder's id is its journal's id shifted by this, plus its number in the journal."""

metadata = sa.MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s"})


def _key(name: str) -> "Column[int]":
    return Column(name, BigInteger, primary_key=True, autoincrement=False)


def _small_key(name: str) -> "Column[int]":
    return Column(name, Integer, primary_key=True, autoincrement=False)


def _int(name: str) -> "Column[int]":
    return Column(name, BigInteger, nullable=False)


def _text(name: str) -> "Column[str]":
    return Column(name, Text, nullable=False, server_default="")


setting = Table("setting", metadata, Column("key", Text, primary_key=True), _text("value"))

node = Table(
    "node",
    metadata,
    _key("id"),
    _text("cluster"),
    _text("name"),
    Column("journal", BigInteger),
    _text("boot"),
    _text("agent"),
    _int("seen_ms"),
    _int("skew_ms"),
    sa.UniqueConstraint("cluster", "name", name="uq_node_name"),
)

boot = Table("boot", metadata, _key("node"), Column("boot", Text, primary_key=True))

journal = Table(
    "journal",
    metadata,
    _key("id"),
    _int("node"),
    Column("name", Text, nullable=False),
    _text("fork_of"),
    _int("seq"),
    Column("hash", LargeBinary, nullable=False),
    _int("meters"),
    _int("holders"),
    _int("epochs"),
    _int("seen_ms"),
    sa.UniqueConstraint("name", name="uq_journal_name"),
)

meter = Table(
    "meter",
    metadata,
    _key("id"),
    _int("node"),
    _text("name"),
    _text("component"),
    _text("source"),
    _text("labels"),
    Column("first_ms", BigInteger),
    _int("end_ms"),
    _int("boot_ms"),
    _int("uj"),
    Column("journal", BigInteger),
    _int("epoch"),
    _int("points"),
    _int("resume"),
    sa.UniqueConstraint("node", "name", name="uq_meter_name"),
)

journal_meter = Table("journal_meter", metadata, _key("journal"), _key("number"), _int("meter"))

journal_epoch = Table(
    "journal_epoch",
    metadata,
    _key("journal"),
    _key("number"),
    _text("boot"),
    _text("load"),
    _int("reset"),
)

epoch = Table(
    "epoch",
    metadata,
    _key("meter"),
    _key("ordinal"),
    _text("boot"),
    _text("load"),
    _int("reset"),
    sqlite_with_rowid=False,
)

workload = Table(
    "workload",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _text("cluster"),
    _text("manager"),
    _text("raw_id"),
    _text("job_id"),
    _text("account"),
    _text("partition"),
    _text("namespace"),
    _text("owner_kind"),
    _text("owner_name"),
    _text("array"),
    _text("state"),
    Column("start_ms", BigInteger),
    Column("end_ms", BigInteger),
    sa.Index(None, "cluster", "raw_id"),
    sa.Index(None, "cluster", "job_id"),
)

identity = Table("identity", metadata, _key("workload"), _text("user"), _text("name"))

holder = Table(
    "holder",
    metadata,
    _key("id"),
    _int("node"),
    _text("manager"),
    _text("raw_id"),
    _int("birth_ms"),
    _int("seen_ms"),
    _int("workload"),
    sa.Index(None, "workload"),
)

posting = Table(
    "posting",
    metadata,
    _key("slot"),
    _key("meter"),
    _key("holder"),
    _small_key("method"),
    _small_key("split"),
    _int("uj"),
    _int("ms"),
    _int("peak_mw"),
    _int("to_ms"),
    sqlite_with_rowid=False,
)

rollup = Table(
    "rollup",
    metadata,
    _key("holder"),
    _key("day"),
    _key("meter"),
    _small_key("method"),
    _small_key("split"),
    _int("uj"),
    _int("ms"),
    _int("peak_mw"),
    _int("to_ms"),
    sqlite_with_rowid=False,
)

coverage = Table(
    "coverage",
    metadata,
    _key("slot"),
    _key("meter"),
    _int("covered_ms"),
    _int("unmeasured_ms"),
    _int("held_ms"),
    sqlite_with_rowid=False,
)

coverage_day = Table(
    "coverage_day",
    metadata,
    _key("meter"),
    _key("day"),
    _int("covered_ms"),
    _int("unmeasured_ms"),
    _int("held_ms"),
    sqlite_with_rowid=False,
)

point = Table(
    "point",
    metadata,
    _key("meter"),
    _key("n"),
    _int("epoch"),
    _int("at_ms"),
    _int("value_uj"),
    _int("seal"),
    sqlite_with_rowid=False,
)

gap = Table(
    "gap",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _int("meter"),
    _int("from_ms"),
    _int("to_ms"),
    _int("uj"),
    _text("reason"),
    sa.Index(None, "meter", "from_ms"),
)

refused = Table(
    "refused",
    metadata,
    _key("journal"),
    _key("seq"),
    Column("meter", BigInteger),
    _int("at_ms"),
    _text("reason"),
)

event = Table(
    "event",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _int("at_ms"),
    _int("node"),
    _text("kind"),
    _text("detail"),
    sa.Index(None, "node", "kind"),
)

exported = Table(
    "exported",
    metadata,
    Column("cluster", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    _text("uj"),
)
