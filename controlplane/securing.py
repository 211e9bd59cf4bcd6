"""TLS of the control plane's door: its context, from the operator's files, followed when they change.

Always: TLS 1.2 or newer; files that do not fit together never reach the context that serves, neither at the start nor
later; a certificate that is replaced on disk is shown to new connections within a minute, without a restart.  Whoever
speaks plain HTTP to the door is told so in plain HTTP.  Called by `controlplane.app` and `controlplane.doors`.
"""

import ssl
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from cryptography import x509

from controlplane import errors
from schemas.kits.clocks import Clock

logger = structlog.get_logger("controlplane.securing")

_LOOK_SECONDS: Final = 60.0
_SOON: Final = timedelta(days=2)
"""What is left of a certificate's life when it is complained of."""
_BODY: Final = b"This port speaks https only: write https:// in the address, and have the client trust its CA file.\n"
_PLAIN: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


class Certificate:
    """The certificate that a door shows, with its key."""

    def __init__(self, certificate_file: Path, key_file: Path, clock: Clock) -> None:
        """ModplaneError when the files cannot be used: it says which, why, and what to do."""
        self._files = (certificate_file, key_file)
        self._clock = clock
        self.context = _context(_Context)
        """For the server; its certificate changes in place."""
        self.names: frozenset[str] = frozenset()
        """Under which names the server may be called, in lower case; the first label may be ``*``."""
        self.ends: datetime = clock.now()
        """When the certificate ends."""
        self._stamps: tuple[object, ...] = ()
        self.refresh()

    def refresh(self) -> None:
        """Take the files if they changed; ModplaneError when they cannot be used: then all stays as it was."""
        certificate_file, key_file = self._files
        try:
            stamps = tuple((each.stat().st_mtime_ns, each.stat().st_ino) for each in self._files)
            if stamps == self._stamps:
                return
            leaf = x509.load_pem_x509_certificates(certificate_file.read_bytes())[0]
            if leaf.not_valid_after_utc <= self._clock.now():
                raise _refused(f"the certificate in {certificate_file} ended at {leaf.not_valid_after_utc}; renew it")
            # tried on another context first: half of a pair would shut the door
            for context in (_context(ssl.SSLContext), self.context):
                context.load_cert_chain(certificate_file, key_file, password=_no_password)
        except ssl.SSLError as error:
            raise _refused(_mismatch(certificate_file, key_file, error)) from error
        except OSError as error:
            raise _refused(
                f"the file {error.filename} cannot be read: {error.strerror}; see --tls-cert-file"
            ) from error
        except ValueError as error:
            raise _refused(f"{certificate_file} holds no certificate in PEM; see --tls-cert-file") from error
        self._stamps, self.names, self.ends = stamps, _names(leaf), leaf.not_valid_after_utc

    async def run(self) -> None:
        """Follow the files until cancelled."""
        warned = False
        while True:
            await self._clock.sleep(_LOOK_SECONDS)
            before = self.ends
            try:
                self.refresh()
            except errors.ModplaneError as error:
                logger.error("new certificate refused, the old one is shown on", reason=error.message)
            if self.ends != before:
                logger.info("certificate replaced", ends=self.ends.isoformat())
            soon = self.ends - self._clock.now() < _SOON
            if soon and not warned:
                logger.warning("certificate ends soon", file=str(self._files[0]), ends=self.ends.isoformat())
            warned = soon


def _refused(why: str) -> errors.ModplaneError:
    return errors.ModplaneError(f"TLS: {why}")


def _no_password() -> str:
    raise _refused("the key has a passphrase; give --tls-key-file a file whose key has none")


def _mismatch(certificate_file: Path, key_file: Path, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key in {key_file} is not that of the certificate in {certificate_file}; give the pair"
    return f"{key_file} holds no private key in PEM ({error.reason or error}); see --tls-key-file"


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        listed = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = (str(each) for each in listed.get_values_for_type(x509.IPAddress))
    written = (f"[{each}]" if ":" in each else each for each in addresses)
    return frozenset(each.lower() for each in (*written, *listed.get_values_for_type(x509.DNSName)))


class _Object(ssl.SSLObject):
    """One connection of the server."""

    tell: Callable[[bytes], int]
    """Writes to the peer beside TLS."""

    def do_handshake(self) -> None:
        """As it is, but a peer that speaks plain HTTP is answered in its language, and left to go."""
        try:
            super().do_handshake()
        except ssl.SSLError as error:
            if error.reason != "HTTP_REQUEST":
                raise
            self.tell(_PLAIN)
            raise ssl.SSLWantReadError from error

    def unwrap(self) -> None:
        """Say that we close, and do not wait for an idle peer to say so as well (RFC 8446, 6.1)."""
        try:
            super().unwrap()
        except ssl.SSLWantReadError:
            return


class _Context(ssl.SSLContext):
    sslobject_class = _Object

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *words: Any, **more: Any) -> Any:
        made: Any = super().wrap_bio(incoming, outgoing, *words, **more)
        made.tell = outgoing.write
        return made


def _context(kind: type[ssl.SSLContext]) -> ssl.SSLContext:
    context = kind(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
