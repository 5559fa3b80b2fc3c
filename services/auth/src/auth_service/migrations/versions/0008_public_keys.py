"""The public half of a signing key is there for replicas that cannot open the private one.

A service of the version before leaves it empty; the first of this one that opens the key writes it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("signing_keys", sa.Column("public_jwk", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("signing_keys", "public_jwk")
