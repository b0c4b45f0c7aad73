"""Objects in an S3 bucket, and signed addresses with which somebody else may read or write some."""

from __future__ import annotations

import datetime
import os
import ssl
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import httpx
from botocore.auth import S3SigV4Auth, S3SigV4PostAuth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.session import Session

from mlstead.errors import NotFoundError, PlatformError, UnavailableError, UserError

LONGEST: Final = 7 * 86400  # seconds: no server takes a signature that is valid longer
_TIMEOUT: Final = 30.0
_PAUSES: Final = (0.1, 0.4, 1.0)
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Stat:
    """An object: its key below the bucket's prefix, and its size in bytes."""

    key: str
    size: int


class Objects:
    """The objects below one prefix.

    Args:
        location: ``s3://bucket/prefix``.
        endpoint: the server; "" for ``AWS_ENDPOINT_URL``, else Amazon's.
        outside: the server as those who get signed addresses reach it; "" for the same.

    Raises:
        UserError: the location is not one, or there are no credentials.
    """

    def __init__(self, location: str, endpoint: str = "", outside: str = "") -> None:
        parts = urlsplit(location)
        if parts.scheme != "s3" or not parts.netloc:
            raise UserError(f"{location!r} is no place for objects", hint="s3://BUCKET/PREFIX")
        self._bucket = parts.netloc
        prefix = parts.path.strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        session = Session()
        self._region = session.get_config_variable("region") or "us-east-1"
        given = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or _from_environment()
        self._endpoint = _server(given or f"https://s3.{self._region}.amazonaws.com")
        self._outside = _server(outside) if outside else self._endpoint
        try:
            found = session.get_credentials()
        except BotoCoreError as error:
            raise UserError(f"S3: {error}") from error
        if found is None:
            raise UserError(
                "S3: no credentials",
                hint="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
            )
        self._credentials = found
        self._trusted = _trusted(self._endpoint)
        self._opened: httpx.Client | None = None
        self._opening = threading.Lock()

    @property
    def _http(self) -> httpx.Client:
        with self._opening:
            if self._opened is None:
                self._opened = httpx.Client(timeout=_TIMEOUT, verify=self._trusted, trust_env=False)
            return self._opened

    def close(self) -> None:
        """Let go of connections; they are opened again when used again."""
        with self._opening:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    # ---- for ourselves

    def put(self, key: str, content: bytes) -> None:
        """Write a small object."""
        self._ask("PUT", key, content=content)

    def put_file(self, key: str, file: IO[bytes]) -> None:
        """Write an object from an open file, piece by piece."""
        file.seek(0, os.SEEK_END)
        size = file.tell()

        def pieces() -> Iterator[bytes]:
            file.seek(0)
            while piece := file.read(_PIECE):
                yield piece

        self._ask("PUT", key, body=pieces, headers={"Content-Length": str(size)})

    def get(self, key: str, first: int = 0, size: int | None = None) -> bytes:
        """Read an object, or ``size`` bytes of it from ``first`` on.

        Raises:
            NotFoundError: there is none.
        """
        headers = {}
        if first or size is not None:
            last = "" if size is None else str(first + size - 1)
            headers["Range"] = f"bytes={first}-{last}"
        return self._ask("GET", key, headers=headers).content

    def has(self, key: str) -> bool:
        """Say whether there is an object."""
        try:
            self._ask("HEAD", key)
        except NotFoundError:
            return False
        return True

    def fetch(self, key: str, target: IO[bytes]) -> None:
        """Write an object to an open file; NotFoundError if there is none."""
        url = self.address(key, 3600, inside=True)
        try:
            with self._http.stream("GET", url) as answer:
                _judge(answer, key)
                for piece in answer.iter_bytes(_PIECE):
                    target.write(piece)
        except httpx.HTTPError as error:
            raise self._away(error) from error

    def list(self, prefix: str) -> list[Stat]:
        """List the objects below a prefix, by key."""
        found: list[Stat] = []
        more = ""
        while True:
            query = {"list-type": "2", "prefix": self._prefix + prefix}
            if more:
                query["continuation-token"] = more
            try:
                root = ET.fromstring(self._ask("GET", None, query=query).content)
            except ET.ParseError as error:
                raise UserError(f"{self._endpoint} does not answer as an S3 server does") from error
            space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
            for item in root.iter(f"{space}Contents"):
                key = item.findtext(f"{space}Key") or ""
                size = int(item.findtext(f"{space}Size") or 0)
                found.append(Stat(key.removeprefix(self._prefix), size))
            more = root.findtext(f"{space}NextContinuationToken") or ""
            if not more:
                return found

    def delete_all(self, prefix: str) -> None:
        """Remove every object below a prefix."""
        for stat in self.list(prefix):
            self._ask("DELETE", stat.key)

    # ---- for others

    def address(self, key: str, seconds: int = LONGEST, *, inside: bool = False) -> str:
        """Sign an address with which anybody may read one object for a while."""
        url = f"{self._endpoint if inside else self._outside}{self._path(key)}"
        request = AWSRequest("GET", url)
        S3SigV4QueryAuth(self._frozen(), "s3", self._region, expires=seconds).add_auth(request)
        return str(request.url)

    def form(self, prefix: str, seconds: int = LONGEST) -> dict[str, Any]:
        """Sign a form with which anybody may write objects below a prefix for a while.

        Returns:
            Address, the fields to send before the file, and the prefix that ``key`` begins with.
        """
        whole = self._prefix + prefix
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        request = AWSRequest("POST", f"{self._outside}/{self._bucket}")
        fields: dict[str, str] = {}
        request.context["s3-presign-post-fields"] = fields
        request.context["s3-presign-post-policy"] = {
            "expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "conditions": [{"bucket": self._bucket}, ["starts-with", "$key", whole]],
        }
        S3SigV4PostAuth(self._frozen(), "s3", self._region).add_auth(request)
        return {"url": request.url, "fields": fields, "prefix": whole}

    def _path(self, key: str | None) -> str:
        return f"/{self._bucket}" + ("" if key is None else f"/{quote(self._prefix + key)}")

    def _frozen(self) -> Any:
        return self._credentials.get_frozen_credentials()

    def _ask(
        self,
        method: str,
        key: str | None,
        *,
        content: bytes = b"",
        body: Callable[[], Iterator[bytes]] | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        for pause in (*_PAUSES, None):
            try:
                return self._ask_once(method, key, content, body, headers or {}, query or {})
            except UnavailableError:
                if pause is None:
                    raise
                time.sleep(pause)
        raise AssertionError

    def _ask_once(
        self,
        method: str,
        key: str | None,
        content: bytes,
        body: Callable[[], Iterator[bytes]] | None,
        headers: Mapping[str, str],
        query: Mapping[str, str],
    ) -> httpx.Response:
        url = self._endpoint + self._path(key)
        if query:
            url += "?" + urlencode(sorted(query.items()), quote_via=quote)
        request = AWSRequest(method, url, headers=dict(headers), data=content or None)
        request.context["payload_signing_enabled"] = False
        if body is not None:
            request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
        S3SigV4Auth(self._frozen(), "s3", self._region).add_auth(request)
        sent = dict(request.headers.items())
        try:
            answer = self._http.request(
                method, url, content=body() if body else content, headers=sent
            )
        except httpx.HTTPError as error:
            raise self._away(error) from error
        _judge(answer, key or self._bucket)
        return answer

    def _away(self, error: Exception) -> PlatformError:
        return UnavailableError(
            f"the S3 server {self._endpoint} does not answer: {error}",
            hint="--endpoint of the context, or AWS_ENDPOINT_URL, says where it is",
        )


def _server(address: str) -> str:
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise UserError(
            f"{address!r} is no address of an S3 server", hint="such as https://HOST:PORT"
        )
    return address.rstrip("/")


def _judge(answer: httpx.Response, what: str) -> None:
    """Raise what a bad answer means."""
    if answer.is_success:
        return
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise NotFoundError(f"S3: there is no {what}")
    if answer.status_code in (401, 403):
        raise UserError(f"S3: no right to {what}", hint="look at AWS_ACCESS_KEY_ID and its rights")
    answer.read()
    said = f"S3: {what}: {answer.status_code} {answer.reason_phrase} {_said(answer.content)}"
    if answer.status_code >= 500 or answer.status_code in (408, 429):
        raise UnavailableError(said)
    raise UserError(said)


def _said(content: bytes) -> str:
    """Give the code and the message of a refusal; the rest may repeat what we were known by."""
    try:
        root = ET.fromstring(content)
    except ET.ParseError:
        return ""
    texts = [it.text or "" for it in root.iter() if it.tag.endswith(("Code", "Message"))]
    return ": ".join(texts)[:200]


def _trusted(endpoint: str) -> ssl.SSLContext:
    """Say whose certificates count: those of AWS_CA_BUNDLE, else of this system."""
    if endpoint.startswith("http://"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it knows nobody, and is asked nothing
    authorities = os.environ.get("AWS_CA_BUNDLE")
    try:
        return ssl.create_default_context(cafile=authorities)
    except OSError as error:
        raise UserError(f"AWS_CA_BUNDLE: cannot read {authorities}: {error}") from error


def _from_environment() -> str:
    return os.environ.get("AWS_ENDPOINT_URL") or ""
