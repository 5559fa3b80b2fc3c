"""Where Alembic starts."""

from auth_service.tables import Base
from servicekit.database import run_migrations

run_migrations(Base.metadata)
