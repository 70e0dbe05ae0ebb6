"""What tells runs apart, labels of workloads, and the schedulers' inventory of nodes.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None

_NAMED = sa.text("other_id != ''")


def upgrade() -> None:
    """Add columns and tables; a run with times or a state was told by its manager's scheduler."""
    for name in ("other_id", "run", "scheduler"):
        op.add_column("workload", sa.Column(name, sa.Text(), server_default="", nullable=False))
    told = sa.text(
        "UPDATE workload SET scheduler = manager WHERE start_ms IS NOT NULL OR state != ''"
    )
    op.execute(told)
    op.create_index("ix_workload_cluster_other_id", "workload", ["cluster", "other_id"])
    op.create_index("ix_workload_cluster_array", "workload", ["cluster", "array"])
    op.create_index("ix_workload_scheduler_end_ms", "workload", ["scheduler", "end_ms"])
    erased = sa.Column("erased", sa.Integer(), server_default="0", nullable=False)
    op.add_column("identity", erased)
    for name in ("other_id", "run"):
        op.add_column("holder", sa.Column(name, sa.Text(), server_default="", nullable=False))
    op.add_column("holder", sa.Column("start_ms", sa.BigInteger(), nullable=True))
    op.create_index("ix_holder_raw_id", "holder", ["raw_id"])
    op.create_index(
        "ix_holder_other_id",
        "holder",
        ["other_id"],
        sqlite_where=_NAMED,
        postgresql_where=_NAMED,
    )
    op.create_table(
        "workload_label",
        sa.Column("workload", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("workload", "key"),
        sqlite_with_rowid=False,
    )
    _make_inventory()


def _make_inventory() -> None:
    op.create_table(
        "inventory",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("scheduler", sa.Text(), server_default="", nullable=False),
        sa.Column("cluster", sa.Text(), server_default="", nullable=False),
        sa.Column("node", sa.Text(), server_default="", nullable=False),
        sa.Column("gpus", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("expected", sa.BigInteger(), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("to_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_inventory_scheduler_to_ms", "inventory", ["scheduler", "to_ms"])
    op.create_index("ix_inventory_to_ms", "inventory", ["to_ms"])
    op.create_table(
        "inventoried",
        sa.Column("scheduler", sa.Text(), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scheduler", "cluster"),
    )


def downgrade() -> None:
    """Refuse: books are never thrown away by a migration."""
    raise NotImplementedError("runs cannot be merged again; keep the newer version")
