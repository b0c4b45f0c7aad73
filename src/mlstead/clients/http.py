"""Downloads over http and https; looks at redirects, and refuses metadata servers."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from mlstead.errors import NotFoundError, UnavailableError, UserError
from mlstead.spec.address import shown

_REDIRECTS = 5
_CHUNK = 1 << 20
_TIMEOUT = 30.0
# Cloud machines answer here with their credentials.
_METADATA = tuple(
    ipaddress.ip_network(block)
    for block in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32")
)

Progress = Callable[[int, int], None]


def download(
    url: str,
    target: Path,
    *,
    sha256: str = "",
    limit: int | None = None,
    timeout: float = _TIMEOUT,
    progress: Progress | None = None,
) -> int:
    """Bring a file from a web server, whole or not at all; give its size in bytes.

    Args:
        url: http or https; a name and password in it are sent, and never shown.
        target: the file to write; one that is there is replaced.
        sha256: what the bytes must hash to; empty for no check.
        limit: bytes it may have at most.
        timeout: seconds without any answer.
        progress: told bytes done and bytes in all (0 when the server does not say).

    Raises:
        NotFoundError: the server has no such file.
        UserError: the address is not allowed, the server refuses, the file is too large, or
            its sha256 is another one.
        UnavailableError: the server does not answer, or fails.
    """
    aside = target.parent / f".{target.name[:100]}.{uuid.uuid4().hex[:12]}.part"
    try:
        with _translated(url), _open(url, timeout) as response, aside.open("xb") as file:
            size, found = _receive(response, file.write, limit, progress)
        if sha256 and found != sha256.lower():
            raise UserError(
                f"{shown(url)}: its sha256 is {found}, not {sha256}",
                hint="the file changed, or the number is wrong",
            )
        aside.replace(target)
    except OSError as error:
        raise UserError(f"{target}: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)
    return size


def _receive(
    response: httpx.Response,
    write: Callable[[bytes], Any],
    limit: int | None,
    progress: Progress | None,
) -> tuple[int, str]:
    announced = response.headers.get("content-length", "")
    total = int(announced) if announced.isdecimal() else 0
    digest = hashlib.sha256(usedforsecurity=False)
    size = 0
    for chunk in response.iter_raw(_CHUNK):
        size += len(chunk)
        if limit is not None and max(size, total) > limit:
            raise UserError(f"{shown(str(response.url))}: larger than {limit} bytes")
        digest.update(chunk)
        write(chunk)
        if progress is not None:
            progress(size, total)
    return size, digest.hexdigest()


@contextmanager
def _open(url: str, timeout: float) -> Iterator[httpx.Response]:
    headers = {"accept-encoding": "identity", "user-agent": "mlstead"}
    with httpx.Client(follow_redirects=False, timeout=timeout, headers=headers) as client:
        request = client.build_request("GET", url)
        for _ in range(_REDIRECTS + 1):
            _check(request.url)
            response = client.send(request, stream=True)
            try:
                _check_peer(response)
                if response.next_request is None:
                    _check_status(response)
                    yield response
                    return
                if request.url.scheme == "https" and response.next_request.url.scheme != "https":
                    raise UserError(f"{shown(url)}: redirects from https to http")
                request = response.next_request
            finally:
                response.close()
        raise UserError(f"{shown(url)}: more than {_REDIRECTS} redirects")


def _check(url: httpx.URL) -> None:
    """Refuse what is not the web, and hosts that resolve to a metadata address.

    Raises:
        UserError: it is refused.
    """
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError(f"{shown(str(url))}: not an http or https address")
    try:
        found = socket.getaddrinfo(url.host, url.port or 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return  # perhaps only a proxy knows the name; connecting tells
    for *_, address in found:
        _check_address(str(address[0]), url)


def _check_peer(response: httpx.Response) -> None:
    """Look at whom we really talk to: a name may resolve to another address the second time."""
    stream = response.extensions.get("network_stream")
    peer = stream.get_extra_info("server_addr") if stream is not None else None
    if peer:
        _check_address(str(peer[0]), response.request.url)


def _check_address(text: str, url: httpx.URL) -> None:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if any(address.version == block.version and address in block for block in _METADATA):
        raise UserError(
            f"{shown(str(url))}: leads to {address}, which is not allowed",
            hint="link-local addresses hold the credentials of cloud machines",
        )


def _check_status(response: httpx.Response) -> None:
    status, url = response.status_code, shown(str(response.url))
    if status in (404, 410):
        raise NotFoundError(f"{url}: not found ({status})")
    if status == 429 or status >= 500:
        after = response.headers.get("retry-after", "")
        delay = float(after) if after.isdecimal() else None
        raise UnavailableError(f"{url}: the server answers {status}", delay=delay)
    if status != 200:
        raise UserError(f"{url}: the server answers {status}")


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.UnsupportedProtocol as error:
        raise UserError(f"{shown(url)}: {error}") from error
    except httpx.InvalidURL:
        # not `from`: what it says quotes a part of the address, perhaps of a password
        raise UserError(
            f"{shown(url)}: not an address",
            hint="write / ? # and @ in a password as %2F %3F %23 %40",
        ) from None
    except httpx.HTTPError as error:
        raise UnavailableError(f"{shown(url)}: {error or type(error).__name__}") from error
