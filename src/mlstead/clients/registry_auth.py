"""The login of an image registry: a password, or tokens that it buys, sent to that server only."""

from __future__ import annotations

import base64
import re
from collections.abc import Generator
from dataclasses import dataclass, field

import httpx

from mlstead.errors import UnavailableError, UserError

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_REPOSITORY = re.compile(r"/v2/(.+)/(?:manifests|blobs|tags)/")
_READING = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Login:
    """How a registry is reached.

    Attributes:
        address: host and port.
        user: who logs in; "" for nobody.
        password: not shown by ``repr``.
        authority: certificates in PEM that alone vouch for it; "" for those of the system.
        plain: True to speak plain http, which all on the way can read and change.
    """

    address: str
    user: str = ""
    password: str = field(default="", repr=False)
    authority: str = ""
    plain: bool = False

    @property
    def url(self) -> str:
        """Give where it is."""
        return f"{'http' if self.plain else 'https'}://{self.address}"


def password_name(address: str) -> str:
    """Name the secret of this home that holds the password of a registry."""
    return "registry-" + "".join(it if it.isalnum() else "-" for it in address.lower())


class RegistryAuth(httpx.Auth):
    """Adds what a registry asks for; nothing goes to the servers that it redirects to.

    A token is kept for the repository and the right that it was bought for.
    """

    def __init__(self, login: Login) -> None:
        self._login = login
        self._home = httpx.URL(login.url)
        self._tokens: dict[tuple[str, ...], str] = {}
        self._bearer = False

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not self._is_ours(request.url):
            yield request
            return
        key = _right(request)
        known = self._tokens.get(key) or ("" if self._bearer else self._basic())
        if known:
            request.headers["authorization"] = known
        response = yield request
        asked = _challenge(response)
        if response.status_code != httpx.codes.UNAUTHORIZED or not asked:
            return
        self._bearer = True
        answer = yield self._purchase(asked)
        self._tokens[key] = "Bearer " + self._token(answer)
        request.headers["authorization"] = self._tokens[key]
        yield request

    def _is_ours(self, url: httpx.URL) -> bool:
        return (url.scheme, url.host, url.port) == (
            self._home.scheme, self._home.host, self._home.port,
        )  # fmt: skip

    def _basic(self) -> str:
        if not self._login.user:
            return ""
        pair = f"{self._login.user}:{self._login.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()

    def _purchase(self, asked: dict[str, str]) -> httpx.Request:
        wanted = {name: asked[name] for name in ("service", "scope") if asked.get(name)}
        basic = self._basic()
        url = httpx.URL(asked.get("realm", "")).copy_merge_params(wanted)
        return httpx.Request("GET", url, headers={"authorization": basic} if basic else {})

    def _token(self, answer: httpx.Response) -> str:
        """Read a bought token.

        Raises:
            UserError: the login is refused, or the answer is none.
            UnavailableError: who sells tokens does not answer.
        """
        place = f"{self._login.address}: its login server {answer.request.url.host}"
        if answer.status_code >= 500 or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise UnavailableError(f"{place} answers {answer.status_code}")
        try:
            answer.raise_for_status().read()
            data = answer.json()
            return str(data.get("token") or data["access_token"])
        except httpx.HTTPStatusError:
            who = repr(self._login.user) if self._login.user else "somebody without a name"
            raise UserError(
                f"{place} refuses {who} ({answer.status_code})", hint="are name and password right?"
            ) from None  # the request holds the password
        except (ValueError, LookupError, TypeError, AttributeError):
            raise UserError(f"{place} gives no token") from None


def _right(request: httpx.Request) -> tuple[str, ...]:
    """Name what a request needs: its repository, whether it writes, whom it copies from."""
    found = _REPOSITORY.match(request.url.path)
    reads = "pull" if request.method in _READING else "push"
    return (found[1] if found else "", reads, request.url.params.get("from", ""))


def _challenge(response: httpx.Response) -> dict[str, str]:
    """Give what the server asks a token for; {} if it wants none."""
    for line in response.headers.get_list("www-authenticate"):
        if line.lower().startswith("bearer "):
            return dict(_PARAMETER.findall(line))
    return {}
