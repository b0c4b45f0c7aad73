"""Who may ask: keeps web pages in a browser away from a server on this machine.

A page of another site can make a browser send requests to localhost, and can point its own name at
127.0.0.1. So the Host header must be a name of this server, and an Origin header the same place.
"""

from collections.abc import Iterable
from ipaddress import ip_address

from mlstead.serving.problem import AnswerError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ANYWHERE = {"0.0.0.0", "::"}


class Guard:
    """Checks Host and Origin against the names the server was given."""

    def __init__(self, host: str, names: Iterable[str] = ()) -> None:
        self._names = {name.lower() for name in (*_LOOPBACK, host, *names)}
        self._any_address = host in _ANYWHERE
        self._known: set[bytes] = set()

    def check(self, host: bytes, origin: bytes) -> None:
        """Refuse a request for or from another place.

        Raises:
            AnswerError: 403.
        """
        if host not in self._known:
            if not self._allowed(host):
                raise AnswerError(403, "the Host header is not this server's name")
            if len(self._known) < 64:
                self._known.add(host)
        if origin and origin.lower() not in (b"http://" + host.lower(), b"https://" + host.lower()):
            raise AnswerError(403, "requests from web pages of other sites are refused")

    def _allowed(self, header: bytes) -> bool:
        name = _without_port(header.decode("latin-1").lower())
        if name in self._names:
            return True
        return self._any_address and _is_address(name)


def _without_port(host: str) -> str:
    if host.startswith("["):
        inside, closed, rest = host[1:].partition("]")
        right = closed and (not rest or (rest[0] == ":" and rest[1:].isdecimal()))
        return inside if right else ""
    name, colon, port = host.partition(":")
    return name if not colon or port.isdecimal() else ""


def _is_address(name: str) -> bool:
    # A name can be pointed at any address by whoever owns it; an address cannot.
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
