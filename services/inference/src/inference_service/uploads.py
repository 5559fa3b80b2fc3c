"""The picture in the body of a request, read under a limit and never to a file."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from fastapi import Request
from servicekit.problem import ContentTooLarge, UnsupportedMediaType
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from inference_service.errors import CallerLeft, InvalidUpload

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")
FILE_FIELD = "file"
MULTIPART_OVERHEAD_BYTES = 64 * 1024
"""What a form may have around the picture: boundaries, headers, other fields."""
_MAX_PARTS = 100

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


def declared_length(request: Request) -> int:
    """Return the size of the body that the caller declares, in bytes, or 0."""
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isdecimal() else 0


async def read_upload(request: Request, *, max_bytes: int, count: Callable[[int], object]) -> bytes:
    """Return the picture in the body, as it was encoded; `count` is told of each chunk of bytes.

    Raises:
        UnsupportedMediaType: the body is neither a form nor a picture by its content type.
        ContentTooLarge: the picture passes `max_bytes`; what was not read by then is not.
        InvalidUpload: the form is broken, or has not one file in `file`.
        CallerLeft: the connection was closed before the end of the body.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_form = media_type == "multipart/form-data"
    if not is_form and not media_type.startswith("image/") and media_type != "application/octet-stream":
        raise UnsupportedMediaType("expected multipart/form-data, image/* or application/octet-stream")
    limit = max_bytes + MULTIPART_OVERHEAD_BYTES if is_form else max_bytes
    if declared_length(request) > limit:
        raise too_large(max_bytes)
    try:
        async with aclosing(limited_stream(request, limit, max_bytes, count)) as stream:
            return await _read_form(request, stream, max_bytes) if is_form else await _read_all(stream)
    except ClientDisconnect:
        raise CallerLeft("the connection was closed before the end of the body") from None


async def limited_stream(
    request: Request, limit: int, max_bytes: int, count: Callable[[int], object]
) -> AsyncGenerator[bytes, None]:
    """Yield the body up to `limit` bytes; `count` is told of each chunk.

    Raises:
        ContentTooLarge: there are more; it names `max_bytes`.
        ClientDisconnect: the connection was closed before the end.
    """
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limit:
            raise too_large(max_bytes)
        count(len(chunk))
        yield chunk


async def _read_all(stream: AsyncGenerator[bytes, None]) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def _read_form(request: Request, stream: AsyncGenerator[bytes, None], max_bytes: int) -> bytes:
    parser = _FormParser(request.headers, stream, max_files=_MAX_PARTS, max_fields=_MAX_PARTS)
    try:
        form = await parser.parse()
        if not parser.is_whole:
            raise InvalidUpload("body", "the form is cut short")
        return await _the_file(form, max_bytes)
    except MultiPartException as error:
        raise InvalidUpload("body", error.message) from None
    except UnicodeError:  # some codecs that a form may name raise it for any text
        raise InvalidUpload("body", "the charset of the form does not fit its text") from None
    finally:
        parser.close()


class _FormParser(MultiPartParser):
    """Keeps files in memory, closes them all, and knows whether the form came to its end."""

    spool_max_size = 0  # no limit: the stream has one

    is_whole = False

    def on_end(self) -> None:
        self.is_whole = True

    def close(self) -> None:
        for file in self._files_to_close_on_error:  # a file that is cut short is in no other list
            file.close()


async def _the_file(form: FormData, max_bytes: int) -> bytes:
    files = form.getlist(FILE_FIELD)
    if len(files) != 1:
        raise InvalidUpload(f"body.{FILE_FIELD}", f"expected one file, got {len(files)}")
    [file] = files
    if not isinstance(file, UploadFile):
        raise InvalidUpload(f"body.{FILE_FIELD}", "expected a file, got text: its part has no file name")
    data = await file.read()
    if len(data) > max_bytes:
        raise too_large(max_bytes)
    return data


def too_large(max_bytes: int) -> ContentTooLarge:
    """Return what a caller is told whose body passes `max_bytes`."""
    return ContentTooLarge(f"the limit is {max_bytes} bytes")
