"""HTTPS through a real ingress controller: the certificate is that of the Secret that the values name, and is verified.

E2E_INGRESS_TLS is where the ingress controller answers by TLS (https://127.0.0.1:8443).
"""

import base64
import os
import ssl
from collections.abc import Iterator

import httpx
import pytest

from tests.certificates import Authority
from tests.cluster.releases import Release, apply, echo, needs, read, release, without_database

NAME = "pinhole-scale-https"
HOST = f"{NAME}.localhost"
CERTIFICATE = "certificate-of-ours"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def installed(authority: Authority) -> Iterator[Release]:
    needs(bool(read("ingressclasses")["items"]), "ingress controller")
    with release(NAME) as found:
        certificate, key = (base64.b64encode(part).decode() for part in authority.issue(HOST))
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": CERTIFICATE, "namespace": found.namespace},
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": certificate, "tls.key": key},
        }
        services = {
            "auth": without_database("auth"),
            "users": without_database("users"),
            "inference": echo("inference"),
        }
        ingress = {"tls": {"secretName": CERTIFICATE}}
        url = {"publicUrl": f"https://{HOST}"}
        apply(secret)
        found.install({"global": url, "postgresql": {"enabled": False}, "ingress": ingress, **services})
        yield found


def client(context: ssl.SSLContext) -> httpx.Client:
    return httpx.Client(base_url=os.environ.get("E2E_INGRESS_TLS", "https://127.0.0.1:8443"), verify=context)


def ask(http: httpx.Client, path: str) -> httpx.Response:
    """Ask for a path of `HOST`, whose certificate has to be for that name."""
    return http.get(path, headers={"Host": HOST}, extensions={"sni_hostname": HOST})


@pytest.mark.parametrize(("path", "service"), [("/token", "auth"), ("/users", "users"), ("/predict", "inference")])
def test_who_trusts_the_authority_reaches_each_service(
    installed: Release, authority: Authority, path: str, service: str
) -> None:
    with client(ssl.create_default_context(cadata=authority.pem)) as http:

        def answer() -> httpx.Response | None:
            try:
                response = ask(http, path)
            except httpx.ConnectError:  # a certificate of its own, until the controller has read ours
                return None
            return response if response.status_code == 200 else None

        found = installed.until("an answer by HTTPS", answer)
    assert found.json() == {"service": service, "path": path}


def test_who_trusts_another_authority_is_not_answered(installed: Release) -> None:
    with (
        client(ssl.create_default_context(cadata=Authority().pem)) as http,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        ask(http, "/token")
