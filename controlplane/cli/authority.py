"""The certificate authority of a data folder: `modplane up` makes it once, and short-lived server certificates from it.

Always: keys are of the curve P-256 and readable by their owner alone; the authority may sign for this machine's own
names and nothing else (RFC 5280, 4.2.1.10), so that whoever trusts it trusts it for no other server.  ``ca.pem`` is
what clients take; the server's key and certificate are one file, so that a reader never finds halves of two.
Called by `controlplane.cli.admitting`.
"""

import ipaddress
import secrets
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from schemas.kits.signatures import place

_SKEW: Final = timedelta(hours=1)
"""Certificates begin that much earlier, for a clock that is set back."""
_AUTHORITY_LIFE: Final = timedelta(days=3650)
_AUTHORITY_LEFT: Final = timedelta(days=30)
"""An authority that ends sooner is replaced at the start."""
_SERVER_LIFE: Final = timedelta(days=7)
_ADDRESSES: Final = ("127.0.0.1", "::1")
_NAME: Final = "localhost"


class AuthorityUnusableError(ValueError):
    """The files of the authority cannot be used."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint
        """What to do."""


class Authority:
    """The authority whose files are in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.certificate_file = self._folder / "ca.pem"
        """What clients trust."""
        self.key_file = self._folder / "ca.key"
        self.server_file = self._folder / "server.pem"
        """The server's key, and after it its certificate."""

    def ensure(self, now: datetime) -> bool:
        """Make the authority unless there is a good one; whether it was made.

        Raises OSError, and AuthorityUnusableError when there is one that is damaged: it is never replaced unasked,
        because clients may have taken copies of its certificate.
        """
        if not self.key_file.exists():
            self._make(now)
            return True
        _, certificate = self._load()
        if certificate.not_valid_after_utc - now < _AUTHORITY_LEFT:
            self._make(now)
            return True
        return False

    def issue(self, now: datetime) -> None:
        """Put a new key and certificate of the server in place; OSError, AuthorityUnusableError."""
        authority_key, authority = self._load()
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(each)) for each in _ADDRESSES]
        certificate = (
            _builder("modplane", authority.subject, key, now, min(now + _SERVER_LIFE, authority.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([*names, x509.DNSName(_NAME)]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .sign(authority_key, hashes.SHA256())
        )
        place(self.server_file, _private(key) + _public(certificate), 0o600, replace=True)

    def _make(self, now: datetime) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = f"modplane on this machine {secrets.token_hex(4)}"
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        permitted: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_network(each)) for each in _ADDRESSES]
        certificate = (
            _builder(name, subject, key, now, now + _AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.NameConstraints([*permitted, x509.DNSName(_NAME)], None), critical=True)
            .sign(key, hashes.SHA256())
        )
        # the certificate first: a key is the sign that both are there
        place(self.certificate_file, _public(certificate), 0o644, replace=True)
        place(self.key_file, _private(key), 0o600, replace=True)

    def _load(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        if self.key_file.stat().st_mode & 0o077:
            raise AuthorityUnusableError(
                f"the key of the local certificate authority, {self.key_file}, may be read by others",
                f"Run chmod 600 {self.key_file}; if it may have been copied, delete the folder {self._folder} instead: "
                "the next start makes a new authority.",
            )
        try:
            key = serialization.load_pem_private_key(self.key_file.read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise self._damaged(self.key_file, "holds no private key in PEM") from error
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
        except (ValueError, FileNotFoundError) as error:
            raise self._damaged(self.certificate_file, "holds no certificate in PEM") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise self._damaged(self.certificate_file, f"is not of the key {self.key_file}")
        return key, certificate

    def _damaged(self, path: Path, what: str) -> AuthorityUnusableError:
        return AuthorityUnusableError(
            f"{path} {what}",
            f"Delete the folder {self._folder} and start again: a new local certificate authority is made (clients "
            "that took a copy of ca.pem need the new one).",
        )


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
