"""Connections to the services: a pool for each, over plain sockets."""

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import httpcore

from gateway.headers import Fields
from gateway.settings import GatewaySettings


class Upstream:
    """One service: its address and its pool of connections."""

    def __init__(self, url: str, pool: httpcore.AsyncConnectionPool, timeouts: Mapping[str, float]) -> None:
        self._url = url
        self._pool = pool
        self._timeouts = dict(timeouts)

    @contextlib.asynccontextmanager
    async def request(
        self, method: str, target: bytes, fields: Fields, body: AsyncIterator[bytes] | None
    ) -> AsyncIterator[httpcore.Response]:
        """Send a request, and yield the answer when its fields are there.

        `target` and `fields` are sent as they are. Raises the exceptions of httpcore, and what `body` raises.
        """
        extensions = {"timeout": self._timeouts, "target": target}
        request = httpcore.Request(method, self._url, headers=fields, content=body, extensions=extensions)
        answer = await self._pool.handle_async_request(request)
        try:
            yield answer
        finally:
            await answer.aclose()


@contextlib.asynccontextmanager
async def open_upstream(url: str, settings: GatewaySettings) -> AsyncIterator[Upstream]:
    """Yield the service at `url`; its connections are closed at the end."""
    timeouts = {
        "connect": settings.connect_timeout_seconds,
        "pool": settings.connect_timeout_seconds,
        "read": settings.answer_timeout_seconds,
        "write": settings.answer_timeout_seconds,
    }
    async with httpcore.AsyncConnectionPool(
        max_connections=settings.max_connections,
        keepalive_expiry=settings.keep_alive_seconds,
        network_backend=_Sockets(),
    ) as pool:
        yield Upstream(url, pool, timeouts)


class _Sockets(httpcore.AsyncNetworkBackend):
    """Opens sockets for httpcore."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                return _SocketStream(await _connect(host, port))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error


class _SocketStream(httpcore.AsyncNetworkStream):
    """Reads and writes one socket.

    httpcore's own stream loses an answer that a service sends before it has read the whole body,
    and closes after it: the failed write discards what arrived. A bare socket keeps it.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)
        self._request_is_cut = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        try:
            async with asyncio.timeout(timeout):
                return await self._loop.sock_recv(self._socket, max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        if not buffer:
            return
        if self._is_readable():
            # No service reads on after it has begun to answer: httpcore goes over to reading.
            self._request_is_cut = True
            raise httpcore.WriteError("answered before the end of the request")
        try:
            async with asyncio.timeout(timeout):
                await self._loop.sock_sendall(self._socket, buffer)
        except TimeoutError as error:
            raise httpcore.WriteTimeout from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        self._socket.close()

    def get_extra_info(self, info: str) -> Any:
        # httpcore takes no idle connection up again that can be read. It would take up one that lacks no more
        # than the mark of a body's end, and the service would read the next request as more of that body.
        return self._request_is_cut or self._is_readable() if info == "is_readable" else None

    def _is_readable(self) -> bool:
        return bool(self._poll.poll(0))


async def _connect(host: str, port: int) -> socket.socket:
    """Connect to the first address of `host` that takes the connection."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connected = socket.socket(family, kind, protocol)
        try:
            connected.setblocking(False)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(connected, address)
        except OSError as error:
            connected.close()
            failure = error
        except BaseException:
            connected.close()
            raise
        else:
            return connected
    raise failure or OSError(f"no address for {host}")
