"""Objects go in and out of a pod whole, are tried again, and no error says a signature."""

from __future__ import annotations

import email
import email.policy
import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.clients.api_server import api_server
from tests.unit.clients.conftest import Asked, Loopback, closed_port, loopback

from mlstead.clients.authority import make_authority
from mlstead.runner import pod_transfer
from mlstead.runner.pod_transfer import Part, Transfer, TransferError

__all__ = ["closed_port", "loopback"]
FIELDS = {"policy": "p0licy", "x-amz-signature": "s1gnature", "x-amz-credential": "AKIA/x"}


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let time pass by pauses only, and these take none."""
    waited: list[float] = []
    clock = SimpleNamespace(sleep=waited.append, monotonic=lambda: sum(waited))
    monkeypatch.setattr(pod_transfer, "time", clock)
    return waited


def transfer(server: str) -> Transfer:
    return Transfer({"url": f"http://{server}/bucket", "fields": FIELDS, "prefix": "the/t/"})


def parts(asked: Asked) -> dict[str, bytes]:
    """Read a form as a server does."""
    head = f"Content-Type: {asked.headers['Content-Type']}\r\n\r\n".encode()
    message: Any = email.message_from_bytes(head + asked.body, policy=email.policy.HTTP)
    found = {}
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        found[part.get_param("name", header="content-disposition")] = content
    return found


@pytest.mark.parametrize("content", [b"", b"a line\n", bytes(range(256)) * 9000])
def test_a_file_is_sent_as_a_form_with_the_file_last(loopback: Loopback, content: bytes) -> None:
    file = io.BytesIO(content)
    file.seek(3)
    transfer(loopback.host).send("log/1/0/0", file, 0.0)
    (asked,) = loopback.asked
    assert (asked.method, asked.path) == ("POST", "/bucket")
    found = parts(asked)
    assert list(found) == [*FIELDS, "key", "file"]
    assert found["key"] == b"the/t/log/1/0/0"
    assert found["file"] == content
    assert {name: found[name].decode() for name in FIELDS} == FIELDS


def test_a_stretch_of_a_file_is_sent(loopback: Loopback, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        part: Any = Part(file, 3, 4)
        transfer(loopback.host).send("a", part, 0.0)
        assert (part.seek(0, 2), part.tell(), part.seek(2), part.read(), part.read()) == (
            4, 4, 2, b"56", b"",
        )  # fmt: skip
    assert parts(loopback.asked[0])["file"] == b"3456"


@pytest.mark.parametrize("status", [301, 408, 429, 500, 503])
def test_what_may_pass_is_tried_again_with_all_of_its_content(
    loopback: Loopback, pauses: list[float], status: int
) -> None:
    left = [status] * 3
    loopback.answer = lambda _asked: (left.pop() if left else 204, b"")
    transfer(loopback.host).send_bytes("a", b"content", 60.0)
    assert [parts(it)["file"] for it in loopback.asked] == [b"content"] * 4
    assert pauses == [0.2, 0.5, 1.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 412])
def test_what_is_refused_for_good_is_not_tried_again(loopback: Loopback, status: int) -> None:
    loopback.answer = lambda _asked: (status, b"<Error><Code>AccessDenied</Code></Error>")
    with pytest.raises(TransferError, match=f"/bucket: {status} .*AccessDenied") as error:
        transfer(loopback.host).send_bytes("a", b"content", 60.0)
    assert error.value.code == status
    assert len(loopback.asked) == 1


def test_patience_ends(loopback: Loopback, pauses: list[float], closed_port: int) -> None:
    loopback.answer = lambda _asked: (503, b"")
    with pytest.raises(TransferError):
        transfer(loopback.host).send_bytes("a", b"", 0.0)
    assert (len(loopback.asked), pauses) == (1, [])
    with pytest.raises(TransferError, match="ConnectionRefusedError") as error:
        transfer(f"127.0.0.1:{closed_port}").send_bytes("a", b"", 20.0)
    assert error.value.code == 0
    assert pauses == [0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0]


def test_an_object_is_fetched_or_is_not_there(loopback: Loopback) -> None:
    target = io.BytesIO(b"what was there before, and is longer")
    address = f"http://{loopback.host}/bucket/a%20b?X-Amz-Signature=s1gnature"
    loopback.answer = lambda _asked: (200, b"content")
    assert transfer(loopback.host).fetch(address, target, 0.0)
    assert target.getvalue() == b"content"
    assert loopback.asked[0].path == "/bucket/a%20b?X-Amz-Signature=s1gnature"
    loopback.answer = lambda _asked: (404, b"<Error/>")
    assert not transfer(loopback.host).fetch(address, target, 60.0)
    loopback.answer = lambda _asked: (403, b"no")
    with pytest.raises(TransferError, match="403") as error:
        transfer(loopback.host).fetch(address, target, 60.0)
    assert "s1gnature" not in str(error.value)


@contextmanager
def serving(*answers: bytes) -> Iterator[str]:
    """Answer each connection with these bytes, and close it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(20)


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncon",
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ncon\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"",
    ],
)
def test_an_answer_that_is_cut_off_is_fetched_again(cut: bytes) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncontent"
    target = io.BytesIO()
    with serving(cut, whole) as host:
        assert transfer(host).fetch(f"http://{host}/a", target, 60.0)
    assert target.getvalue() == b"content"


def test_a_server_is_believed_by_the_authority_that_was_given() -> None:
    with api_server() as server:
        server.answers((200, b"content"))
        post = {"url": f"{server.address}/bucket", "fields": FIELDS, "prefix": ""}
        own = Transfer(post, server.authority.certificate_pem)
        target = io.BytesIO()
        assert own.fetch(f"{server.address}/a", target, 0.0)
        own.send_bytes("a", b"x", 0.0)
        assert target.getvalue() == b"content"
        other = Transfer(post, make_authority("other").certificate_pem)
        with pytest.raises(TransferError, match="CERTIFICATE_VERIFY_FAILED"):
            other.fetch(f"{server.address}/a", target, 0.0)


def test_a_large_file_is_never_whole_in_memory(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_transfer, "PIECE", 1000)
    sizes: list[int] = []

    class File(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            piece = super().read(size)
            sizes.append(len(piece))
            return piece

    transfer(loopback.host).send("a", File(b"x" * 100_000), 0.0)
    assert parts(loopback.asked[0])["file"] == b"x" * 100_000
    assert max(sizes) <= 65536
