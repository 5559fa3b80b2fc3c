"""Runs the revisions of this service's schema."""

from servicekit.database import run_migrations
from users_service.tables import Base

run_migrations(Base.metadata)
