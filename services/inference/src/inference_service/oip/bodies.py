"""Bodies of the inference protocol: read under a limit, unpacked where they are compressed."""

import asyncio
import zlib
from collections.abc import Callable, Sequence

from fastapi import Request

from inference_service.bodies import declared_length, feed_body, too_large
from inference_service.executors import AT_ONCE_BYTES
from inference_service.oip.errors import BadRequest, UnknownEncoding

_WINDOW_BITS = {"gzip": 31, "deflate": 15}
"""Of zlib. What HTTP calls deflate has the header of zlib (RFC 9110, section 8.4.1.2)."""


async def read_body(request: Request, *, max_bytes: int, count: Callable[[int], object] = lambda _: None) -> bytes:
    """Return the body as it was before it was compressed; `count` is told of its bytes as they come.

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
    if encoding != "identity" and encoding not in _WINDOW_BITS:
        raise UnknownEncoding("expected a body that is not compressed, or is with gzip or deflate")
    chunks: list[bytes] = []

    def feed(chunk: bytes) -> None:
        chunks.append(chunk)
        count(len(chunk))

    await feed_body(request, feed, limit=max_bytes, max_bytes=max_bytes)
    return b"".join(chunks if encoding == "identity" else await _unpacked(chunks, encoding, max_bytes, count))


async def _unpacked(
    chunks: Sequence[bytes], encoding: str, max_bytes: int, count: Callable[[int], object]
) -> list[bytes]:
    """Unpack bit by bit, so that others have their turn: 32 kB may become 32 MB, which takes a quarter of a second."""
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    pieces: list[bytes] = []
    size, counted = 0, sum(map(len, chunks))
    for chunk in chunks:
        packed = chunk
        while packed:
            try:
                pieces.append(stream.decompress(packed, AT_ONCE_BYTES))
            except zlib.error:
                raise BadRequest(f"the body is not {encoding}, as it says") from None
            size += len(pieces[-1])
            if size > max_bytes:
                raise too_large(max_bytes)
            if stream.unused_data:
                raise BadRequest("there are data after the compressed body")
            count(max(0, size - counted))
            counted = max(size, counted)
            packed = stream.unconsumed_tail
            await asyncio.sleep(0)
    if not stream.eof:
        raise BadRequest("the compressed body is cut short")
    return pieces
