"""Sessions know how long their access tokens live, for the setting may change."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("access_token_seconds", sa.BigInteger(), nullable=True))
    op.create_index("ix_sessions_access_token_seconds", "sessions", ["access_token_seconds"])


def downgrade() -> None:
    op.drop_index("ix_sessions_access_token_seconds", "sessions")
    op.drop_column("sessions", "access_token_seconds")
