"""The picture in the body of a request, read under a limit and never to a file."""

from collections.abc import Callable
from typing import Any

from fastapi import Request
from servicekit.problem import UnsupportedMediaType

from inference_service.bodies import declared_length, feed_body, too_large
from inference_service.forms import FileForm

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")
FILE_FIELD = "file"
MULTIPART_OVERHEAD_BYTES = 64 * 1024
"""What a form may have around the picture: boundaries, headers, other fields."""

_BINARY = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "A PNG, JPEG, WebP or GIF picture: as the field `file` of a form, or by itself.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FILE_FIELD],
                "properties": {FILE_FIELD: _BINARY["schema"]},
            },
            "encoding": {FILE_FIELD: {"contentType": ", ".join(IMAGE_TYPES)}},
        },
        **dict.fromkeys((*IMAGE_TYPES, "application/octet-stream"), _BINARY),
    },
}
"""What `read_upload` takes, for OpenAPI: a declared body would be read before the caller is known."""


async def read_upload(request: Request, *, max_bytes: int, count: Callable[[int], object]) -> bytes:
    """Return the picture in the body, as it was encoded; `count` is told of each chunk of bytes.

    Raises:
        UnsupportedMediaType: the body is neither a form nor a picture by its content type.
        ContentTooLarge: the picture passes `max_bytes`; what was not read by then is not.
        InvalidUpload: the form is broken, or has not one file in `file`.
        BodyTooSlow: it did not come in time.
        CallerLeft: the connection was closed before the end of the body.
    """
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    is_form = media_type == "multipart/form-data"
    if not is_form and not media_type.startswith("image/") and media_type != "application/octet-stream":
        raise UnsupportedMediaType("expected multipart/form-data, image/* or application/octet-stream")
    limit = max_bytes + MULTIPART_OVERHEAD_BYTES if is_form else max_bytes
    if declared_length(request) > limit:
        raise too_large(max_bytes)
    chunks: list[bytes] = []
    form = FileForm(content_type, FILE_FIELD) if is_form else None
    keep = chunks.append if form is None else form.feed

    def feed(chunk: bytes) -> None:
        count(len(chunk))
        keep(chunk)

    await feed_body(request, feed, limit=limit, max_bytes=max_bytes)
    data = b"".join(chunks) if form is None else form.file()
    if len(data) > max_bytes:
        raise too_large(max_bytes)
    return data
