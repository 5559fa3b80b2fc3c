"""How far the events of users are taken, and which of them a session comes after."""

import sqlalchemy as sa
from alembic import op
from servicekit.database import UtcDateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    feed = op.create_table(
        "account_feed",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_account_feed"),
    )
    op.bulk_insert(feed, [{"id": 1, "sequence": 0}])
    op.create_table(
        "account_endings",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_account_endings"),
    )
    op.create_index("ix_account_endings_at", "account_endings", ["at"])
    op.add_column("sessions", sa.Column("events_seen", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("sessions", "events_seen")
    op.drop_table("account_endings")
    op.drop_table("account_feed")
