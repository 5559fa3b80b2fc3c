"""HTTPS through a real ingress controller: the certificate is that of the Secret that the values name, and is verified.

E2E_INGRESS_TLS is where the ingress controller answers by TLS (https://127.0.0.1:8443).
"""

import base64
import datetime
import os
import ssl
from collections.abc import Iterator

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cluster.releases import Release, apply, echo, needs, read, release, without_database

NAME = "pinhole-scale-https"
HOST = f"{NAME}.localhost"
CERTIFICATE = "certificate-of-ours"

pytestmark = pytest.mark.timeout(600)


class Authority:
    """Who signs certificates: one is made for each test run."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the tests")])
        ca = self._about(self._name, self._key).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"), False
        )
        usage |= {"key_agreement": False, "encipher_only": False, "decipher_only": False}
        ca = ca.add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), True)
        self.pem = ca.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def _about(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        )

    def issue(self, host: str) -> tuple[bytes, bytes]:
        """Return the certificate of a host, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        about = self._about(x509.Name([]), key).add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), True)
        pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
        secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password)
        return about.sign(self._key, hashes.SHA256()).public_bytes(pem), secret


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
