"""Budgets: the levels that they reached, how each stood last, and nodes' marks to group them by.

Revision ID: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add tables and a column."""
    op.add_column("inventory", sa.Column("marks", sa.Text(), server_default="", nullable=False))
    op.create_table(
        "breach",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("budget", sa.Text(), server_default="", nullable=False),
        sa.Column("level", sa.Text(), server_default="", nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("to_ms", sa.BigInteger()),
        sa.Column("worst_ppm", sa.BigInteger(), nullable=False),
        sa.Column("coverage_ppm", sa.BigInteger()),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("told", sa.Integer(), nullable=False),
    )
    op.create_index("ix_breach_budget_from_ms", "breach", ["budget", "from_ms"])
    op.create_index("ix_breach_to_ms", "breach", ["to_ms"])
    op.create_table(
        "budget_state",
        sa.Column("budget", sa.Text(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("budget"),
    )


def downgrade() -> None:
    """Refuse: books are never thrown away by a migration."""
    raise NotImplementedError("the history of breaches would be lost")
