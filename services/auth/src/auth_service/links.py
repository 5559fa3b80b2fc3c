"""What the answers of this service lead to, for its OpenAPI document."""

from servicekit.links import link, links_to

_CLIENT = "/clients/{client_id}"
_CLIENT_ID = "$response.body#/id"

TOKENS = {
    "refresh": link(
        "POST", "/token", body={"grant_type": "refresh_token", "refresh_token": "$response.body#/refresh_token"}
    ),
    "revoke": link("POST", "/oauth2/revoke", body={"token": "$response.body#/refresh_token"}),
    "introspect": link("POST", "/oauth2/introspect", body={"token": "$response.body#/access_token"}),
}
LISTED_SESSION = {"end": link("DELETE", "/sessions/{session_id}", session_id="$response.body#/sessions/0/id")}
REGISTERED_CLIENT = {
    **links_to(_CLIENT, {"GET": "read", "PATCH": "change", "DELETE": "delete"}, client_id=_CLIENT_ID),
    "rotate secret": link("POST", f"{_CLIENT}/secrets", client_id=_CLIENT_ID),
}
NEW_SECRET = {
    "end": link(
        "DELETE",
        f"{_CLIENT}/secrets/{{secret_id}}",
        client_id="$request.path.client_id",
        secret_id="$response.body#/id",  # noqa: S106 - where the id of one is found
    )
}
