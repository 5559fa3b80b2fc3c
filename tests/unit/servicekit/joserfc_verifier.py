"""An independent verifier with the policy of `servicekit.tokens`, made of joserfc's own parts."""

from typing import Any

from joserfc import jwt
from joserfc.errors import InvalidClaimError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry
from servicekit.token_form import MAX_TOKEN_BYTES
from servicekit.tokens import MAX_CLOCK_SKEW_SECONDS

from tests.issuer import AUDIENCE, ISSUER
from tests.unit.servicekit.forging import KEYS

ALGORITHMS = ["RS256", "ES256"]


class AccessTokenClaims(jwt.JWTClaimsRegistry):
    """RFC 9068's claims: joserfc calls a method for each that is there."""

    def validate_client_id(self, value: object) -> None:
        self._check_text("client_id", value)

    def validate_scope(self, value: object) -> None:
        self._check_text("scope", value)

    def validate_sid(self, value: object) -> None:
        self._check_text("sid", value)

    def _check_text(self, name: str, value: object) -> None:
        if not isinstance(value, str):
            raise InvalidClaimError(name)
        self.check_value(name, value)


KEY_SET = KeySet.import_key_set({"keys": [dict(key.public_document) for key in KEYS.values()]})
CLAIMS = AccessTokenClaims(
    leeway=MAX_CLOCK_SKEW_SECONDS,
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True, "value": AUDIENCE},
    exp={"essential": True},
    iat={"essential": True},
    sub={"essential": True},
    jti={"essential": True},
    client_id={"essential": True},
    scope={"essential": True, "allow_blank": True},
    sid={"essential": False},
)


def accepts(token: str) -> bool:
    """Tell whether joserfc takes the token: two algorithms, keys by `kid`, `typ` by RFC 9068, the claims above."""
    if len(token) > MAX_TOKEN_BYTES:
        return False
    try:
        decoded = jwt.decode(token, KEY_SET, registry=JWSRegistry(algorithms=ALGORITHMS))
        CLAIMS.validate(decoded.claims)
    # joserfc lets some of the standard library's errors through.
    except (JoseError, ValueError, TypeError, RecursionError):
        return False
    header: dict[str, Any] = decoded.header
    return "kid" in header and str(header.get("typ")).lower() in {"at+jwt", "application/at+jwt"}
