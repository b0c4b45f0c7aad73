"""Certificates of a site: what they say, and whether openssl and a handshake take them."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import subprocess
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from mlstead.clients.authority import Pair, expiry, issue, make_authority
from mlstead.errors import UserError

NAMES = ("registry.lab", "*.apps.lab", "127.0.0.1", "fd00::5")
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@pytest.fixture(scope="module")
def authority() -> Pair:
    return make_authority("lab")


def _read(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate_pem.encode())


def _write(folder: Path, name: str, pair: Pair) -> Path:
    (folder / f"{name}.crt").write_text(pair.certificate_pem)
    (folder / f"{name}.key").write_text(pair.key_pem)
    return folder / f"{name}.crt"


def _verify(folder: Path, authority: Pair, pair: Pair, *more: str) -> tuple[int, str]:
    ca, leaf = _write(folder, "ca", authority), _write(folder, "leaf", pair)
    argv = ["openssl", "verify", "-x509_strict", "-CAfile", str(ca), *more, str(leaf)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


# ---- what they say -------------------------------------------------------------------------


def test_an_authority_vouches_for_leaves_only(authority: Pair) -> None:
    made = _read(authority)
    limits = made.extensions.get_extension_for_class(x509.BasicConstraints)
    uses = made.extensions.get_extension_for_class(x509.KeyUsage)
    assert (limits.critical, limits.value.ca, limits.value.path_length) == (True, True, 0)
    assert (uses.critical, uses.value.key_cert_sign, uses.value.crl_sign) == (True, True, True)
    assert not uses.value.digital_signature
    assert isinstance(made.public_key(), ec.EllipticCurvePublicKey)
    assert "lab" in made.subject.rfc4514_string()


@pytest.mark.parametrize(
    ("names", "client", "uses"),
    [(("a",), False, [SERVER]), ((), True, [CLIENT]), (("a",), True, [SERVER, CLIENT])],
)
def test_a_certificate_is_for_what_it_was_asked_for(
    authority: Pair, names: Sequence[str], client: bool, uses: list[x509.ObjectIdentifier]
) -> None:
    made = _read(issue(authority, name="a", names=names, client=client))
    extended = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    plain = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert list(extended) == uses
    assert plain.digital_signature and not plain.key_cert_sign
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_names_and_addresses_are_told_apart(authority: Pair) -> None:
    made = _read(issue(authority, name="registry", names=[*NAMES, "Registry.LAB", "127.0.0.1"]))
    others = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    dns = others.get_values_for_type(x509.DNSName)
    addresses = others.get_values_for_type(x509.IPAddress)
    assert set(dns) == {"registry.lab", "*.apps.lab"}
    assert addresses == [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("fd00::5")]


@pytest.mark.parametrize(
    "wrong", ["", "a b", "1.2.3", "10.0.0.256", "fe80::1%eth0", "a..b", "-a", "ä.x", "a/b", "a.*.b"]
)
def test_what_is_neither_is_refused(authority: Pair, wrong: str) -> None:
    with pytest.raises(UserError, match="neither a DNS name nor an IP address"):
        issue(authority, name="x", names=[wrong])


@pytest.mark.parametrize("wrong", ["", "x" * 65, "a\nb"])
def test_a_common_name_that_cannot_be_one_is_refused(authority: Pair, wrong: str) -> None:
    with pytest.raises(UserError, match="cannot be the name in a certificate"):
        issue(authority, name=wrong, names=["a"])


def test_a_certificate_for_nothing_is_refused(authority: Pair) -> None:
    with pytest.raises(UserError, match="for no server and no client"):
        issue(authority, name="a", names=[])
    with pytest.raises(UserError, match="or for no day"):
        issue(authority, name="a", names=["a"], days=0)


def test_it_holds_from_an_hour_ago_for_as_many_days_as_asked(authority: Pair) -> None:
    pair = issue(authority, name="a", names=["a"], days=30)
    now = datetime.now(UTC)
    slack = timedelta(minutes=5)
    assert abs(_read(pair).not_valid_before_utc - (now - timedelta(hours=1))) < slack
    assert abs(expiry(pair.certificate_pem) - (now + timedelta(days=30))) < slack


def test_no_certificate_outlives_its_authority(authority: Pair) -> None:
    pair = issue(authority, name="a", names=["a"], days=9999)
    assert expiry(pair.certificate_pem) == expiry(authority.certificate_pem)


def test_an_authority_that_has_ended_issues_nothing(authority: Pair) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _read(authority).subject
    ended = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2020, 1, 2, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    text = key.private_bytes(serialization.Encoding.PEM, *form).decode()
    old = Pair(ended.public_bytes(serialization.Encoding.PEM).decode(), text)
    with pytest.raises(UserError, match="ended on 2020-01-02"):
        issue(old, name="a", names=["a"])


def test_serial_numbers_and_keys_are_never_the_same(authority: Pair) -> None:
    made = [issue(authority, name="a", names=["a"]) for _ in range(20)]
    assert len({_read(pair).serial_number for pair in made}) == 20
    assert len({pair.key_pem for pair in made}) == 20
    assert all(_read(pair).serial_number.bit_length() > 100 for pair in made)


def test_nothing_shows_a_key(authority: Pair) -> None:
    secret = authority.key_pem.splitlines()[1]
    assert secret not in repr(authority)
    other = make_authority("other")
    for key in ("no key", authority.key_pem[:100], other.key_pem):
        with pytest.raises(UserError, match="key of the authority") as caught:
            issue(Pair(authority.certificate_pem, key), name="a", names=["a"])
        assert not any(line in repr(caught.value) for line in key.splitlines()[1:])
        assert caught.value.__cause__ is None


def test_what_is_no_certificate_has_no_end() -> None:
    with pytest.raises(UserError, match="no certificate"):
        expiry("hello")


# ---- who takes them ------------------------------------------------------------------------


def test_openssl_takes_a_server_for_its_names(authority: Pair, tmp_path: Path) -> None:
    pair = issue(authority, name="registry", names=NAMES)
    for more in (
        ("-verify_hostname", "registry.lab"), ("-verify_hostname", "x.apps.lab"),
        ("-verify_ip", "127.0.0.1"), ("-verify_ip", "fd00::5"), ("-purpose", "sslserver"),
    ):  # fmt: skip
        assert _verify(tmp_path, authority, pair, *more) == (0, f"{tmp_path}/leaf.crt: OK\n")
    for more in (
        ("-verify_hostname", "other.lab"), ("-verify_ip", "10.0.0.1"), ("-purpose", "sslclient"),
    ):  # fmt: skip
        assert _verify(tmp_path, authority, pair, *more)[0] != 0


def test_openssl_takes_no_authority_below_ours(authority: Pair, tmp_path: Path) -> None:
    middle = issue(authority, name="middle", names=["a"])
    leaf = issue(middle, name="leaf", names=["a"])
    bundle = _write(tmp_path, "middle", middle)
    code, said = _verify(tmp_path, authority, leaf, "-untrusted", str(bundle))
    assert code != 0, said


def test_openssl_takes_nothing_from_another_authority_of_that_name(
    authority: Pair, tmp_path: Path
) -> None:
    pair = issue(make_authority("lab"), name="registry", names=NAMES)
    assert _verify(tmp_path, authority, pair)[0] != 0


def _context(folder: Path, side: int, authority: Pair, own: Pair | None) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=authority.certificate_pem)
    if own:
        path = _write(folder, f"own{side}", own)
        context.load_cert_chain(path, path.with_suffix(".key"))
    if side == ssl.PROTOCOL_TLS_SERVER:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _handshake(folder: Path, authority: Pair, server: Pair, client: Pair | None, name: str) -> str:
    """Shake hands on loopback, both sides shown; give who the server saw."""
    answering = _context(folder, ssl.PROTOCOL_TLS_SERVER, authority, server)
    asking = _context(folder, ssl.PROTOCOL_TLS_CLIENT, authority, client)
    seen: list[str] = []

    def serve(listening: socket.socket) -> None:
        plain, _ = listening.accept()
        with plain:
            try:
                with answering.wrap_socket(plain, server_side=True) as shown:
                    told: Any = shown.getpeercert()
                    seen.append(
                        dict(pair for part in told["subject"] for pair in part)["commonName"]
                    )
                    shown.sendall(b"hello")
            except (ssl.SSLError, OSError):
                return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            with (
                socket.create_connection(listening.getsockname(), 30) as plain,
                asking.wrap_socket(plain, server_hostname=name) as shown,
            ):
                assert shown.recv(5) == b"hello"
        finally:
            thread.join()
    return seen[0]


@pytest.mark.parametrize("name", ["127.0.0.1", "registry.lab", "x.apps.lab"])
def test_both_sides_of_a_handshake_know_each_other(
    authority: Pair, tmp_path: Path, name: str
) -> None:
    server = issue(authority, name="registry", names=NAMES)
    client = issue(authority, name="admin", names=[], client=True)
    assert _handshake(tmp_path, authority, server, client, name) == "admin"


def test_a_handshake_fails_for_other_names_uses_and_authorities(
    authority: Pair, tmp_path: Path
) -> None:
    server = issue(authority, name="registry", names=NAMES)
    client = issue(authority, name="admin", names=[], client=True)
    stranger = issue(make_authority("lab"), name="admin", names=[], client=True)
    for shown, asking, name in (
        (server, client, "other.lab"),
        (client, client, "registry.lab"),
        (server, server, "registry.lab"),
        (server, stranger, "registry.lab"),
        (server, None, "registry.lab"),
    ):
        with pytest.raises((ssl.SSLError, OSError, AssertionError)):
            _handshake(tmp_path, authority, shown, asking, name)
