"""The grants: what a client gives, and the tokens that it gets for it."""

from servicekit.logs import get_logger

from auth_service.access_tokens import AccessTokens
from auth_service.accounts import Accounts
from auth_service.client_authentication import ClientAuthenticator
from auth_service.client_sessions import ClientSessions
from auth_service.clients import Client
from auth_service.errors import InvalidGrant
from auth_service.metrics import AuthMetrics
from auth_service.schemas import TokenResponse
from auth_service.scopes import ACCOUNT_SCOPES, narrow, parse_scope, scopes_of
from auth_service.sessions import Session, Sessions

log = get_logger(__name__)


class Grants:
    """Gives tokens.

    Users is asked before a transaction of ours begins and never inside one: a slow answer must
    not hold a lock, and a failed one must not have used up a refresh token.
    """

    def __init__(
        self,
        *,
        accounts: Accounts,
        clients: ClientAuthenticator,
        sessions: Sessions,
        client_sessions: ClientSessions,
        tokens: AccessTokens,
        access_token_seconds: int,
        metrics: AuthMetrics,
    ) -> None:
        self._accounts = accounts
        self._clients = clients
        self._sessions = sessions
        self._client_sessions = client_sessions
        self._tokens = tokens
        self._access_token_seconds = access_token_seconds
        self._metrics = metrics

    async def password(
        self,
        client: Client,
        *,
        username: str,
        password: str,
        scope: str | None,
        device: str | None,
        address: str,
    ) -> TokenResponse:
        """Start a session for whom the credentials belong to (RFC 6749 section 4.3).

        It is from a `device` of that name, at that `address`.

        Raises:
            InvalidScope: nothing of `scope` can be granted.
            InvalidGrant: the credentials are refused.
            TooManyRequests: they are not looked at.
            InvalidClient: the client was taken away meanwhile.
            TemporarilyUnavailable: users cannot say.
        """
        requested = parse_scope(scope)
        with self._metrics.login():
            account = await self._accounts.verify(username, password, address=address)
            if account is None:
                log.info("sign_in_refused", client_id=client.id)
                raise InvalidGrant("the user name or the password is wrong")
            granted = narrow(scopes_of(account.roles) & client.scopes, requested)
            session, refresh_token = await self._sessions.start(
                subject=str(account.id),
                client_id=client.id,
                scopes=granted,
                device=device,
                events_seen=account.last_event,
            )
            log.info("session_started", session_id=str(session.id), client_id=client.id)
            await self._clients.confirm(client, session.id)
        return self._answer(session, granted, refresh_token if "refresh_token" in client.grant_types else None)

    async def refresh(self, client: Client, *, refresh_token: str, scope: str | None) -> TokenResponse:
        """Continue a session (RFC 6749 section 6).

        The access token has what was granted at sign-in, less what the account has lost since
        and what `scope` leaves out. The new refresh token stands for the whole grant again.

        Raises:
            InvalidScope: nothing of `scope` can be granted.
            InvalidGrant: the token is refused, or the account is deleted or disabled.
            TemporarilyUnavailable: users cannot say; the token is not used up.
        """
        requested = parse_scope(scope)
        session = await self._sessions.find(refresh_token, client_id=client.id)
        account = await self._accounts.find(session.subject)
        if account is None:
            await self._sessions.end(session.id)
            raise InvalidGrant("the refresh token is not valid")
        granted = narrow(session.scopes & scopes_of(account.roles) & client.scopes, requested)
        successor = await self._sessions.rotate(refresh_token)
        return self._answer(session, granted, successor)

    async def client_credentials(self, client: Client, *, scope: str | None) -> TokenResponse:
        """Give a client a token of its own (RFC 6749 section 4.4), and no refresh token: it can ask again.

        Raises:
            InvalidScope: nothing of `scope` can be granted.
            InvalidClient: the client or its credential was taken away meanwhile.
            DatabaseUnavailable: nothing can be stored now.
        """
        granted = narrow(client.scopes - ACCOUNT_SCOPES, parse_scope(scope))
        session_id = await self._client_sessions.current(client)
        await self._clients.confirm(client, session_id)
        return self._answer(Session(session_id, client.id, client.id, client.scopes), granted, None)

    def _answer(self, session: Session, granted: frozenset[str], refresh_token: str | None) -> TokenResponse:
        access_token = self._tokens.issue(
            subject=session.subject,
            client_id=session.client_id,
            scopes=granted,
            lifetime_seconds=self._access_token_seconds,
            session_id=session.id,
        )
        return TokenResponse(
            access_token=access_token,
            token_type="Bearer",  # noqa: S106 - the name of a scheme
            expires_in=self._access_token_seconds,
            refresh_token=refresh_token,
            scope=" ".join(sorted(granted)),
        )
