"""What auth asks before it issues a token. Never routed from outside."""

from fastapi import APIRouter

from users_service import accounts, credentials
from users_service.dependencies import DatabaseDep, PasswordsDep, Service, SessionDep
from users_service.errors import UserNotFound
from users_service.schemas import Credentials, Identity, Verification

router = APIRouter(prefix="/internal", include_in_schema=False)


@router.post("/credentials/verify")
async def verify_credentials(
    body: Credentials, _caller: Service, database: DatabaseDep, passwords: PasswordsDep
) -> Verification:
    """Tell whose credentials these are; null whatever the reason not to let somebody in."""
    account = await credentials.verify(database, passwords, body.username, body.password.get_secret_value())
    return Verification(account=None if account is None else Identity.model_validate(account))


@router.get("/accounts/{account_id}")
async def read_identity(account_id: str, _caller: Service, session: SessionDep) -> Identity:
    """Return the roles of an account that may still be used; unknown, deleted and disabled are 404."""
    account = await accounts.find(session, account_id)
    if account.disabled:
        raise UserNotFound
    return Identity.model_validate(account)
