"""Forms with a picture: whatever the chunks are, the same file; and what is no such form."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_service.errors import InvalidUpload
from inference_service.forms import FileForm

CONTENT_TYPE = "multipart/form-data; boundary=b"


def _fed(form: bytes, *, content_type: str = CONTENT_TYPE, size: int = 1000) -> FileForm:
    parser = FileForm(content_type, "file")
    for start in range(0, len(form), size):
        parser.feed(form[start : start + size])
    return parser


def _part(headers: str, body: bytes) -> bytes:
    return b"--b\r\n" + headers.encode() + b"\r\n\r\n" + body + b"\r\n"


@given(
    data=st.binary() | st.lists(st.sampled_from([b"\r\n", b"--b", b"-", b"x"])).map(b"".join), size=st.integers(1, 50)
)
def test_the_file_is_what_was_sent_however_it_comes(data: bytes, size: int) -> None:
    request = httpx.Request("POST", "http://test", data={"note": "n"}, files={"other": b"o", "file": ("a b.png", data)})
    form = _fed(request.read(), content_type=request.headers["content-type"], size=size)
    assert form.file() == data


@pytest.mark.parametrize(
    "headers",
    [
        'content-disposition: form-data; filename=""; name="file"',
        "CONTENT-DISPOSITION: form-data; name=file; filename=a",
        'Content-Type: image/png\r\nContent-Disposition: form-data; name="file"; filename="c:\\a.png"',
    ],
)
def test_headers_are_read_in_every_spelling(headers: str) -> None:
    assert _fed(_part(headers, b"x") + b"--b--").file() == b"x"


_FILE = 'Content-Disposition: form-data; name="file"; filename="a"'
_TEXT = 'Content-Disposition: form-data; name="file"'


@pytest.mark.parametrize(
    ("form", "detail"),
    [
        (b"--b--", "got 0"),
        (_part(_FILE, b"x") * 2 + b"--b--", "got 2"),
        (_part(_FILE, b"x") + _part(_TEXT, b"x") + b"--b--", "got 2"),
        (_part(_TEXT, b"x") + b"--b--", "got text"),
        (_part(_FILE, b"x"), "cut short"),
        (_part("Content-Disposition: form-data", b"x") + b"--b--", "a name"),
        (_part("Content-Type: image/png", b"x") + b"--b--", "a name"),
        (_part('Content-Disposition: form-data; name="x"', b"") * 101 + b"--b--", "up to 100 parts"),
        (_part("X: " + "x" * 10_000, b"x"), "not a form"),
        (b"what is this", "not a form"),
    ],
)
def test_what_is_no_form_with_one_file_is_refused(form: bytes, detail: str) -> None:
    with pytest.raises(InvalidUpload) as refused:
        _fed(form).file()
    assert detail in refused.value.errors[0].detail


@pytest.mark.parametrize(
    ("content_type", "detail"),
    [
        ("multipart/form-data", "boundary"),
        ("multipart/form-data; boundary=", "boundary"),
        (f"multipart/form-data; boundary={'b' * 300}", "too long"),
    ],
)
def test_a_boundary_that_is_none_is_refused(content_type: str, detail: str) -> None:
    with pytest.raises(InvalidUpload) as refused:
        FileForm(content_type, "file")
    assert detail in refused.value.errors[0].detail
