"""The revocation endpoint (RFC 7009)."""

from fastapi import APIRouter, Response

from auth_service.dependencies import ClientDep, FormDep, ProofDep, RevocationsDep, VerifierDep
from auth_service.errors import (
    NO_STORE,
    FormTooLarge,
    FormTooSlow,
    InvalidClient,
    InvalidGrant,
    InvalidRequest,
    TemporarilyUnavailable,
    TooManyRequests,
    oauth_error_responses,
)
from auth_service.forms import required
from auth_service.post_only import refuse_other_methods
from auth_service.schemas import REVOCATION_FORM

router = APIRouter(tags=["tokens"])


@router.post(
    "/oauth2/revoke",
    response_class=Response,
    responses=oauth_error_responses(
        InvalidRequest,
        InvalidGrant,
        InvalidClient,
        FormTooLarge,
        FormTooSlow,
        TooManyRequests,
        TemporarilyUnavailable,
    ),
    openapi_extra=REVOCATION_FORM,
)
async def revoke(
    proof: ProofDep, form: FormDep, client: ClientDep, revocations: RevocationsDep, verifier: VerifierDep
) -> Response:
    """Sign out: end the session that a refresh or access token belongs to, with all of its tokens.

    A token that is unknown or already over gets the same answer. `token_type_hint` changes nothing.
    """
    proof.is_given = client.credential_id is not None
    await revocations.revoke(required(form, "token"), client_id=client.id, verifier=verifier)
    return Response(headers=NO_STORE)


refuse_other_methods(router, "/oauth2/revoke")
