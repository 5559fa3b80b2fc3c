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
    """Give the answer time: a microsecond is a valid timeout, and its 504 is no error of ours."""
    with contextlib.suppress(KeyError, ValueError):
        if 0 < float(case.headers["X-Request-Timeout"]) <= 300:
            case.headers["X-Request-Timeout"] = "60"
