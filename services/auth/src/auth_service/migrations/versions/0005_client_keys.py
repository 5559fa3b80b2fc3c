"""Clients that sign: their keys or their ServiceAccount, and the assertions that were used."""

import sqlalchemy as sa
from alembic import op
from servicekit.database import UtcDateTime

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("clients", sa.Column("jwks", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("clients", sa.Column("jwks_uri", sa.String(500), nullable=True))
    op.add_column("clients", sa.Column("service_account", sa.String(320), nullable=True))
    op.add_column("clients", sa.Column("key_credential_id", sa.Uuid(), nullable=True))
    op.create_index("ix_clients_service_account", "clients", ["service_account"], unique=True)
    op.create_table(
        "client_assertions",
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_client_assertions"),
    )
    op.create_index("ix_client_assertions_expires_at", "client_assertions", ["expires_at"])


def downgrade() -> None:
    op.drop_table("client_assertions")
    op.drop_index("ix_clients_service_account", "clients")
    for name in ("key_credential_id", "service_account", "jwks_uri", "jwks"):
        op.drop_column("clients", name)
