"""The local certificate authority: what it signs, for whom, for how long, and what becomes of damaged files."""

import ipaddress
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from controlplane.cli import authority
from tests.doubles import tlsserver

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH


def files(found: authority.Authority) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (found.certificate_file, found.key_file, found.server_file)}


def leaf(found: authority.Authority) -> x509.Certificate:
    return x509.load_pem_x509_certificate(found.server_file.read_bytes())


def verified(found: authority.Authority, name: x509.GeneralName, at: datetime, shown: x509.Certificate) -> bool:
    trusted = verification.Store([x509.load_pem_x509_certificate(found.certificate_file.read_bytes())])
    verifier = verification.PolicyBuilder().store(trusted).time(at).build_server_verifier(name)  # type: ignore[arg-type]
    try:
        verifier.verify(shown, [])
    except verification.VerificationError:
        return False
    return True


LOCAL = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def test_it_is_made_once_and_signs_a_new_certificate_each_time(tmp_path: Path) -> None:
    found = authority.Authority(tmp_path / "tls")
    assert found.ensure(NOW)
    found.issue(NOW)
    first = files(found)
    assert not found.ensure(NOW + 300 * DAY)
    found.issue(NOW + 300 * DAY)
    second = files(found)
    assert {name for name in first if first[name] != second[name]} == {"server.pem"}
    for path in (found.key_file, found.server_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = serialization.load_pem_private_key(found.key_file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)


@pytest.mark.parametrize("name", [LOCAL, x509.IPAddress(ipaddress.ip_address("::1")), x509.DNSName("localhost")])
def test_the_certificate_is_for_this_machine_for_a_week(tmp_path: Path, name: x509.GeneralName) -> None:
    found = authority.Authority(tmp_path)
    found.ensure(NOW)
    found.issue(NOW)
    shown = leaf(found)
    assert verified(found, name, NOW, shown)
    assert verified(found, name, NOW + 6 * DAY, shown)
    assert not verified(found, name, NOW + 8 * DAY, shown)
    assert not verified(found, x509.IPAddress(ipaddress.ip_address("10.0.0.1")), NOW, shown)
    assert not verified(found, x509.DNSName("modplane.example"), NOW, shown)
    assert list(shown.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [SERVER_AUTH]


def test_the_authority_signs_neither_authorities_nor_other_names(tmp_path: Path) -> None:
    found = tlsserver.made(tmp_path)
    certificate = x509.load_pem_x509_certificate(found.certificate_file.read_bytes())
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    assert not leaf(found).extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    permitted = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert permitted.critical
    assert [str(each.value) for each in permitted.value.permitted_subtrees or []] == [
        "127.0.0.1/32", "::1/128", "localhost",
    ]  # fmt: skip


def test_an_authority_that_ends_soon_is_replaced(tmp_path: Path) -> None:
    found = authority.Authority(tmp_path)
    found.ensure(NOW)
    old = files_of(found)
    assert not found.ensure(NOW + 3600 * DAY)
    assert found.ensure(NOW + 3640 * DAY)
    assert files_of(found) != old
    found.issue(NOW + 3640 * DAY)
    assert verified(found, LOCAL, NOW + 3641 * DAY, leaf(found))


def files_of(found: authority.Authority) -> tuple[bytes, bytes]:
    return found.certificate_file.read_bytes(), found.key_file.read_bytes()


def test_a_certificate_never_outlives_its_authority(tmp_path: Path) -> None:
    found = authority.Authority(tmp_path)
    found.ensure(NOW)
    found.issue(NOW + 3648 * DAY)
    authoritys = x509.load_pem_x509_certificate(found.certificate_file.read_bytes())
    assert leaf(found).not_valid_after_utc == authoritys.not_valid_after_utc


@pytest.mark.parametrize("damage", ["key", "certificate", "other pair", "other curve", "no certificate", "locked"])
def test_damaged_files_are_told_with_what_to_do_and_left_as_they_are(tmp_path: Path, damage: str) -> None:
    found = tlsserver.made(tmp_path / "tls")
    if damage == "key":
        found.key_file.write_bytes(b"\x00 nonsense")
    elif damage == "certificate":
        found.certificate_file.write_bytes(b"-----BEGIN CERTIFICATE-----\nx\n")
    elif damage == "other pair":
        found.key_file.write_bytes(tlsserver.made(tmp_path / "other").key_file.read_bytes())
    elif damage == "other curve":
        found.key_file.write_bytes(pem(ec.generate_private_key(ec.SECP384R1())))
    elif damage == "no certificate":
        found.certificate_file.unlink()
    else:
        found.key_file.write_bytes(pem(ec.generate_private_key(ec.SECP256R1()), b"secret"))
    left = found.key_file.read_bytes()
    for act in (found.ensure, found.issue):
        with pytest.raises(authority.AuthorityUnusableError, match=r"Delete the folder .*tls and start again"):
            act(NOW)
    assert found.key_file.read_bytes() == left


def pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    found = tlsserver.made(tmp_path)
    found.key_file.chmod(0o640)
    with pytest.raises(authority.AuthorityUnusableError, match="chmod 600"):
        found.ensure(NOW)


def test_a_start_that_broke_off_between_the_two_files_is_made_anew(tmp_path: Path) -> None:
    found = tlsserver.made(tmp_path)
    found.key_file.unlink()
    assert found.ensure(datetime.now(UTC))
    found.issue(datetime.now(UTC))
    assert verified(found, LOCAL, datetime.now(UTC), leaf(found))
    assert isinstance(leaf(found).signature_hash_algorithm, hashes.SHA256)
