"""Reads X.509 certificates."""

from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Certificate:
    """Who a certificate is for (name, groups), and until when (epoch seconds)."""

    name: str
    groups: tuple[str, ...]
    expires: float


def read(pem: str) -> Certificate | None:
    """Read the first certificate of a PEM text; None if there is none that can be read."""
    try:
        found = x509.load_pem_x509_certificate(pem.encode())
        names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        groups = found.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        return Certificate(
            str(names[0].value) if names else "",
            tuple(str(it.value) for it in groups),
            found.not_valid_after_utc.timestamp(),
        )
    except ValueError:
        return None
