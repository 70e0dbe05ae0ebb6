"""The tables of the ledger.

Every number is a 64-bit integer: instants in UTC milliseconds, `slot` the start of a slot, `day`
a count of days since 1970, energies in whole microjoules. `holder` in `posting` and `rollup` is
an `Account` below 16, else the id of a row in `holder`: `journal id << 32 | number`, so that no
dictionary has to be in memory to book a share; the centre's own holders, to which it settles, are
journal 0's. `idle_uj` and `idle_ms` are the parts of `uj` and `ms` in which a meter was allocated
to its holder while nothing of the holder's ran on it. Names of people and jobs stand in
`identity` alone, which can be erased without touching a figure.
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


def _small_int(name: str) -> "Column[int]":
    return Column(name, Integer, nullable=False)


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
    Column("stamp", BigInteger, nullable=False, server_default="0"),
    sa.UniqueConstraint("cluster", "name", name="uq_node_name"),
)
"""`stamp`: another number after every commit that touched the node, its journals or its meters."""

_NAMED = sa.text("other_id != ''")

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
    sa.Index(None, "name"),
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
    _text("other_id"),
    _text("run"),
    _text("scheduler"),
    sa.Index(None, "cluster", "raw_id"),
    sa.Index(None, "cluster", "job_id"),
    sa.Index(None, "cluster", "other_id"),
    sa.Index(None, "cluster", "array"),
    sa.Index(None, "scheduler", "end_ms"),
)
"""A run. `run` tells those of one id apart, `scheduler` is who speaks of it, "" if nobody does."""

identity = Table(
    "identity",
    metadata,
    _key("workload"),
    _text("user"),
    _text("name"),
    Column("erased", Integer, nullable=False, server_default="0"),
)
"""Names of people. `erased`: `user` is a pseudonym, and no name comes back."""

pseudonym = Table("pseudonym", metadata, Column("user", Text, primary_key=True), _text("name"))
"""The pseudonym of a person who still has runs under their name; gone with the last of these."""

forgotten = Table(
    "forgotten",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _text("cluster"),
    _text("salt"),
    _text("digest"),
    _int("at_ms"),
)
"""Whose runs that began before `at_ms` stay nameless when they are told again, or late.

`cluster`: "" for every one. `digest`: of the name with `salt`; it leads to no pseudonym.
"""

label = Table(
    "workload_label",
    metadata,
    _key("workload"),
    Column("key", Text, primary_key=True),
    _text("value"),
    sqlite_with_rowid=False,
)

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
    _text("other_id"),
    _text("run"),
    Column("start_ms", BigInteger),
    sa.Index(None, "workload"),
    sa.Index(None, "raw_id"),
    sa.Index(None, "other_id", sqlite_where=_NAMED, postgresql_where=_NAMED),
)
"""`other_id`, `run`, `start_ms`: the run's other id, restart count and start as the node heard."""

posting = Table(
    "posting",
    metadata,
    _key("slot"),
    _key("meter"),
    _key("holder"),
    _small_key("method"),
    _small_key("split"),
    _small_key("policy"),
    _int("uj"),
    _int("ms"),
    _int("peak_mw"),
    _int("to_ms"),
    _int("idle_uj"),
    _int("idle_ms"),
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
    _small_key("policy"),
    _int("uj"),
    _int("ms"),
    _int("peak_mw"),
    _int("to_ms"),
    _int("idle_uj"),
    _int("idle_ms"),
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
    Column("idle_uj", Text, nullable=False, server_default="0"),
    Column("idle_gpu_ms", Text, nullable=False, server_default="0"),
    Column("number", BigInteger, nullable=False, server_default="0"),
)
"""High-water marks of accounts' totals; `number` counts accounts in the order they came."""

exported_job = Table(
    "exported_job",
    metadata,
    _key("workload"),
    Column("part", Text, primary_key=True),
    _int("uj"),
    sqlite_with_rowid=False,
)
"""High-water marks of the jobs that `/metrics` shows; `part` is a component, or `idle`."""

granted = Table(
    "granted",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _text("scheduler"),
    _int("workload"),
    _text("cluster"),
    _text("node"),
    _text("gpus"),
    _int("from_ms"),
    Column("seen_ms", BigInteger),
    Column("to_ms", BigInteger),
    _int("resized"),
    sa.Index(None, "seen_ms", "scheduler"),
    sa.Index(None, "workload"),
    sa.Index(None, "cluster", "node"),
)
"""GPUs that a workload was given on one node, by the scheduler's word: `gpus` are their indices.

`seen_ms`: the last answer that named it, null while every answer does. `to_ms`: its end, null
while that is not known; `resized`: it ended before its workload did.
"""

granting = Table(
    "granting",
    metadata,
    Column("scheduler", Text, primary_key=True),
    Column("cluster", Text, primary_key=True),
    _int("until_ms"),
)
"""Up to when a scheduler has named every GPU that was held in a cluster."""

idle = Table(
    "idle",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _int("meter"),
    _int("gpu"),
    _int("from_ms"),
    _int("to_ms"),
    _int("uj"),
    _small_int("method"),
    _small_int("policy"),
    Column("keep_ms", BigInteger),
    sa.Index(None, "keep_ms", "to_ms"),
    sa.Index(None, "meter", "to_ms"),
)
"""What a window booked to `idle` of a GPU, by its index then; within one slot.

`keep_ms`: null while it waits to be settled, then until when the grants may still change.
"""

settled = Table(
    "settled",
    metadata,
    _key("idle"),
    _key("holder"),
    _int("uj"),
    _int("ms"),
)
"""What of a row of `idle` was posted to a holder so far, so that it is posted once."""

inventory = Table(
    "inventory",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _text("scheduler"),
    _text("cluster"),
    _text("node"),
    Column("gpus", BigInteger),
    _text("state"),
    _int("expected"),
    _int("from_ms"),
    Column("to_ms", BigInteger),
    _text("marks"),
    sa.Index(None, "scheduler", "to_ms"),
    sa.Index(None, "to_ms"),
)
"""A node while the same was expected of it; `to_ms` is null in the newest.

`state` and `marks` (one a line) are its last.
"""

inventoried = Table(
    "inventoried",
    metadata,
    Column("scheduler", Text, primary_key=True),
    Column("cluster", Text, primary_key=True),
    _int("until_ms"),
)
"""Up to when a scheduler has named every node of a cluster."""

aggregator = Table(
    "aggregator",
    metadata,
    Column("id", Text, primary_key=True),
    _text("name"),
    _small_int("alone"),
    _int("until_ms"),
)
"""Aggregators that share the ledger, until when they live by the database's clock.

`alone`: it keeps a history of its own and cannot share.
"""

lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    _text("holder"),
    _int("token"),
    _int("until_ms"),
)
"""What one aggregator does for all; `token` counts its holders, and tells who holds it no more."""

recorded = Table(
    "recorded",
    metadata,
    Column("journal", Text, primary_key=True),
    _int("seq"),
    Column("hash", LargeBinary, nullable=False),
)
"""How far journals are in an engine's history: aggregators that share the ledger share this too."""

factor = Table(
    "factor",
    metadata,
    Column("name", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    _key("at_ms"),
    _int("rate"),
    _small_int("estimated"),
    _text("source"),
    _int("fetched_ms"),
    sqlite_with_rowid=False,
)
"""What was fetched of a factor: `rate` in billionths of `unit`, in force from `at_ms` on."""

statement = Table(
    "statement",
    metadata,
    _key("number"),
    _text("period"),
    _int("since_ms"),
    _int("until_ms"),
    _int("closed_ms"),
    _text("previous"),
    Column("hash", Text, nullable=False),
    Column("body", Text, nullable=False),
    sa.UniqueConstraint("period", name="uq_statement_period"),
)
"""A closed period. `body`: canonical JSON; `hash`: its SHA-256; `previous`: the last one's."""

breach = Table(
    "breach",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _text("budget"),
    _text("level"),
    _int("from_ms"),
    Column("to_ms", BigInteger),
    _int("worst_ppm"),
    Column("coverage_ppm", BigInteger),
    _text("detail"),
    _small_int("told"),
    sa.Index(None, "budget", "from_ms"),
    sa.Index(None, "to_ms"),
)
"""A level that a budget reached, from when to when (null: it still has).

`worst_ppm`: the most of the limit that was seen; `coverage_ppm`: how complete that reading was.
`detail`: JSON for people. `told`: how far those who are alerted know, see `ledger.breaches`.
"""

budget_state = Table(
    "budget_state",
    metadata,
    Column("budget", Text, primary_key=True),
    _int("place"),
    _int("at_ms"),
    _text("body"),
)
"""How each budget stood last, as JSON, for the aggregators that do not lead."""

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _int("at_ms"),
    _text("who"),
    _text("role"),
    _text("address"),
    _text("act"),
    _text("what"),
    _text("result"),
    _int("times"),
    sa.Index(None, "at_ms"),
)
"""Who read about others, and who changed what; see `ledger.audit`."""
