"""Talks to the API server of a Kubernetes cluster in plain data: get, create, change, watch."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import httpx

from mlstead.clients.kubernetes_login import Credentials, Login
from mlstead.errors import (
    ConflictError,
    NotFoundError,
    PlatformError,
    UnavailableError,
    UserError,
)

Object = dict[str, Any]
MANAGER: Final = "mlstead"
MERGE: Final = "application/merge-patch+json"
_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)
_SOON: Final = httpx.Timeout(30.0, connect=3.0)
_PAUSES: Final = (0.1, 0.5, 1.5)
_WATCH: Final = 290  # seconds that one watch lasts at most
_QUIET: Final = 330.0  # seconds without a word after which a watch is taken for dead
_TOLD: Final = 300  # characters of what the server says


class ExpiredError(Exception):
    """What a watch should go on from is too old: list again."""


class Cluster:
    """A cluster as one user sees it.

    Every request that fails for want of an answer is tried again a few times: all of ours are
    reads, deletions, merges, or creations under a name that we chose.
    """

    def __init__(self, login: Login) -> None:
        self.server = login.server
        self._credentials = Credentials(login)
        self._http: httpx.Client | None = None
        self._opening = threading.Lock()

    def close(self) -> None:
        """Let go of connections; they are opened again when used again."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def get(self, path: str, **query: str) -> Object:
        """Read an object or a list.

        Raises:
            NotFoundError: there is none.
            UserError: no right to it; UnavailableError: the server does not answer.
        """
        return self._ask("GET", path, query=query)

    def look(self, path: str, **query: str) -> Object:
        """Read as ``get``, for those who can do without: asked once, and given up soon."""
        found: Object = self._send_once("GET", path, None, query, _SOON).json()
        return found

    def create(self, path: str, content: Object) -> Object:
        """Make an object; ConflictError if there is one of that name."""
        return self._ask("POST", path, content, query={"fieldManager": MANAGER})

    def merge(self, path: str, content: Object) -> Object:
        """Change fields of an object (JSON merge patch)."""
        return self._ask("PATCH", path, content, query={"fieldManager": MANAGER})

    def delete(self, path: str, *, grace: int | None = None) -> None:
        """Remove an object and what belongs to it; one that is gone is no error."""
        options: Object = {"propagationPolicy": "Background"}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            self._ask("DELETE", path, options)
        except NotFoundError:
            return

    def text(self, path: str, **query: str) -> str:
        """Read something that is plain text, such as a log."""
        return self._send("GET", path, None, query).text

    def watch(
        self, path: str, version: str, opened: Callable[[Any], None], **query: str
    ) -> Iterator[Object]:
        """Give events from a resource version on, until the server or silence ends it.

        ``opened`` is given the connection's socket: to shut it down ends the watch.

        Raises:
            ExpiredError: the version is too old.
            UnavailableError: the server does not answer, or the connection broke.
        """
        asked = {
            **query, "watch": "1", "resourceVersion": version,
            "allowWatchBookmarks": "true", "timeoutSeconds": str(_WATCH),
        }  # fmt: skip
        try:
            with self._client().stream(
                "GET", self.server + path, params=asked, headers=self._credentials.headers(),
                timeout=httpx.Timeout(_QUIET, connect=5.0),
            ) as answer:  # fmt: skip
                if answer.status_code == httpx.codes.GONE:
                    raise ExpiredError
                if not answer.is_success:
                    answer.read()
                    raise _problem(answer, "GET", path)
                opened(answer.extensions["network_stream"].get_extra_info("socket"))
                for line in _lines(answer):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        if event["object"].get("code") == httpx.codes.GONE:
                            raise ExpiredError
                        raise UnavailableError(str(event["object"].get("message"))[:_TOLD])
                    yield event
        except (httpx.HTTPError, ValueError) as error:
            raise self._away(error) from error

    def _ask(
        self, method: str, path: str, content: Object | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Object:  # fmt: skip
        try:
            found: Object = self._send(method, path, content, query or {}).json()
        except ValueError as error:
            raise UserError(
                f"{self.server} does not answer as a cluster does",
                hint="look at the server of the kubeconfig, and for a proxy before it",
            ) from error
        return found

    def _send(
        self, method: str, path: str, content: Object | None, query: Mapping[str, str]
    ) -> httpx.Response:
        for pause in (*_PAUSES, None):
            try:
                return self._send_once(method, path, content, query)
            except UnavailableError as error:
                if pause is None:
                    raise
                time.sleep(max(pause, min(error.delay or 0.0, 5.0)))
        raise AssertionError

    def _send_once(
        self, method: str, path: str, content: Object | None, query: Mapping[str, str],
        timeout: httpx.Timeout = _TIMEOUT,
    ) -> httpx.Response:  # fmt: skip
        headers = self._credentials.headers()
        body = b""
        if content is not None:
            headers["Content-Type"] = MERGE if method == "PATCH" else "application/json"
            body = json.dumps(content).encode()
        try:
            answer = self._client().request(
                method, self.server + path, params=dict(query), content=body, headers=headers,
                timeout=timeout,
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise self._away(error) from error
        if not answer.is_success:
            raise _problem(answer, method, path)
        return answer

    def _client(self) -> httpx.Client:
        with self._opening:  # several threads may be the first
            if self._http is None:
                self._http = httpx.Client(
                    verify=self._credentials.context(), timeout=_TIMEOUT,
                    limits=httpx.Limits(max_connections=40, max_keepalive_connections=20),
                )  # fmt: skip
            return self._http

    def _away(self, error: Exception) -> PlatformError:
        text = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return UserError(
                f"{self.server} shows a certificate that is not trusted: {text[:_TOLD]}",
                hint="look at the certificate-authority-data of the kubeconfig",
            )
        return UnavailableError(f"{self.server} does not answer: {text[:_TOLD]}")


def _lines(answer: httpx.Response) -> Iterator[bytes]:
    """Give whole lines; an object may have in it what is a line's end in other texts."""
    rest = b""
    for piece in answer.iter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line for line in lines if line)


def _problem(answer: httpx.Response, method: str, path: str) -> PlatformError:
    """Say what a bad answer means."""
    try:
        told = answer.json()
        said = str(told.get("message") or "") if isinstance(told, dict) else str(told)
    except ValueError:
        said = answer.text
    text = (said or answer.reason_phrase)[:_TOLD]
    code = answer.status_code
    if code == httpx.codes.NOT_FOUND:
        hint = "kubectl create namespace NAME" if said.startswith("namespaces ") else ""
        return NotFoundError(f"the cluster has no {path}: {text}", hint=hint)
    if code == httpx.codes.CONFLICT:
        return ConflictError(text)
    if code == httpx.codes.UNAUTHORIZED:
        return UserError("the cluster does not know who we are", hint="log in to it again")
    if code == httpx.codes.FORBIDDEN:
        return UserError(f"the cluster refuses: {text}", hint="ask who runs it for the right")
    if code == httpx.codes.TOO_MANY_REQUESTS or code >= 500:
        delay = answer.headers.get("retry-after", "")
        return UnavailableError(
            f"{method} {path}: {code} {text}", delay=float(delay) if delay.isdecimal() else None
        )
    return UserError(f"the cluster refuses: {text}")
