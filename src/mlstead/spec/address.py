"""How an address is shown and recorded: without what may be a secret."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"
"""What stands for a value that is not shown."""

_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>[^/?#]*)(?P<path>[^?#]*)"
    r"(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.DOTALL,
)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%a-z]*\]|[^:\[\]]*)(?::[0-9]*|:\$\{\{[^}]*\}\})?")
_LOGIN_LATER = re.compile(r"[^/]@")
_SECRETIVE = re.compile(r"token|secret|passw|pwd|sig|credential|auth|key", re.IGNORECASE)
_EXPRESSION = re.compile(r"\$\{\{[^{}]*\}\}")


def shown(text: str) -> str:
    """Write an address without name and password, without a fragment, its query's values hidden.

    The names of the query stay, and values that are one expression and nothing else. What is no
    address (a path, ``name@3``) comes back as it is; showing twice changes nothing.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        return text
    scheme, path, query = match["scheme"], match["path"], match["query"]
    host = match["host"].rpartition("@")[2]
    odd = not _HOST.fullmatch(host) or (not host and scheme.lower() != "file")
    if odd or (":" in host and _LOGIN_LATER.search(text, match.end("host"))):
        return f"{scheme}://{HIDDEN}"  # a password with / or # in it: nothing is sure
    hidden = "" if query is None else "?" + "&".join(_part(part) for part in query.split("&"))
    return f"{scheme}://{host}{path}{hidden}"


def secretive(text: str) -> bool:
    """Say whether an address has a password, or a query that by its names holds a secret."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        return False
    names = [part.partition("=")[0] for part in (match["query"] or "").split("&")]
    return "@" in match["host"] or any(_SECRETIVE.search(name) for name in names)


def _part(part: str) -> str:
    name, equals, value = part.partition("=")
    if not equals:
        return HIDDEN if part else ""  # a bare word may be the secret itself
    return part if not value or _EXPRESSION.fullmatch(value) else f"{name}={HIDDEN}"
