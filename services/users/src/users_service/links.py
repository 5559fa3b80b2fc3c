"""What the answers of this service lead to, for its OpenAPI document."""

from servicekit.links import link, links_to

_ACCOUNT = "/users/{user_id}"
_USER_ID = "$response.body#/id"
_OPERATIONS = {"GET": "read", "PUT": "replace", "PATCH": "change", "DELETE": "delete"}

CREATED_ACCOUNT = {
    **links_to(_ACCOUNT, _OPERATIONS, user_id=_USER_ID),
    "reset password": link("POST", f"{_ACCOUNT}/password", user_id=_USER_ID),
}
DELETED_ACCOUNT = {"restore": link("POST", f"{_ACCOUNT}/restore", user_id=_USER_ID)}
OWN_ACCOUNT = {"read by id": link("GET", _ACCOUNT, user_id=_USER_ID)}
