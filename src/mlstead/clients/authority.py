"""The certificate authority of a site: makes it, and the certificates that it vouches for."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mlstead.errors import UserError

DAYS = 3650  # of an authority
_SKEW = timedelta(hours=1)  # a host whose clock is behind takes a new certificate all the same
_LONGEST = 64  # characters of a common name (RFC 5280, ub-common-name)
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*", re.ASCII | re.IGNORECASE)
_NO_USE = dict.fromkeys(
    (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    ),
    False,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key.

    Attributes:
        certificate_pem: may be seen by all.
        key_pem: in PKCS #8, not encrypted: it lies in the vault; not shown by ``repr``.
    """

    certificate_pem: str
    key_pem: str = field(repr=False)


def make_authority(site_name: str) -> Pair:
    """Make the authority of a site, good for ten years; it vouches for no other authority.

    Raises:
        UserError: the name cannot be one.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{site_name} mlstead CA")
    made = (
        _begun(name, key.public_key(), DAYS)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(**{**_NO_USE, "key_cert_sign": True, "crl_sign": True}), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    return _pair(made, key)


def issue(
    authority: Pair, *, name: str, names: Sequence[str], days: int = 365, client: bool = False
) -> Pair:
    """Make a certificate for a server, for a client, or for what is both, such as a peer of etcd.

    It ends no later than the authority.

    Args:
        authority: who vouches for it.
        name: the common name; of a client, to Kubernetes and PostgreSQL that is the user.
        names: DNS names and IP addresses of a server, one may begin with ``*.``; none: no server.
        days: how long it is good.
        client: a client may show it.

    Raises:
        UserError: a name cannot be one, it is good for nothing, or the authority is none or ended.
    """
    issuer, signer = _opened(authority)
    uses = [ExtendedKeyUsageOID.SERVER_AUTH] * bool(names)
    uses += [ExtendedKeyUsageOID.CLIENT_AUTH] * client
    if not uses or days < 1:
        raise UserError(f"certificate {name}: it is for no server and no client, or for no day")
    if issuer.not_valid_after_utc <= datetime.now(UTC):
        raise UserError(f"the authority ended on {issuer.not_valid_after_utc:%Y-%m-%d}")
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _begun(_name(name), key.public_key(), days, latest=issuer.not_valid_after_utc)
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{**_NO_USE, "digital_signature": True}), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if names:
        others = [_general(other) for other in dict.fromkeys(names)]
        builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
    return _pair(builder.sign(signer, hashes.SHA256()), key)


def expiry(pem: str) -> datetime:
    """Give the moment a certificate ends, in UTC; of a chain, its first one.

    Raises:
        UserError: it is no certificate.
    """
    return _certificate(pem).not_valid_after_utc


def _begun(
    name: x509.Name, key: ec.EllipticCurvePublicKey, days: int, latest: datetime | None = None
) -> x509.CertificateBuilder:
    now = datetime.now(UTC).replace(microsecond=0)
    end = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key)
        .serial_number(x509.random_serial_number())  # 159 random bits
        .not_valid_before(now - _SKEW)
        .not_valid_after(min(end, latest) if latest else end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(text: str) -> x509.Name:
    if not 0 < len(text) <= _LONGEST or not text.isprintable():
        raise UserError(f"{text[:80]!r} cannot be the name in a certificate: 1 to 64 characters")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(text: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        if "%" not in text:  # a zone means something on one host only
            return x509.IPAddress(ipaddress.ip_address(text))
    mistyped = text.replace(".", "").isdigit()  # an address with a number too many or too large
    if mistyped or not _DNS.fullmatch(text) or len(text) > 253:
        raise UserError(f"{text[:80]!r} is neither a DNS name nor an IP address")
    return x509.DNSName(text.lower())


def _opened(authority: Pair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    issuer = _certificate(authority.certificate_pem)
    try:
        key = serialization.load_pem_private_key(authority.key_pem.encode(), None)
    except (ValueError, TypeError):
        raise UserError("the key of the authority cannot be read") from None  # it is a secret
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != issuer.public_key():
        raise UserError("the key of the authority is not the one of its certificate")
    return issuer, key


def _certificate(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise UserError("that is no certificate in PEM") from error


def _pair(made: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Pair(made.public_bytes(serialization.Encoding.PEM).decode(), text.decode())
