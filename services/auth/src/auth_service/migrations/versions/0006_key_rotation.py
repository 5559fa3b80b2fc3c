"""Signing keys are published before they sign, and can be revoked.

A service of the version before makes keys without `active_from`: they sign from their making.
"""

import sqlalchemy as sa
from alembic import op
from servicekit.database import UtcDateTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("signing_keys", sa.Column("active_from", UtcDateTime(), nullable=True))
    op.add_column("signing_keys", sa.Column("revoked_at", UtcDateTime(), nullable=True))


def downgrade() -> None:
    # The version before would take a revoked key for one that signs.
    op.execute("DELETE FROM signing_keys WHERE revoked_at IS NOT NULL")
    op.drop_column("signing_keys", "revoked_at")
    op.drop_column("signing_keys", "active_from")
