"""Whom the command line believes to be the control plane, and what a failed introduction means.

One certificate authority is read, the one that is named; those of the machine only when none is: reading them costs
more than most commands.  Called by `controlplane.cli.client`.
"""

import ipaddress
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from controlplane.cli import exits

_ENDED = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED."""
_ANOTHER_NAME = (62, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH."""


def context(url: str, ca_file: str) -> ssl.SSLContext:
    """What TLS to ``url`` asks of the server; Exit with code 2 when ``ca_file`` cannot be used."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not url.startswith("https://"):
        return made
    if not ca_file:
        made.load_default_certs()
        return made
    try:
        made.load_verify_locations(cafile=ca_file)
    except ssl.SSLError as error:
        raise exits.usage(
            f"the CA file {ca_file} holds no certificate in PEM", hint="Name the server's authority with --ca-file."
        ) from error
    except OSError as error:
        raise exits.usage(
            f"the CA file {ca_file} cannot be read: {error.strerror}", hint="See --ca-file and MODPLANE_CA_FILE."
        ) from error
    return made


def in_the_clear(url: str) -> bool:
    """Whether what is sent to ``url`` could be read on its way."""
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return True


def explained(error: BaseException, url: str, ca_file: str) -> exits.Exit | None:
    """Why TLS to ``url`` failed; None when it is not TLS that failed."""
    failure = next((each for each in _chain(error) if isinstance(each, ssl.SSLError)), None)
    if isinstance(failure, ssl.SSLCertVerificationError):
        return _unverified(failure, url, ca_file)
    if failure is not None and failure.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
        return exits.unreachable(
            f"{url} answers, but does not speak TLS",
            hint=f"If it is a control plane without a certificate, write http://{urlsplit(url).netloc}.",
        )
    if failure is not None:
        return exits.unreachable(f"no TLS connection to {url}: {failure.reason or failure}")
    return None


def _unverified(error: ssl.SSLCertVerificationError, url: str, ca_file: str) -> exits.Exit:
    if error.verify_code in _ENDED:
        return exits.unreachable(
            f"the certificate of {url} is not valid today: {error.verify_message}",
            hint="`modplane up` renews its own every day: start it again, and look at this machine's clock.  Elsewhere "
            "renew the file of --tls-cert-file.",
        )
    if error.verify_code in _ANOTHER_NAME:
        return exits.unreachable(
            f"the certificate of {url} is for another name: {error.verify_message}",
            hint="Call the server by a name that is in its certificate.",
        )
    authority = f"the authority in {ca_file}" if ca_file else "an authority that this machine trusts"
    return exits.unreachable(
        f"the certificate of {url} is not from {authority}: {error.verify_message}",
        hint="Name its authority with --ca-file or MODPLANE_CA_FILE; that of a `modplane up` is the `caFile` in its "
        "endpoints.json.",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
