"""An API server of a cluster on loopback, over TLS, that answers what a test tells it to."""

from __future__ import annotations

import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mlstead.clients.authority import Pair, issue, make_authority


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    user: str


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that comes line by line; ``cut`` breaks the connection after the last."""

    pieces: Iterable[bytes]
    cut: bool = False


Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]


@dataclass(slots=True)
class ApiServer:
    """Where the server is, whom it trusts, what it answers, and what it was asked."""

    authority: Pair
    port: int = 0
    answer: Callable[[Asked], Answer] = lambda _asked: (200, {})
    asked: list[Asked] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def answers(self, *many: Answer) -> None:
        """Answer one after the other; the last one for ever."""
        left = list(many)
        self.answer = lambda _asked: left.pop(0) if len(left) > 1 else left[0]


def _handler(state: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            connection: Any = self.connection
            shown = dict(it[0] for it in (connection.getpeercert() or {}).get("subject", ()))
            asked = Asked(
                self.command, parts.path, dict(parse_qsl(parts.query)),
                {name.lower(): value for name, value in self.headers.items()}, body,
                str(shown.get("commonName", "")),
            )  # fmt: skip
            state.asked.append(asked)
            status, content, *more = state.answer(asked)
            if isinstance(content, Stream):
                self._stream(content)
                return
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in (more[0] if more else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, content: Stream) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.close_connection = True
            try:
                for piece in content.pieces:
                    self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                    self.wfile.flush()
                if not content.cut:
                    self.wfile.write(b"0\r\n\r\n")
            except OSError:
                return  # who watched has gone

        do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 the names http.server asks for

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext):
        super().__init__(("127.0.0.1", port), handler)
        self._tls = tls
        self._open: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.settimeout(20)
        return self._tls.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        ), address

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away, or that do not trust us, are part of the tests."""

    def end_connections(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def _tls(authority: Pair) -> ssl.SSLContext:
    own = issue(authority, name="kubernetes", names=["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(cadata=authority.certificate_pem)
    context.verify_mode = ssl.CERT_OPTIONAL
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(own.certificate_pem + own.key_pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


@contextmanager
def running(state: ApiServer) -> Iterator[None]:
    """Serve until the block ends, at the port that it had before if there is one."""
    server = _Server(state.port, _handler(state), _tls(state.authority))
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.end_connections()
        server.server_close()


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """Make an authority and serve until the block ends."""
    state = ApiServer(make_authority("test"))
    with running(state):
        yield state


def kubeconfig(
    folder: Path, state: ApiServer, user: dict[str, Any] | None = None, **cluster: Any
) -> Path:
    """Write a kubeconfig whose one context leads to the server; JSON is YAML, too."""
    (folder / "ca.pem").write_text(state.authority.certificate_pem)
    known = {"server": state.address, "certificate-authority": "ca.pem", **cluster}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "c", "cluster": {k: v for k, v in known.items() if v is not None}}],
        "users": [{"name": "u", "user": {"token": "s3cret"} if user is None else user}],
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
    }
    path = folder / "config"
    path.write_text(json.dumps(content))
    return path
