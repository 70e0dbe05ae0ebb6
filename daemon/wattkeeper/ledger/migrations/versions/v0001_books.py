"""The first books.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "boot",
        sa.Column("node", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("boot", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("node", "boot"),
    )
    op.create_table(
        "coverage",
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("meter", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("covered_ms", sa.BigInteger(), nullable=False),
        sa.Column("unmeasured_ms", sa.BigInteger(), nullable=False),
        sa.Column("held_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("slot", "meter"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "coverage_day",
        sa.Column("meter", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("covered_ms", sa.BigInteger(), nullable=False),
        sa.Column("unmeasured_ms", sa.BigInteger(), nullable=False),
        sa.Column("held_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("meter", "day"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "epoch",
        sa.Column("meter", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ordinal", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("boot", sa.Text(), server_default="", nullable=False),
        sa.Column("load", sa.Text(), server_default="", nullable=False),
        sa.Column("reset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("meter", "ordinal"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("node", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_event_node_kind"), "event", ["node", "kind"], unique=False)
    op.create_table(
        "exported",
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("uj", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("cluster", "account"),
    )
    op.create_table(
        "gap",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("meter", sa.BigInteger(), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("to_ms", sa.BigInteger(), nullable=False),
        sa.Column("uj", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_gap_meter_from_ms"), "gap", ["meter", "from_ms"], unique=False)
    op.create_table(
        "holder",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node", sa.BigInteger(), nullable=False),
        sa.Column("manager", sa.Text(), server_default="", nullable=False),
        sa.Column("raw_id", sa.Text(), server_default="", nullable=False),
        sa.Column("birth_ms", sa.BigInteger(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("workload", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_holder_workload"), "holder", ["workload"], unique=False)
    op.create_table(
        "identity",
        sa.Column("workload", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user", sa.Text(), server_default="", nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("workload"),
    )
    op.create_table(
        "journal",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("fork_of", sa.Text(), server_default="", nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("meters", sa.BigInteger(), nullable=False),
        sa.Column("holders", sa.BigInteger(), nullable=False),
        sa.Column("epochs", sa.BigInteger(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", name="uq_journal_name"),
    )
    op.create_table(
        "journal_epoch",
        sa.Column("journal", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("boot", sa.Text(), server_default="", nullable=False),
        sa.Column("load", sa.Text(), server_default="", nullable=False),
        sa.Column("reset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("journal", "number"),
    )
    op.create_table(
        "journal_meter",
        sa.Column("journal", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("meter", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("journal", "number"),
    )
    op.create_table(
        "meter",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("component", sa.Text(), server_default="", nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("labels", sa.Text(), server_default="", nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=True),
        sa.Column("end_ms", sa.BigInteger(), nullable=False),
        sa.Column("boot_ms", sa.BigInteger(), nullable=False),
        sa.Column("uj", sa.BigInteger(), nullable=False),
        sa.Column("journal", sa.BigInteger(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.Column("resume", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("node", "name", name="uq_meter_name"),
    )
    op.create_table(
        "node",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("cluster", sa.Text(), server_default="", nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("journal", sa.BigInteger(), nullable=True),
        sa.Column("boot", sa.Text(), server_default="", nullable=False),
        sa.Column("agent", sa.Text(), server_default="", nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("skew_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("cluster", "name", name="uq_node_name"),
    )
    op.create_table(
        "point",
        sa.Column("meter", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("n", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("value_uj", sa.BigInteger(), nullable=False),
        sa.Column("seal", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("meter", "n"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "posting",
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("meter", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("method", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("split", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("uj", sa.BigInteger(), nullable=False),
        sa.Column("ms", sa.BigInteger(), nullable=False),
        sa.Column("peak_mw", sa.BigInteger(), nullable=False),
        sa.Column("to_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("slot", "meter", "holder", "method", "split"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "refused",
        sa.Column("journal", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("meter", sa.BigInteger(), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("journal", "seq"),
    )
    op.create_table(
        "rollup",
        sa.Column("holder", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("meter", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("method", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("split", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("uj", sa.BigInteger(), nullable=False),
        sa.Column("ms", sa.BigInteger(), nullable=False),
        sa.Column("peak_mw", sa.BigInteger(), nullable=False),
        sa.Column("to_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("holder", "day", "meter", "method", "split"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "setting",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "workload",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("cluster", sa.Text(), server_default="", nullable=False),
        sa.Column("manager", sa.Text(), server_default="", nullable=False),
        sa.Column("raw_id", sa.Text(), server_default="", nullable=False),
        sa.Column("job_id", sa.Text(), server_default="", nullable=False),
        sa.Column("account", sa.Text(), server_default="", nullable=False),
        sa.Column("partition", sa.Text(), server_default="", nullable=False),
        sa.Column("namespace", sa.Text(), server_default="", nullable=False),
        sa.Column("owner_kind", sa.Text(), server_default="", nullable=False),
        sa.Column("owner_name", sa.Text(), server_default="", nullable=False),
        sa.Column("array", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=True),
        sa.Column("end_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        op.f("ix_workload_cluster_job_id"), "workload", ["cluster", "job_id"], unique=False
    )
    op.create_index(
        op.f("ix_workload_cluster_raw_id"), "workload", ["cluster", "raw_id"], unique=False
    )


def downgrade() -> None:
    """Refuse: books are never thrown away by a migration."""
    raise NotImplementedError("the first books cannot be undone; move the ledger away instead")
