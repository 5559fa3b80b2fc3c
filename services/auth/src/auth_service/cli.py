"""`pinhole-auth`: what an operator does at the machine, with the settings of the service."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from servicekit.auth import SCOPES
from servicekit.command_line import CommandLine, say
from servicekit.database import Database, utc_now

from auth_service.client_registry import ClientRegistry
from auth_service.client_schemas import ClientResponse, NewSecretResponse
from auth_service.clients import NewClient
from auth_service.key_rotation import signing_keys_of
from auth_service.metrics import AuthMetrics
from auth_service.revocations import Revocations
from auth_service.sessions import MAX_LISTED, Sessions
from auth_service.settings import AuthSettings
from auth_service.signing_keys import states

EVERYTHING = frozenset(SCOPES)
"""Who has the machine may do all."""

SOON = timedelta(seconds=3)
"""Until every service has heard of a new key."""

PAGE_SIZE = 100

OPTIONS: dict[str, Any] = {"no_args_is_help": True, "pretty_exceptions_enable": False, "add_completion": False}
app = typer.Typer(help=__doc__, **OPTIONS)
clients_app = typer.Typer(help="OAuth clients.", **OPTIONS)
sessions_app = typer.Typer(help="Where people are signed in.", **OPTIONS)
app.add_typer(clients_app, name="clients")
app.add_typer(sessions_app, name="sessions")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of sentences.")]
Account = Annotated[UUID, typer.Option("--user", help="The id of an account, as `GET /users` tells it.")]
command_line = CommandLine(AuthSettings)


@app.command("keys")
def list_keys(as_json: Json = False) -> None:
    """List the signing keys and their states."""

    async def read(database: Database, settings: AuthSettings) -> list[dict[str, str]]:
        keys = signing_keys_of(database, settings)
        times = sorted(await keys.list_times(), key=lambda key: (key.active_from, key.id))
        current = states(times, utc_now(), overlap=keys.overlap)
        return [
            {
                "kid": key.id,
                "algorithm": key.algorithm,
                "state": current[key.id],
                "created_at": key.created_at.isoformat(),
                "active_from": key.active_from.isoformat(),
            }
            for key in times
        ]

    keys = command_line.run(read)
    lines = [f"{key['kid']}  {key['algorithm']}  {key['state']:9}  signs from {key['active_from']}" for key in keys]
    say("\n".join(lines) or "there are no keys yet", {"keys": keys}, as_json=as_json)


@app.command("rotate-keys")
def rotate_keys(
    now: Annotated[bool, typer.Option("--now", help="Let the new key sign as soon as every service has it.")] = False,
    activate: Annotated[str | None, typer.Option(metavar="KID", help="Let a published key sign now.")] = None,
    revoke: Annotated[
        str | None, typer.Option(metavar="KID", help="Give a compromised key up, and all tokens that it has signed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Publish a new signing key, which signs after AUTH_KEY_PUBLISH_SECONDS. Running services follow by themselves."""
    if sum((now, activate is not None, revoke is not None)) > 1:
        command_line.fail("--now, --activate and --revoke exclude each other")

    async def rotate(database: Database, settings: AuthSettings) -> tuple[str, str]:
        keys = signing_keys_of(database, settings)
        if activate is not None:
            await keys.activate(activate)
            return "activated", activate
        if revoke is not None:
            await keys.revoke(revoke)
            return "revoked", revoke
        return "published", await keys.publish(active_in=SOON if now else None)

    done, key_id = command_line.run(rotate)
    say(f"{done} {key_id}", {"kid": key_id, "done": done}, as_json=as_json)


@clients_app.command("list")
def list_clients(as_json: Json = False) -> None:
    """List the registered clients, and those of the settings as of the last start."""

    async def read(database: Database, _settings: AuthSettings) -> list[ClientResponse]:
        registry, found, after = ClientRegistry(database), [], ""
        while page := await registry.list_clients(after=after, limit=PAGE_SIZE):
            found += [ClientResponse.of(row) for row in page]
            after = page[-1].id
        return found

    found = command_line.run(read)
    lines = [f"{client.id}  {client.token_endpoint_auth_method}  {' '.join(client.scopes)}" for client in found]
    answer = {"clients": [client.model_dump(mode="json") for client in found]}
    say("\n".join(lines) or "there are no clients", answer, as_json=as_json)


@clients_app.command("create")
def create_client(
    client_id: str,
    name: Annotated[str, typer.Option(help="For people.")],
    scope: Annotated[list[str], typer.Option(help="May be given more than once.")],
    grant_type: Annotated[list[str] | None, typer.Option(help="May be given more than once.")] = None,
    auth_method: Annotated[str, typer.Option(help="How it proves who it is.")] = "client_secret_basic",
    first_party: Annotated[bool, typer.Option("--first-party", help="People may type passwords into it.")] = False,
    jwks: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A JWK set of its public keys, for private_key_jwt."),
    ] = None,
    jwks_uri: Annotated[str | None, typer.Option(help="Where such a set is.")] = None,
    service_account: Annotated[str | None, typer.Option(help="namespace:name of a Kubernetes ServiceAccount.")] = None,
    as_json: Json = False,
) -> None:
    """Register a client. Its secret is printed this once, and only its hash is kept."""

    async def create(database: Database, _settings: AuthSettings) -> tuple[str, str | None]:
        new = NewClient.model_validate(
            {
                "id": client_id,
                "name": name,
                "scopes": scope,
                "grant_types": grant_type or ["client_credentials"],
                "token_endpoint_auth_method": auth_method,
                "first_party": first_party,
                "jwks": None if jwks is None else _read_keys(jwks),
                "jwks_uri": jwks_uri,
                "service_account": service_account,
            }
        )
        row, secret = await ClientRegistry(database).register(new, scopes=EVERYTHING)
        return row.id, secret

    created, secret = command_line.run(create)
    sentence = f"registered {created}" + (f", with the secret {secret}" if secret else "")
    say(sentence, {"id": created, "secret": secret}, as_json=as_json)


@clients_app.command("rotate-secret")
def rotate_secret(
    client_id: str,
    old_expires_in_seconds: Annotated[
        int, typer.Option(min=0, help="For so long the present secret works beside the new one.")
    ] = 24 * 3600,
    as_json: Json = False,
) -> None:
    """Give a client another secret, which is printed this once."""

    async def rotate(database: Database, _settings: AuthSettings) -> NewSecretResponse:
        row, secret = await ClientRegistry(database).rotate_secret(
            client_id, old_lasts=timedelta(seconds=old_expires_in_seconds), scopes=EVERYTHING
        )
        return NewSecretResponse.of(row, secret)

    new = command_line.run(rotate)
    say(f"{client_id} has the new secret {new.secret}", new.model_dump(mode="json"), as_json=as_json)


@clients_app.command("end-secret")
def end_secret(client_id: str, secret_id: UUID, as_json: Json = False) -> None:
    """End a secret with the tokens that it gave; `clients list --json` tells the ids."""

    async def end(database: Database, _settings: AuthSettings) -> None:
        await ClientRegistry(database).end_secret(client_id, secret_id, scopes=EVERYTHING)

    command_line.run(end)
    say(f"ended {secret_id}", {"id": str(secret_id)}, as_json=as_json)


@clients_app.command("delete")
def delete_client(client_id: str, as_json: Json = False) -> None:
    """Forget a client, with its tokens and those of its users."""

    async def delete(database: Database, _settings: AuthSettings) -> None:
        await ClientRegistry(database).delete(client_id, scopes=EVERYTHING)

    command_line.run(delete)
    say(f"deleted {client_id}", {"id": client_id}, as_json=as_json)


@sessions_app.command("list")
def list_sessions(user: Account, as_json: Json = False) -> None:
    """List where somebody is signed in, the last used session first."""

    async def read(database: Database, settings: AuthSettings) -> list[dict[str, str | None]]:
        rows = await Sessions(database, settings.lifetimes, AuthMetrics(None)).list_live(str(user))
        return [
            {
                "id": str(row.id),
                "client_id": row.client_id,
                "device": row.device,
                "last_used_at": row.last_used_at.isoformat(),
            }
            for row in rows
        ]

    found = command_line.run(read)
    lines = [f"{session['id']}  {session['client_id']}  last used {session['last_used_at']}" for session in found]
    if len(lines) == MAX_LISTED:
        lines.append("and perhaps more")
    say("\n".join(lines) or "no session goes on", {"sessions": found}, as_json=as_json)


@sessions_app.command("end")
def end_sessions(user: Account, as_json: Json = False) -> None:
    """Sign somebody out everywhere, within two seconds."""

    async def end(database: Database, settings: AuthSettings) -> int:
        revocations = Revocations(database, access_token_seconds=settings.access_token_seconds)
        return await revocations.end_all(str(user))

    ended = command_line.run(end)
    say(f"{ended} sessions have ended", {"ended": ended}, as_json=as_json)


def _read_keys(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))["keys"]
    except (OSError, ValueError, KeyError, TypeError):
        command_line.fail(f"{file}: expected a JWK set")


if __name__ == "__main__":
    app()
