"""What schemathesis cannot make up: pictures that are pictures, headers that fit what is stored."""

import base64
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
PICTURE_IN_JSON = base64.b64encode(PICTURES["image/jpeg"]).decode()

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
        # They have to go together, and keys have to be keys.
        for name in ("token_endpoint_auth_method", "first_party", "grant_types", "jwks", "jwks_uri", "service_account"):
            case.body.pop(name, None)
    if isinstance(case.body, dict) and case.path in {"/token", "/oauth2/revoke", "/oauth2/introspect"}:
        # An assertion has to be signed, and stands in place of a secret.
        case.body.pop("client_assertion", None)
        case.body.pop("client_assertion_type", None)
    if case.path.endswith("/infer"):
        # Tensors whose shape, datatype and data fit each other; the length is of a body that is made up.
        case.headers.pop("Inference-Header-Content-Length", None)
        if isinstance(case.body, dict):
            case.body["inputs"] = [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [PICTURE_IN_JSON]}]
            parameters = case.body.get("parameters")
            if isinstance(parameters, dict):
                parameters.pop("timeout", None)
            case.body["outputs"] = [{"name": "probabilities", "parameters": {"classification": 5}}]
        else:
            case.headers["Inference-Header-Content-Length"] = "0"
    if isinstance(case.body, dict):
        for name in ("password", "new_password"):
            if isinstance(case.body.get(name), str):
                case.body[name] = f"{uuid.uuid4()}"
