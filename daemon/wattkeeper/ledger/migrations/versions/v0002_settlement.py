"""Idle parts and policies of postings; grants, and what is needed to settle by them.

Revision ID: 0002
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

_KEYS = {
    "posting": ("slot", "meter", "holder", "method", "split", "policy"),
    "rollup": ("holder", "day", "meter", "method", "split", "policy"),
}
_SMALL = ("method", "split", "policy")
_OLD_SUMS = ("uj", "ms", "peak_mw", "to_ms")
_NEW_SUMS = ("idle_uj", "idle_ms")


def upgrade() -> None:
    """Rebuild both tables of sums under their longer key, and make the new ones."""
    for name in _KEYS:
        _rebuild(name)
    op.create_table(
        "granted",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("scheduler", sa.Text(), server_default="", nullable=False),
        sa.Column("workload", sa.BigInteger(), nullable=False),
        sa.Column("cluster", sa.Text(), server_default="", nullable=False),
        sa.Column("node", sa.Text(), server_default="", nullable=False),
        sa.Column("gpus", sa.Text(), server_default="", nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=True),
        sa.Column("to_ms", sa.BigInteger(), nullable=True),
        sa.Column("resized", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_granted_seen_ms_scheduler", "granted", ["seen_ms", "scheduler"])
    op.create_index("ix_granted_workload", "granted", ["workload"])
    op.create_index("ix_granted_cluster_node", "granted", ["cluster", "node"])
    op.create_table(
        "granting",
        sa.Column("scheduler", sa.Text(), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scheduler", "cluster"),
    )
    op.create_table(
        "idle",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("meter", sa.BigInteger(), nullable=False),
        sa.Column("gpu", sa.BigInteger(), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("to_ms", sa.BigInteger(), nullable=False),
        sa.Column("uj", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.Integer(), nullable=False),
        sa.Column("policy", sa.Integer(), nullable=False),
        sa.Column("keep_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_idle_keep_ms_to_ms", "idle", ["keep_ms", "to_ms"])
    op.create_index("ix_idle_meter_to_ms", "idle", ["meter", "to_ms"])
    op.create_table(
        "settled",
        sa.Column("idle", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("uj", sa.BigInteger(), nullable=False),
        sa.Column("ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("idle", "holder"),
    )


def _rebuild(name: str) -> None:
    """SQLite cannot change a primary key; the same way serves every database."""
    old, key = f"{name}_0001", _KEYS[name]
    op.rename_table(name, old)
    op.create_table(
        name,
        *(_key_column(column) for column in key),
        *(sa.Column(column, sa.BigInteger(), nullable=False) for column in _OLD_SUMS + _NEW_SUMS),
        sa.PrimaryKeyConstraint(*key, name=f"pk_{name}"),
        sqlite_with_rowid=False,
    )
    columns = [*key, *_OLD_SUMS, *_NEW_SUMS]
    begin_at_none = ("policy", *_NEW_SUMS)
    values: list[sa.ColumnElement[Any]] = [
        sa.literal_column("0" if column in begin_at_none else column) for column in columns
    ]
    books = sa.select(*values).select_from(sa.table(old))
    into = sa.table(name, *(sa.column(column) for column in columns))
    op.execute(sa.insert(into).from_select(columns, books))
    op.drop_table(old)


def _key_column(name: str) -> "sa.Column[int]":
    kind = sa.Integer() if name in _SMALL else sa.BigInteger()
    return sa.Column(name, kind, autoincrement=False, nullable=False)


def downgrade() -> None:
    """Refuse: books are never thrown away by a migration."""
    raise NotImplementedError("the policies of postings cannot be undone; keep the newer version")
