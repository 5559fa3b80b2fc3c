"""Sessions as their owner lists and ends them: the device, and indexes by owner and by end."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("device", sa.String(200), nullable=True))
    op.create_index("ix_sessions_subject", "sessions", ["subject"])
    op.create_index("ix_sessions_ended_at", "sessions", ["ended_at"])


def downgrade() -> None:
    op.drop_index("ix_sessions_ended_at", "sessions")
    op.drop_index("ix_sessions_subject", "sessions")
    op.drop_column("sessions", "device")
