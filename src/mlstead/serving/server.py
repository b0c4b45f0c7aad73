"""Runs a service: loads it, listens, says that it is ready, and drains when it is told to stop."""

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType

import uvicorn

from mlstead.serving.app import App
from mlstead.serving.config import ServerConfig
from mlstead.serving.guard import Guard
from mlstead.serving.port import listen
from mlstead.serving.service import load_service

LINGER = 0.3
"""Seconds from a stop signal until the port is closed; answers meanwhile close their connection."""


class _Server(uvicorn.Server):
    """Uvicorn that announces itself, and lets connections go before it stops."""

    def __init__(self, config: uvicorn.Config, app: App, settings: ServerConfig) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if self._settings.ready_file and sockets:
            announce(self._settings, sockets[0], self._app.versions)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not passed on: Uvicorn would raise the signal again, and a drained server exits with 0.
        if self._app.draining or self._loop is None:
            self.should_exit = True
            return
        self._app.draining = True
        self._loop.call_soon_threadsafe(self._loop.call_later, LINGER, self._stop)

    def _stop(self) -> None:
        self.should_exit = True


def announce(settings: ServerConfig, listener: socket.socket, versions: Iterable[str]) -> None:
    """Write the ready file, whole or not at all: url, port, pid, versions."""
    port = listener.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    told = {
        "url": f"http://{host}:{port}",
        "port": port,
        "pid": os.getpid(),
        "versions": sorted(versions),
    }
    path = Path(settings.ready_file)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(told), encoding="utf-8")
    aside.replace(path)


def serve(settings: ServerConfig) -> int:
    """Serve until a stop signal; give the exit code, 0 when every request was answered.

    Raises:
        UserError: a version cannot be loaded, or the port belongs to something else.
        UnavailableError: the address cannot be used.
    """
    service = load_service(settings)
    app = App(service, Guard(settings.host, settings.hosts), _release())
    listener = listen(settings.host, settings.port, settings.name)
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="error",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(settings.limits.drain)),
    )
    server = _Server(config, app, settings)
    server.run(sockets=[listener])
    service.close()
    if service.stuck:
        names = ", ".join(service.stuck)
        logging.getLogger("mlstead.serving").error("stopped while %s had a request", names)
        sys.stderr.flush()
        os._exit(1)  # a thread that is still in the model would keep the process for ever
    return 0


def _release() -> str:
    try:
        return version("mlstead")
    except PackageNotFoundError:
        return "unknown"
