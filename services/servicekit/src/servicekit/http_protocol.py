"""HTTP/1.1 as services speak it: uvicorn's, behind a proxy, with an end to what nobody reads."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_REST_BYTES = 32 * 1024 * 1024
"""As many bytes of a body are dropped after its answer as the largest may have: who sends no more learns the answer."""

REST_SECONDS = 10.0
"""So long may they take."""


class ServiceProtocol(HttpToolsProtocol):
    """Believes a proxy, wherever it comes from, and nobody else; drops the rest of a body that is refused, to a limit.

    Most clients look for the answer when they have sent all, and a connection that is closed before takes the answer
    with it (RFC 9112 section 9.6). One that goes on and on is closed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rest_bytes = 0
        self._giving_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Write an address of IPv4 as such: on a socket of IPv6 it has another form, that no setting names."""
        super().connection_made(transport)
        if self.client is not None:
            host, port = self.client
            self.client = (host.removeprefix("::ffff:"), port)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the rest."""
        self._end_rest()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """Give the application a list of its own, that uvicorn does not go on with.

        So no field of a trailer passes for one of the header: a proxy has set the header, and lets trailers pass.
        """
        self.scope["headers"] = self.headers.copy()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Give the rest of the body, where there is one, its time."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self._rest_bytes = 0
            self._giving_up = self.loop.call_later(REST_SECONDS, self.transport.close)

    def on_body(self, body: bytes) -> None:
        """Count what is dropped."""
        if self._giving_up is not None:
            self._rest_bytes += len(body)
            if self._rest_bytes > MAX_REST_BYTES:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next request as after any other; uvicorn has stopped its clock for the rest."""
        if self._giving_up is not None:
            self._end_rest()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        super().on_message_complete()

    def _end_rest(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
