"""Certificates of servers that the tests run, and who signs them."""

import datetime
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


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

    def written(self, folder: Path) -> Path:
        """Return a file in `folder` with its own certificate, for clients."""
        path = folder / "authority.pem"
        path.write_text(self.pem)
        return path

    def server(self, host: str, folder: Path) -> ssl.SSLContext:
        """Return what a server that is called `host` speaks TLS with; its certificate and key are kept in `folder`."""
        path = folder / f"{host}.pem"
        path.write_bytes(b"".join(self.issue(host)))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        return context
