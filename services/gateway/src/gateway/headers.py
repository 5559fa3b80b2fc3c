"""Header fields on their way through: what is dropped, what is set, what frames a body."""

from opentelemetry import propagate
from starlette.types import Scope

Fields = list[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""Fields of one connection (RFC 9110 section 7.6.1)."""

_NOT_PASSED_UP = _HOP_BY_HOP | {
    b"content-length",  # set anew, so that `Connection: content-length` cannot take it away
    b"expect",  # answered here: the server sends 100 when the body is first read
    b"x-request-id",
    # This is the first hop: what a caller says of earlier ones is not to be believed.
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-forwarded-proto",
    b"x-real-ip",
}
_NOT_PASSED_DOWN = _HOP_BY_HOP | {
    b"date",  # our own server sets it
    b"x-request-id",  # and servicekit this
}


def content_length(scope: Scope) -> int | None:
    """Return the length of the request's body in bytes: None where it is not told beforehand.

    The server has refused a length that is not a number, and one that stands beside a transfer encoding.
    """
    fields = dict(scope["headers"])
    if b"transfer-encoding" in fields:
        return None
    return int(fields.get(b"content-length", b"0"))


def upstream_fields(scope: Scope, *, request_id: str) -> Fields:
    """Return the fields of the request that goes to the service.

    The host stays the caller's, as behind an Ingress: links that a service makes are public ones.
    """
    trace = _trace_fields()
    # Where the trace goes on here, the service's part follows on this one, not on the caller's.
    fields = _without(scope["headers"], _NOT_PASSED_UP | {name for name, _ in trace}) + trace
    received = dict(scope["headers"])
    host = received.get(b"host", b"")
    if not host and scope["http_version"] == "1.0":
        fields.append((b"host", host))  # then it may be left out; to a service it is always sent
    if b"transfer-encoding" in received:
        fields.append((b"transfer-encoding", b"chunked"))
    elif b"content-length" in received:
        fields.append((b"content-length", received[b"content-length"]))
    if scope["client"] is not None:
        fields.append((b"x-forwarded-for", scope["client"][0].encode("ascii")))
    fields.append((b"x-forwarded-host", host))
    fields.append((b"x-forwarded-proto", scope["scheme"].encode("ascii")))
    fields.append((b"x-request-id", request_id.encode("ascii")))
    return fields


def downstream_fields(received: Fields) -> Fields:
    """Return the fields of the answer that goes to the caller: order and duplicates stay."""
    return _without([(name.lower(), value) for name, value in received], _NOT_PASSED_DOWN)


def _trace_fields() -> Fields:
    """Return the fields that continue the running trace (W3C Trace Context): none where nothing is traced."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in carrier.items()]


def _without(fields: Fields, names: frozenset[bytes]) -> Fields:
    """Leave out `names`, and what the `Connection` field names. Names of `fields` are in lower case."""
    named = {option.strip().lower() for name, value in fields if name == b"connection" for option in value.split(b",")}
    return [(name, value) for name, value in fields if name not in names and name not in named]
