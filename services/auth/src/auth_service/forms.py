"""The form body of an OAuth request, read by the rules of RFC 6749 section 3.2."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from fastapi import Request
from servicekit.problem import BodyTooSlow
from servicekit.typed_text import holds_control

from auth_service.errors import FormTooLarge, FormTooSlow, InvalidRequest
from auth_service.schemas import MAX_PARAMETERS

MAX_FORM_BYTES = 16 * 1024
"""As JSON it stays under the limit of users, whatever has to be escaped in it."""

Form = Mapping[str, str]


async def read_form(request: Request) -> Form:
    """Return the parameters of the body by name; one without a value counts as left out, but for a password.

    Raises:
        InvalidRequest: the body is not a form, or a parameter stands in it twice.
        FormTooLarge: the body passes `MAX_FORM_BYTES`; the rest is not read.
        FormTooSlow: it did not come in time.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise InvalidRequest("expected a body of type application/x-www-form-urlencoded")
    return _parse(await _read_body(request))


def required(form: Form, name: str) -> str:
    """Return a parameter that has to be there.

    Raises:
        InvalidRequest: it is missing.
    """
    if name not in form:
        raise InvalidRequest(f"{name} is missing")
    return form[name]


def required_text(form: Form, name: str) -> str:
    """Return a parameter that a person typed.

    Raises:
        InvalidRequest: it is missing, or holds a control character (RFC 6749 appendix A).
    """
    value = required(form, name)
    if holds_control(value):
        raise InvalidRequest(f"{name} holds a control character")
    return value


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_FORM_BYTES:
        raise FormTooLarge(f"the limit is {MAX_FORM_BYTES} bytes")
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_FORM_BYTES:
                raise FormTooLarge(f"the limit is {MAX_FORM_BYTES} bytes")
    except BodyTooSlow as slow:
        raise FormTooSlow(str(slow)) from None
    return bytes(body)


def _parse(body: bytes) -> Form:
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise InvalidRequest("the form cannot be read") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise InvalidRequest("a parameter is repeated")
    # An empty password is typed, as a wrong one is: it is counted, costs a hash and gets the same answer.
    return {name: value for name, value in form.items() if value or name == "password"}
