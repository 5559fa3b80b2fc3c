"""`python -m users_service` is `pinhole-users`."""

from users_service.cli import app

app()
