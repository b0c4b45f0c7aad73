"""Brings objects in and out of an S3 server by addresses that were signed for this task alone."""

from __future__ import annotations

import http.client
import io
import os
import ssl
import time
import uuid
from collections.abc import Callable
from typing import Any, BinaryIO
from urllib.parse import urlsplit

PIECE = 1 << 20
_TIMEOUT = 60.0  # seconds without an answer
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)


class TransferError(Exception):
    """The server refused, or did not answer in time; ``code`` is its status, 0 for no answer."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class Transfer:
    """Sends and fetches; tries again what may go through later.

    Args:
        post: address and fields of a signed form that takes any key below one prefix.
        authority: PEM of who signs the server's certificate; "" for the system's.
    """

    def __init__(self, post: dict[str, Any], authority: str = "") -> None:
        self._post = post
        self._authority = authority

    def send(self, key: str, content: BinaryIO, patience: float) -> None:
        """Put an object under the task's prefix; ``content`` is read from its start.

        Raises:
            TransferError: it was refused, or nothing answered for ``patience`` seconds.
        """
        content.seek(0, os.SEEK_END)
        size = content.tell()
        fields = {**self._post["fields"], "key": self._post["prefix"] + key}
        boundary = uuid.uuid4().hex
        head, tail = _form(fields, boundary)
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + size + len(tail)),
        }

        def attempt() -> None:
            content.seek(0)
            body = _Joined(io.BytesIO(head), content, io.BytesIO(tail))
            with _Answer(self._post["url"], self._authority, "POST", headers, body):
                pass

        _try(attempt, patience)

    def send_bytes(self, key: str, content: bytes, patience: float) -> None:
        """Put a small object."""
        self.send(key, io.BytesIO(content), patience)

    def fetch(self, url: str, target: BinaryIO, patience: float) -> bool:
        """Write an object to a file; False if there is none.

        Raises:
            TransferError: it was refused, or nothing answered for ``patience`` seconds.
        """

        def attempt() -> None:
            target.seek(0)
            target.truncate()
            with _Answer(url, self._authority, "GET", {}, None) as answer:
                while True:
                    piece = answer.read(PIECE)
                    if not piece:
                        break
                    target.write(piece)
                # http.client says nothing of a body, or of a header, that was cut off
                if answer.length or (answer.length is None and not answer.chunked):
                    raise http.client.HTTPException("the answer was cut off")

        try:
            _try(attempt, patience)
        except TransferError as error:
            if error.code == http.client.NOT_FOUND:
                return False
            raise
        return True


def _try(attempt: Callable[[], None], patience: float) -> None:
    """Do something until it goes through, is refused for good, or patience has ended."""
    end = time.monotonic() + patience
    number = 0
    while True:
        try:
            attempt()
            return
        except TransferError as error:
            if 400 <= error.code < 500 and error.code not in (408, 429):
                raise
            last = error
        except (OSError, http.client.HTTPException) as error:
            last = TransferError(f"{type(error).__name__}: {error}")
        pause = _PAUSES[min(number, len(_PAUSES) - 1)]
        number += 1
        if time.monotonic() + pause > end:
            raise last
        time.sleep(pause)


class _Answer:
    """One request; as a context it gives the answer, if that is a good one."""

    def __init__(
        self, url: str, authority: str, method: str, headers: dict[str, str], body: Any
    ) -> None:
        self._url = urlsplit(url)
        self._method, self._headers, self._body = method, headers, body
        host = self._url.hostname or ""
        if self._url.scheme == "https":
            context = ssl.create_default_context(cadata=authority or None)
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, self._url.port, timeout=_TIMEOUT, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(host, self._url.port, timeout=_TIMEOUT)

    def __enter__(self) -> http.client.HTTPResponse:
        try:
            return self._ask()
        except BaseException:
            self._connection.close()
            raise

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def _ask(self) -> http.client.HTTPResponse:
        path = self._url.path or "/"
        if self._url.query:
            path += "?" + self._url.query
        self._connection.request(self._method, path, self._body, self._headers)
        answer = self._connection.getresponse()
        if answer.status >= 300:
            said = answer.read(500).decode("utf-8", "replace")
            # never the address itself: its query is the right to use it
            where = f"{self._url.scheme}://{self._url.netloc}{self._url.path}"
            raise TransferError(f"{where}: {answer.status} {answer.reason}: {said}", answer.status)
        return answer


class _Joined:
    """Several files read as one; http.client sends it piece by piece."""

    def __init__(self, *files: BinaryIO) -> None:
        self._files = list(files)

    def read(self, size: int) -> bytes:
        """Give the next piece; b"" at the end."""
        while self._files:
            piece = self._files[0].read(max(size, PIECE))
            if piece:
                return piece
            self._files.pop(0)
        return b""


def _form(fields: dict[str, str], boundary: str) -> tuple[bytes, bytes]:
    """Give what comes before and after the file in a form."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return "".join(parts).encode(), f"\r\n--{boundary}--\r\n".encode()


class Part:
    """A stretch of an open file, read as a file of its own."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size = file, start, size
        self._at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move within the stretch."""
        self._at = self._size + offset if whence == os.SEEK_END else offset
        return self._at

    def tell(self) -> int:
        """Say where reading goes on."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Give the next bytes of the stretch."""
        left = self._size - self._at
        wanted = left if size < 0 else min(size, left)
        piece = os.pread(self._file.fileno(), wanted, self._start + self._at)
        self._at += len(piece)
        return piece
