"""uvicorn's server, which tells the application of a signal when it comes."""

from socket import socket
from types import FrameType

from uvicorn import Config, Server


class EndingServer(Server):
    """Says at the signal that the process is not ready any more: its lifespan learns of it after the last request."""

    def __init__(self, config: Config, *, ends_within_seconds: float) -> None:
        """Take how long the process may go on after the signal. The application is one of `build_app`."""
        super().__init__(config)
        self._ends_within_seconds = ends_within_seconds

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start, but for a signal that came meanwhile: what ends by it has not failed."""
        try:
            await super().startup(sockets=sockets)
        except SystemExit:
            if not self.should_exit:
                raise

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take the signal."""
        self.config.app.state.readiness.end(  # type: ignore[union-attr]  # uvicorn knows it as any application
            within_seconds=self._ends_within_seconds
        )
        super().handle_exit(sig, frame)
