"""What schemathesis cannot make up: pictures that are pictures, headers that fit what is stored."""

import contextlib
import io
import uuid
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image

DATA = Path(__file__).parents[1] / "data"


def encoded(format: str) -> bytes:
    """Return a small real picture in one of the formats that the service takes."""
    data = io.BytesIO()
    with Image.open(DATA / "coffee.png") as picture:
        picture.convert("RGB").resize((96, 64)).save(data, format)
    return data.getvalue()


PICTURES = {f"image/{name.lower()}": encoded(name) for name in ("PNG", "JPEG", "WEBP", "GIF")}

for media_type, picture in PICTURES.items():
    schemathesis.openapi.media_type(media_type, st.just(picture))
schemathesis.openapi.media_type("application/octet-stream", st.sampled_from(sorted(PICTURES.values())))

# The tags of accounts are known to who has read them; a key is for one request.
schemathesis.openapi.format("entity-tags", st.just("*"))
schemathesis.openapi.format("idempotency-key", st.builds(lambda: str(uuid.uuid4())))


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: "schemathesis.Case[Any]", _kwargs: dict[str, Any]) -> None:
    """Put into requests that shall succeed what no schema can tell from what is refused.

    Cursors are sealed, and none can be guessed; passwords have to be hard to guess; and a
    microsecond is a valid time limit, which gives a 504 that is no error of ours.
    """
    with contextlib.suppress(KeyError, ValueError):
        if 0 < float(case.headers["X-Request-Timeout"]) <= 300:
            case.headers["X-Request-Timeout"] = "60"
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if case.path == "/users" and case.query:
        case.query.pop("cursor", None)
    if case.path.startswith("/clients") and isinstance(case.body, dict):
        # A client's fields have to go together; and an id may be taken or look like an account's.
        if case.body.get("token_endpoint_auth_method") == "none" or case.method == "PATCH":
            case.body.pop("token_endpoint_auth_method", None)
        case.body.pop("first_party", None)
        case.body.pop("grant_types", None)
    if isinstance(case.body, dict):
        for name in ("password", "new_password"):
            if isinstance(case.body.get(name), str):
                case.body[name] = f"{uuid.uuid4()}"
