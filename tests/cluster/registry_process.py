"""A real image registry on loopback: the bundle's program, TLS of an authority of ours, a login."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.machines import given

from mlstead.clients.authority import Pair, issue
from mlstead.clients.registry import Login

USER, PASSWORD = "mlstead", "pass:wörd"
_HASH = "$2y$04$abcdefghijklmnopqrstuuWXKr2BvN6MFBGmbO8G1GNLW0JIJkxnC"  # of that password
_CONFIG = """\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {folder}/data}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
  secret: of-this-test-only
  tls: {{certificate: {folder}/tls.crt, key: {folder}/tls.key}}
auth:
  htpasswd: {{realm: test, path: {folder}/htpasswd}}
"""
_REQUEST = re.compile(r'"(GET|HEAD|POST|PUT|PATCH|DELETE) (\S+) HTTP[^"]*" (\d+)')


class RegistryProcess:
    """One registry; its data and its log lie in a folder."""

    def __init__(self, folder: Path, authority: Pair) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        pair = issue(authority, name="registry", names=["127.0.0.1"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tls.crt").write_text(pair.certificate_pem)
        (folder / "tls.key").write_text(pair.key_pem)
        (folder / "htpasswd").write_text(f"{USER}:{_HASH}\n")
        (folder / "config.yml").write_text(_CONFIG.format(folder=folder, port=self.port))
        self.login = Login(f"127.0.0.1:{self.port}", USER, PASSWORD, authority.certificate_pem)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(given.bundle() / "bin/registry"), "serve", str(self.folder / "config.yml")],
                stdout=log,
                stderr=log,
                env={"OTEL_TRACES_EXPORTER": "none"},
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            except OSError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, "the registry does not answer"
                time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a machine that loses its power."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(30)

    def wipe(self) -> None:
        """Lose all that it holds."""
        self.kill()
        shutil.rmtree(self.folder / "data")
        self.start()

    def blob(self, digest: str) -> Path:
        """Give the file in which it keeps a blob or a manifest."""
        name = digest.removeprefix("sha256:")
        return self.folder / "data/docker/registry/v2/blobs/sha256" / name[:2] / name / "data"

    def requests(self) -> list[tuple[str, str, int]]:
        """Give all requests so far: method, path, status."""
        found = _REQUEST.findall((self.folder / "log").read_text(encoding="utf-8"))
        return [(method, path, int(status)) for method, path, status in found]
