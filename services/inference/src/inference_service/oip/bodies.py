"""Bodies of the inference protocol: read under a limit, unpacked where they are compressed."""

import zlib
from collections.abc import Callable

from fastapi import Request

from inference_service.bodies import declared_length, feed_body, too_large
from inference_service.oip.errors import BadRequest, UnknownEncoding

_WINDOW_BITS = {"gzip": 31, "deflate": 15}
"""Of zlib. What HTTP calls deflate has the header of zlib (RFC 9110, section 8.4.1.2)."""


async def read_body(request: Request, *, max_bytes: int, count: Callable[[int], object] = lambda _: None) -> bytes:
    """Return the body as it was before it was compressed; `count` is told of each piece of it.

    Raises:
        UnknownEncoding: it is compressed in another way than with gzip or deflate.
        ContentTooLarge: it passes `max_bytes`, before or after it is unpacked.
        BadRequest: what is compressed is damaged or cut short.
        BodyTooSlow: it did not come in time.
        CallerLeft: the connection was closed before its end.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if declared_length(request) > max_bytes:
        raise too_large(max_bytes)
    unpack = _unpacker(encoding, max_bytes)
    pieces: list[bytes] = []

    def feed(chunk: bytes) -> None:
        pieces.append(unpack.feed(chunk))
        count(len(pieces[-1]))

    await feed_body(request, feed, limit=max_bytes, max_bytes=max_bytes)
    unpack.check_end()
    return b"".join(pieces)


class _Unpacker:
    """Passes on what is not compressed."""

    def feed(self, chunk: bytes) -> bytes:
        """Return what a piece of the body stands for."""
        return chunk

    def check_end(self) -> None:
        """Raise BadRequest where something is missing."""


class _Inflater(_Unpacker):
    """Unpacks up to `max_bytes`."""

    def __init__(self, encoding: str, max_bytes: int) -> None:
        self._encoding = encoding
        self._max_bytes = max_bytes
        self._room = max_bytes
        self._stream = zlib.decompressobj(_WINDOW_BITS[encoding])

    def feed(self, chunk: bytes) -> bytes:
        try:
            unpacked = self._stream.decompress(chunk, self._room + 1)
        except zlib.error:
            raise BadRequest(f"the body is not {self._encoding}, as it says") from None
        self._room -= len(unpacked)
        if self._room < 0:
            raise too_large(self._max_bytes)
        if self._stream.unused_data:
            raise BadRequest("there are data after the compressed body")
        return unpacked

    def check_end(self) -> None:
        if not self._stream.eof:
            raise BadRequest("the compressed body is cut short")


def _unpacker(encoding: str, max_bytes: int) -> _Unpacker:
    if encoding == "identity":
        return _Unpacker()
    if encoding not in _WINDOW_BITS:
        raise UnknownEncoding("expected a body that is not compressed, or is with gzip or deflate")
    return _Inflater(encoding, max_bytes)
