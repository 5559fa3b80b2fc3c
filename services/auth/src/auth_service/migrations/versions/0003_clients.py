"""OAuth clients and their secrets, and the sessions of clients themselves."""

import sqlalchemy as sa
from alembic import op
from servicekit.database import UtcDateTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "clients",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("grant_types", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("token_endpoint_auth_method", sa.String(24), nullable=False),
        sa.Column("first_party", sa.Boolean(), nullable=False),
        sa.Column("is_configured", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_clients"),
    )
    op.create_table(
        "client_secrets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_client_secrets"),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name="fk_client_secrets_client_id", ondelete="CASCADE"),
    )
    op.create_index("ix_client_secrets_client_id", "client_secrets", ["client_id"])
    op.add_column("sessions", sa.Column("credential_id", sa.Uuid(), nullable=True))
    op.create_index("ix_sessions_credential_id", "sessions", ["credential_id"])
    op.create_index("ix_sessions_client_id", "sessions", ["client_id"])


def downgrade() -> None:
    op.drop_index("ix_sessions_client_id", "sessions")
    op.drop_index("ix_sessions_credential_id", "sessions")
    op.drop_column("sessions", "credential_id")
    op.drop_table("client_secrets")
    op.drop_table("clients")
