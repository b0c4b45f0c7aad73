"""Reads amounts as Kubernetes writes them; it may give another form back than it was sent."""

import re
from typing import Final

_WRITTEN: Final = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([numkMGTPE]|[KMGTPE]i)?")
_UNITS: Final = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "P": 10**15, "E": 10**18, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
    "Pi": 1 << 50, "Ei": 1 << 60,
}  # fmt: skip


def amount(text: str) -> float:
    """Read a quantity: ``1500m`` is 1.5, ``2Gi`` is 2147483648, ``1e3`` is 1000.

    Raises:
        ValueError: it is none.
    """
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no quantity")
    return float(found[1]) * _UNITS.get(found[2] or "", 1)
