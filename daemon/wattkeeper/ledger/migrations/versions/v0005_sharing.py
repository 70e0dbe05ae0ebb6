"""What several aggregators need that share one ledger.

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None

_NUMBERED = ("node", "journal", "meter")


def upgrade() -> None:
    """Stamp nodes one by one; who shares the ledger, and who does what one does for all."""
    stamp = sa.Column("stamp", sa.BigInteger(), server_default="0", nullable=False)
    op.add_column("node", stamp)
    op.execute("DELETE FROM setting WHERE key = 'commit'")
    op.create_index("ix_meter_name", "meter", ["name"])
    op.create_table(
        "aggregator",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("alone", sa.Integer(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    lease = op.create_table(
        "lease",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), server_default="", nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.bulk_insert(lease, [{"name": "books", "holder": "", "token": 0, "until_ms": 0}])
    if op.get_bind().dialect.name == "postgresql":
        _number()


def _number() -> None:
    """Make the sequence that gives nodes, journals and meters their ids, after those there are."""
    connection = op.get_bind()
    highest = [connection.scalar(sa.text(f"SELECT max(id) FROM {name}")) for name in _NUMBERED]  # noqa: S608 - our own names
    first = max(filter(None, highest), default=0) + 1
    op.execute(f"CREATE SEQUENCE number START {first}")


def downgrade() -> None:
    """Refuse: books are never thrown away by a migration."""
    raise NotImplementedError("an older version would not see that another one writes")
