"""The body of a request, chunk by chunk, under a limit."""

from collections.abc import Callable

from fastapi import Request
from servicekit.problem import ContentTooLarge

from inference_service.errors import CallerLeft


def declared_length(request: Request) -> int:
    """Return the size of the body that the caller declares, in bytes, or 0."""
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isdecimal() else 0


async def feed_body(request: Request, feed: Callable[[bytes], object], *, limit: int, max_bytes: int) -> None:
    """Give `feed` each chunk of the body, up to `limit` bytes.

    Raises:
        ContentTooLarge: there are more; it names `max_bytes`.
        BodyTooSlow: they did not come in time.
        CallerLeft: the connection was closed before the end.
    """
    received = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise CallerLeft("the connection was closed before the end of the body")
        chunk = message.get("body", b"")
        received += len(chunk)
        if received > limit:
            raise too_large(max_bytes)
        feed(chunk)
        if not message.get("more_body", False):
            return


def too_large(max_bytes: int) -> ContentTooLarge:
    """Return what a caller is told whose body passes `max_bytes`."""
    return ContentTooLarge(f"the limit is {max_bytes} bytes")
