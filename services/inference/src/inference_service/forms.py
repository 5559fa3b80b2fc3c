"""Forms with a file, `multipart/form-data` (RFC 7578)."""

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from inference_service.errors import InvalidUpload

_MAX_PARTS = 100


class FileForm:
    """A form of which the one file in a field is kept, in memory, and nothing else.

    Its methods raise InvalidUpload where the form is broken, or has not one file there.
    """

    def __init__(self, content_type: str, field: str) -> None:
        """Take the content type of the form, which has its boundary, and the name of the field."""
        self._field = field
        self._files: list[list[bytes]] = []
        self._texts = 0  # in the field, without a file name
        self._parts = 0
        self._chunks: list[bytes] | None = None  # of the part that is read, where it is kept
        self._header_name = self._header_value = self._disposition = b""
        self._is_whole = False
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise InvalidUpload("body", "expected the boundary of the form in its content type")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_end": self._on_end,
                },
            )
        except FormParserError:
            raise InvalidUpload("body", "the boundary of the form is too long") from None

    def feed(self, chunk: bytes) -> None:
        """Take in some more of the form."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise InvalidUpload("body", "it is not a form as its content type says") from None

    def file(self) -> bytes:
        """Return the file, after the last chunk."""
        if not self._is_whole:
            raise InvalidUpload("body", "the form is cut short")
        if len(self._files) + self._texts != 1:
            raise self._invalid(f"expected one file, got {len(self._files) + self._texts}")
        if self._texts:
            raise self._invalid("expected a file, got text: its part has no file name")
        return b"".join(self._files[0])

    def _invalid(self, detail: str) -> InvalidUpload:
        return InvalidUpload(f"body.{self._field}", detail)

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise InvalidUpload("body", f"expected up to {_MAX_PARTS} parts")
        self._chunks, self._disposition = None, b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        options = parse_options_header(self._disposition.decode("latin-1"))[1]
        if b"name" not in options:
            raise InvalidUpload("body", "expected a name in the Content-Disposition of each part")
        if options[b"name"] != self._field.encode():
            return
        if b"filename" in options:
            self._chunks = []
            self._files.append(self._chunks)
        else:
            self._texts += 1

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._chunks is not None:
            self._chunks.append(data[start:end])

    def _on_end(self) -> None:
        self._is_whole = True
