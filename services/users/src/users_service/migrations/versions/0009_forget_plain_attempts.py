"""Attempts that were counted by a hash which anybody can compute are forgotten.

Nobody counts by it any more, and an address where a name has signed in would stay for 90 days. A service of the
version before goes on counting by itself: while two run, each has its own count.
"""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("DELETE FROM attempt_counters")


def downgrade() -> None:
    op.execute("DELETE FROM attempt_counters")
