"""Exported totals of idle energy, a lasting order of accounts, and marks of jobs.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add columns and a table; accounts that were exported before keep their alphabetical order."""
    for name in ("idle_uj", "idle_gpu_ms"):
        op.add_column("exported", sa.Column(name, sa.Text(), server_default="0", nullable=False))
    number = sa.Column("number", sa.BigInteger(), server_default="0", nullable=False)
    op.add_column("exported", number)
    op.execute(
        "UPDATE exported SET number = 1 + (SELECT count(*) FROM exported AS other WHERE "
        "other.cluster < exported.cluster OR "
        "(other.cluster = exported.cluster AND other.account < exported.account))"
    )
    op.create_table(
        "exported_job",
        sa.Column("workload", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("uj", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workload", "part"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Refuse: books are never thrown away by a migration."""
    raise NotImplementedError("an older version would let exported totals fall")
