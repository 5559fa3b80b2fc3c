"""What schemathesis cannot make up: pictures that are pictures, headers that fit what is stored."""

import io
import uuid
from pathlib import Path

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
