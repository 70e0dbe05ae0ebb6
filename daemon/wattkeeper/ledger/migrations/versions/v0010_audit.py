"""The audit log: who read about others, and who changed what.

Revision ID: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision: str | None = "0009"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add a table."""
    texts = ("who", "role", "address", "act", "what", "result")
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), server_default="", nullable=False) for name in texts),
        sa.Column("times", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_audit_at_ms", "audit", ["at_ms"])


def downgrade() -> None:
    """Refuse: who read what would be lost."""
    raise NotImplementedError("the audit log would be lost; keep the newer version")
