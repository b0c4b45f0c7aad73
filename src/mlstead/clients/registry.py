"""Image registries: reads, copies and writes images by the OCI distribution API."""

from __future__ import annotations

import hashlib
import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import httpx

from mlstead.clients.image_name import check_reference, check_repository, is_digest
from mlstead.clients.registry_auth import Login, RegistryAuth
from mlstead.errors import NotFoundError, UnavailableError, UserError

__all__ = ["Blob", "Login", "Manifest", "Registry"]

T = TypeVar("T")
PLATFORM: Final = "linux/amd64"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ACCEPT: Final = {"accept": ", ".join((OCI_MANIFEST, DOCKER_MANIFEST, *INDEXES))}
_CHUNK: Final = 1 << 20
_LARGEST: Final = 8 << 20  # of a manifest, and of an image's configuration
_WAITS: Final = (0.2, 1.0, 3.0)  # seconds before each further try
_PATIENCE: Final = 20.0  # seconds at most, whatever a server wishes
# A registry hashes and moves a large blob before it answers.
_TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0, read=300.0)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an image is made of.

    Attributes:
        content: its bytes, which the digest names; data: what they say.
    """

    digest: str
    media_type: str
    content: bytes
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes to upload; ``open`` gives them from the start, each time it is called."""

    digest: str
    size: int
    open: Callable[[], Iterator[bytes]]

    @classmethod
    def of_file(cls, path: Path, digest: str) -> Blob:
        """Give the bytes of a file."""

        def read() -> Iterator[bytes]:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk

        return cls(digest, path.stat().st_size, read)

    @classmethod
    def of_bytes(cls, content: bytes) -> Blob:
        """Give bytes that are at hand."""
        return cls(sha256(content), len(content), lambda: iter((content,)))

    def __iter__(self) -> Iterator[bytes]:
        return self.open()


def sha256(content: bytes) -> str:
    """Give the digest of bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Registry:
    """One registry, for one login; use it in a ``with``. Safe for use by several threads.

    Everything is tried again when the registry does not answer. Certificates are always checked.

    Args:
        login: where it is and who we are.
        pause: waits between tries.
        transport: carries the requests, instead of the network.

    Raises:
        UserError: the login's certificates cannot be read.
    """

    def __init__(
        self,
        login: Login,
        *,
        pause: Callable[[float], object] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.login = login
        self._pause = pause
        self._client = httpx.Client(
            base_url=login.url,
            auth=RegistryAuth(login),
            verify=_context(login),
            timeout=_TIMEOUT,
            headers={"user-agent": "mlstead", "accept-encoding": "identity"},
            event_hooks={"request": [self._check_scheme]},
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def digest(self, repository: str, reference: str) -> str:
        """Give the digest that a tag names now, or a digest that is there; "" if there is none.

        Of an image for several platforms it is the digest of their list.
        """
        path = self._path(repository, "manifests", reference)

        def ask() -> str:
            with self._asked("HEAD", path, headers=_ACCEPT) as response:
                if response.status_code == httpx.codes.NOT_FOUND:
                    return ""
                self._check(response, f"{repository}:{reference}")
                return str(response.headers.get("docker-content-digest", ""))

        found = self._again(ask)
        if found and is_digest(reference) and found != reference:
            raise self._wrong(repository, reference, found)
        return found

    def manifest(self, repository: str, reference: str) -> Manifest:
        """Give a manifest or a list of manifests, whose bytes are those of its digest.

        Raises:
            NotFoundError: there is no such image.
            UserError: the bytes are others than their digest says.
        """
        path = self._path(repository, "manifests", reference)

        def ask() -> Manifest:
            with self._asked("GET", path, headers=_ACCEPT, follow_redirects=True) as response:
                self._check(response, f"{repository}:{reference}")
                content = _limited(response)
                said = str(response.headers.get("docker-content-digest", ""))
                kind = str(response.headers.get("content-type", "")).partition(";")[0].strip()
            found = sha256(content)
            for wanted in (reference if is_digest(reference) else "", said):
                if wanted and wanted != found:
                    raise self._wrong(repository, wanted, found)
            data = self._parsed(content, repository)
            return Manifest(found, str(data.get("mediaType") or kind), content, data)

        return self._again(ask)

    def resolve(self, repository: str, reference: str, platform: str = PLATFORM) -> Manifest:
        """Give the manifest of an image for one platform.

        Raises:
            NotFoundError: there is no such image, or none for the platform.
            UserError: it is in a format of before 2016, or its bytes are others than they should.
        """
        found = self.manifest(repository, reference)
        name = f"{self.login.address}/{repository}:{reference}"
        if found.media_type in INDEXES:
            offered = _offered(found)
            if platform not in offered:
                known = ", ".join(sorted(offered)) or "none"
                raise NotFoundError(f"{name}: not for {platform}", hint=f"it is for: {known}")
            found = self.manifest(repository, offered[platform])
        if found.media_type not in (OCI_MANIFEST, DOCKER_MANIFEST):
            raise UserError(f"{name}: {found.media_type or 'unknown'} is no image we can read")
        return found

    def has(self, repository: str, digest: str) -> bool:
        """Say whether a repository holds a blob."""
        path = self._path(repository, "blobs", digest)

        def ask() -> bool:
            with self._asked("HEAD", path, follow_redirects=True) as response:
                if response.status_code == httpx.codes.NOT_FOUND:
                    return False
                self._check(response, repository)
                return True

        return self._again(ask)

    def read(self, repository: str, digest: str) -> bytes:
        """Give a small blob, such as an image's configuration.

        Raises:
            NotFoundError: there is no such blob.
            UserError: it is large, or its bytes are others than the digest says.
        """

        def ask() -> bytes:
            found = b""
            for chunk in self.stream(repository, digest):
                found += chunk
                if len(found) > _LARGEST:
                    raise UserError(f"{self.login.address}/{repository}: {digest} is too large")
            return found

        return self._again(ask)

    def stream(self, repository: str, digest: str) -> Iterator[bytes]:
        """Give a blob piece by piece, once; the last piece comes when the digest was compared.

        Raises:
            NotFoundError: there is no such blob.
            UserError: its bytes are others than the digest says.
            UnavailableError: the registry does not answer, or breaks off.
        """
        path = self._path(repository, "blobs", digest)
        running = hashlib.sha256()
        last = b""
        with self._asked("GET", path, follow_redirects=True) as response:
            self._check(response, repository)
            for chunk in response.iter_raw(_CHUNK):
                running.update(chunk)
                if last:
                    yield last
                last = chunk
        found = f"sha256:{running.hexdigest()}"
        if found != digest:
            raise self._wrong(repository, digest, found)
        yield last

    def mount(self, repository: str, digest: str, origin: str) -> bool:
        """Take a blob over from another repository of this registry; False if that cannot be."""
        path = self._path(repository, "blobs", "uploads/")
        given = {"mount": digest, "from": origin}

        def ask() -> bool:
            with self._asked("POST", path, params=given) as response:
                if response.status_code == httpx.codes.ACCEPTED:
                    self._drop(response)
                    return False
                self._check(response, repository)
                return True

        return self._again(ask)

    def upload(self, repository: str, blob: Blob) -> None:
        """Write a blob, streamed; the registry compares the digest. From the start if it breaks.

        Raises:
            UserError: the login may not write there, or the bytes are others than the digest says.
            UnavailableError: the registry does not answer.
        """
        path = self._path(repository, "blobs", "uploads/")

        def send() -> None:
            with self._asked("POST", path) as begun:
                self._check(begun, repository)
                place = begun.url.join(begun.headers.get("location", ""))
            headers = {
                "content-type": "application/octet-stream",
                "content-length": str(blob.size),
            }
            target = place.copy_merge_params({"digest": blob.digest})
            with self._asked("PUT", target, headers=headers, content=blob) as response:
                self._check(response, f"{repository}: {blob.digest}")

        self._again(send)

    def put(self, repository: str, reference: str, media_type: str, content: bytes) -> None:
        """Write a manifest under a tag or its digest; what it names must be there.

        Raises:
            NotFoundError: something that it names is missing.
            UserError: the login may not write there.
        """
        path = self._path(repository, "manifests", reference)

        def send() -> None:
            headers = {"content-type": media_type}
            with self._asked("PUT", path, headers=headers, content=content) as response:
                self._check(response, f"{repository}:{reference}")

        self._again(send)

    def _drop(self, begun: httpx.Response) -> None:
        """Tell the registry that a begun upload is not wanted."""
        place = begun.url.join(begun.headers.get("location", ""))
        with self._asked("DELETE", place):
            pass  # whatever it answers: it forgets such uploads after a while by itself

    def _again(self, call: Callable[[], T]) -> T:
        for wait in _WAITS:
            try:
                return call()
            except UnavailableError as error:
                self._pause(min(_PATIENCE, wait if error.delay is None else error.delay))
        return call()

    @contextmanager
    def _asked(self, method: str, place: str | httpx.URL, **given: Any) -> Iterator[httpx.Response]:
        follow = given.pop("follow_redirects", False)
        try:
            request = self._client.build_request(method, place, **given)
            response = self._client.send(request, stream=True, follow_redirects=follow)
            try:
                yield response
            finally:
                response.close()
        except httpx.InvalidURL as error:
            raise UserError(f"{self.login.address}: gives an address that is none") from error
        except httpx.HTTPError as error:
            raise self._translated(error) from error

    def _translated(self, error: httpx.HTTPError) -> UserError | UnavailableError:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__cause__ or cause.__context__
        address = self.login.address
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UserError(
                f"{address}: its certificate is not trusted: {cause.verify_message}",
                hint="give the certificate of the authority that vouches for this registry",
            )
        if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER",
            "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):  # fmt: skip
            return UserError(
                f"{address}: does not speak https", hint="plain http must be asked for"
            )
        return UnavailableError(f"{address}: {error or type(error).__name__}")

    def _check(self, response: httpx.Response, what: str) -> None:
        """Refuse an answer that is no success.

        Raises:
            NotFoundError, UserError, UnavailableError: by what it says.
        """
        status = response.status_code
        if response.is_success:
            return
        name = f"{self.login.address}/{what}"
        said = _said(response)
        if status == httpx.codes.TOO_MANY_REQUESTS or status >= 500:
            after = response.headers.get("retry-after", "")
            delay = float(after) if after.isdecimal() else None
            raise UnavailableError(f"{name}: the registry answers {status}{said}", delay=delay)
        if status == httpx.codes.NOT_FOUND or "BLOB_UNKNOWN" in said:
            raise NotFoundError(f"{name}: the registry has no such image{said}")
        who = repr(self.login.user) if self.login.user else "who does not log in"
        if status == httpx.codes.UNAUTHORIZED:
            hint = "are name and password right?" if self.login.user else "it wants a login"
            raise UserError(f"{name}: the registry refuses {who}{said}", hint=hint)
        if status == httpx.codes.FORBIDDEN:
            raise UserError(f"{name}: the registry does not allow this to {who}{said}")
        raise UserError(f"{name}: the registry answers {status}{said}")

    def _check_scheme(self, request: httpx.Request) -> None:
        """Refuse to be sent from https to http, by whatever the registry says."""
        if request.url.scheme != "https" and not self.login.plain:
            raise UserError(f"{self.login.address}: leads to {request.url.host} without https")

    def _path(self, repository: str, kind: str, name: str) -> str:
        check_repository(self.login.address, repository)
        if name != "uploads/":
            check_reference(name)
        return f"/v2/{repository}/{kind}/{name}"

    def _parsed(self, content: bytes, repository: str) -> Mapping[str, Any]:
        try:
            data = json.loads(content)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise UserError(f"{self.login.address}/{repository}: gives no manifest of an image")
        return data

    def _wrong(self, repository: str, wanted: str, found: str) -> UserError:
        return UserError(
            f"{self.login.address}/{repository}: gives bytes of {found}, not of {wanted}",
            hint="the registry's disk is damaged, or somebody is in between",
        )


def _context(login: Login) -> ssl.SSLContext:
    if not login.authority:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=login.authority)
    except (ssl.SSLError, ValueError) as error:
        raise UserError(f"{login.address}: its authority is no certificate in PEM") from error


def _offered(index: Manifest) -> dict[str, str]:
    """Give the digest for each platform of a list; the first one counts."""
    rows = index.data.get("manifests")
    found: dict[str, str] = {}
    for row in rows if isinstance(rows, list) else ():
        platform = row.get("platform") if isinstance(row, dict) else None
        if isinstance(platform, dict):
            name = f"{platform.get('os')}/{platform.get('architecture')}"
            found.setdefault(name, str(row.get("digest")))
    return found


def _limited(response: httpx.Response) -> bytes:
    content = b""
    for chunk in response.iter_raw(_CHUNK):
        content += chunk
        if len(content) > _LARGEST:
            raise UserError(f"{response.url.host}: gives a manifest over {_LARGEST} bytes")
    return content


def _said(response: httpx.Response) -> str:
    """Give the registry's own words, shortened; "" if there are none."""
    try:
        text = b"".join(response.iter_raw(4096))[:4096]
        first = json.loads(text)["errors"][0]
        words = f"{first.get('code', '')} {first.get('message', '')}".strip()
    except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError):
        return ""
    return f": {words[:200]}" if words else ""
