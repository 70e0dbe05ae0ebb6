"""Pseudonyms of people, and who was forgotten.

Revision ID: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add tables."""
    op.create_table(
        "pseudonym",
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("user"),
    )
    op.create_table(
        "forgotten",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("cluster", sa.Text(), server_default="", nullable=False),
        sa.Column("salt", sa.Text(), server_default="", nullable=False),
        sa.Column("digest", sa.Text(), server_default="", nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    """Refuse: the names of people who were forgotten would come back."""
    raise NotImplementedError("an older version brings erased names back; keep the newer one")
