"""What schemathesis cannot make up: pictures that are pictures, headers that fit what is stored."""

import base64
import contextlib
import io
import itertools
import json
import os
import uuid
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from hypothesis import strategies as st
from PIL import Image
from servicekit.tokens import SigningKey

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


# What of a client has to go together, one of each kind in turn; keys have to be keys.
UNSIGNED: dict[str, Any] = {"first_party": False, "jwks": None, "jwks_uri": None, "service_account": None}
SIGNED = UNSIGNED | {"token_endpoint_auth_method": "private_key_jwt", "grant_types": ["client_credentials"]}
CLIENTS = itertools.cycle(
    [
        UNSIGNED | {"token_endpoint_auth_method": "client_secret_basic", "grant_types": ["client_credentials"]},
        UNSIGNED
        | {"token_endpoint_auth_method": "none", "grant_types": ["password", "refresh_token"], "first_party": True},
        SIGNED | {"jwks": [SigningKey.generate("ES256").public_document]},
        UNSIGNED
        | {"token_endpoint_auth_method": "client_secret_post", "grant_types": ["client_credentials", "refresh_token"]},
        SIGNED | {"jwks_uri": "https://keys.example/jwks.json"},
        SIGNED | {"service_account": "reports:nightly"},
    ]
)


SIGN_IN = {
    "grant_type": "password",
    "username": os.environ["PINHOLE_USERNAME"],
    "password": os.environ["PINHOLE_PASSWORD"],
}


@schemathesis.auth(refresh_interval=None)
class Administrator:
    """Signs in, and signs in anew where what was made up has ended the session."""

    account_id = ""

    def __init__(self) -> None:
        self._http = httpx.Client(base_url=os.environ["PINHOLE_URL"], timeout=30)
        self._token = "none yet"

    def get(self, _case: "schemathesis.Case[Any]", _context: schemathesis.AuthContext) -> str:
        headers = {"Authorization": f"Bearer {self._token}"}
        if self._http.get("/sessions", headers=headers).status_code != 200:
            self._token = str(self._http.post("/token", data=SIGN_IN).raise_for_status().json()["access_token"])
            Administrator.account_id = json.loads(base64.urlsafe_b64decode(self._token.split(".")[1] + "=="))["sub"]
        return self._token

    def set(self, case: "schemathesis.Case[Any]", token: str, _context: schemathesis.AuthContext) -> None:
        case.headers["Authorization"] = f"Bearer {token}"


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: "schemathesis.Case[Any]", _kwargs: dict[str, Any]) -> None:
    """Put into requests that shall succeed what no schema can tell from what is refused.

    Cursors are sealed, and none can be guessed; passwords have to be hard to guess; and a
    microsecond is a valid time limit, which gives a 504 that is no error of ours. Who asks is left
    alone: renamed, disabled or without their roles they could ask for nothing more.
    """
    with contextlib.suppress(KeyError, ValueError):
        if 0 < float(case.headers["X-Request-Timeout"]) <= 300:
            case.headers["X-Request-Timeout"] = "60"
    if case.path_parameters and case.path_parameters.get("user_id") == Administrator.account_id:
        case.path_parameters["user_id"] = str(uuid.uuid4())
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if case.path == "/users/me" and isinstance(case.body, dict):
        for name in ("username", "roles", "disabled"):
            case.body.pop(name, None)
    if case.path == "/users" and case.query:
        case.query.pop("cursor", None)
    if case.path in {"/clients", "/clients/{client_id}"} and isinstance(case.body, dict):
        case.body |= next(CLIENTS)
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
    if case.path == "/token" and isinstance(case.body, dict) and case.body.get("grant_type") == "password":
        # Nobody guesses a password, and only who has tokens can go on from them.
        case.body = dict(SIGN_IN)
