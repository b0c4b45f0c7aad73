"""Where programs in pods write a line each, and the gate they wait at: a small HTTP server."""

from __future__ import annotations

import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.cluster import bed
from tests.local.front_door import wait

_PROGRAM = """\
import os, time, urllib.parse, urllib.request
def ask(what):
    for _ in range(200):
        try:
            with urllib.request.urlopen({url!r} + what, timeout=10) as answer:
                return answer.status
        except OSError:
            time.sleep(0.2)
def say(line):
    ask("/say/" + urllib.parse.quote(str(line), safe=""))
def wait_at_gate():
    while ask("/gate") != 200:
        time.sleep(0.2)
"""


class Book:
    """Lines in the order in which they came, and a gate that is shut until it is opened."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._gate = threading.Event()
        book = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/say/"):
                    book.lines.append(urllib.parse.unquote(self.path.removeprefix("/say/")))
                shut = self.path == "/gate" and not book._gate.is_set()
                self.send_response(204 if shut else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((bed.GATEWAY, 0), Answer)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def program(self, text: str) -> str:
        """Give a Python program that may ``say(line)`` and ``wait_at_gate()``."""
        host, port = self._server.server_address[:2]
        return _PROGRAM.format(url=f"http://{host!s}:{port}") + text

    def open(self) -> None:
        """Let all programs go on."""
        self._gate.set()

    def reaches(self, count: int, seconds: float = 240.0) -> None:
        """Wait until so many lines were written."""
        wait(lambda: len(self.lines) >= count, seconds, lambda: f"only {self.lines}")

    def close(self) -> None:
        """Answer no more."""
        self._gate.set()
        self._server.shutdown()
        self._server.server_close()
