"""The warm process: loads what verbs need, waits for calls, forks one child for each."""

import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from mlstead.cli._warm import live, wire
from mlstead.cli._warm.live import Sources
from mlstead.errors import PlatformError
from mlstead.platform import context as contexts

IDLE_SECONDS = 600.0
# What the frequent verbs load; the heavy parts (MLflow, Optuna, S3) stay where they are used.
LOADED = (
    "mlstead.cli.main", "mlstead.cli.run", "mlstead.cli.ps", "mlstead.cli.show",
    "mlstead.cli.logs", "mlstead.cli.stop", "mlstead.cli.get", "mlstead.cli.plan",
    "mlstead.cli.data", "mlstead.cli.model", "mlstead.cli._progress", "mlstead.spec.work",
    "mlstead.platform.versions", "mlstead.platform.services", "mlstead.engines.local",
    "mlstead.engines.local.engine", "mlstead.records.sql", "mlstead.records.sql.sqlite",
    "mlstead.artifacts.folder", "mlstead.work.submit", "mlstead.work.job",
    "mlstead.work.sweep", "mlstead.work.pipeline", "mlstead.work.service", "mlstead.work.drive",
    "typer.rich_utils", "rich.live", "rich.progress_bar", "subprocess",
)  # fmt: skip
OF_CLUSTERS = ("mlstead.engines.kubernetes.engine", "mlstead.artifacts.s3")
"""What they load besides, where some context is a cluster."""
PRACTICE = "mlstead: 1\nkind: job\nname: practice\ncommand: ['true']\n"


def main() -> None:
    """Serve the calls of this user in these circumstances until none has come for a while."""
    os.closerange(3, 1 << 20)
    os.chdir("/")
    told = wire.circumstances()
    path = wire.path(told)
    if path is None:
        return
    lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # another one is there, or just starting
    began = time.time_ns()
    for name in (*LOADED, *(OF_CLUSTERS if _has_cluster() else ())):
        importlib.import_module(name)
    importlib.import_module("mlstead.spec.load").parse(PRACTICE)  # much is built on first use
    sources = Sources.loaded(began)
    if sources is None or len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208
        return  # edited this very moment; or a thread, which no fork would take along
    gc.collect()
    gc.freeze()
    Server(path, told, sources, lock).serve()


def _has_cluster() -> bool:
    """Say whether a context of this home is a cluster; a damaged file is told by who reads it."""
    with suppress(PlatformError):
        _, known = contexts.load(contexts.home_folder())
        return any(it.engine == "kubernetes" for it in known.values())
    return False


class Server:
    """Listens, forks, and tells callers how their verb died if it could not tell itself.

    Args:
        path: the socket.
        told: our circumstances.
        sources: what we have loaded, as it was then.
        lock: keeps a second one from starting.
    """

    def __init__(self, path: str, told: bytes, sources: Sources, lock: int) -> None:
        self._path = path
        self._lock = lock
        self._open = True
        self._told = told
        self._sources = sources
        self._verbs: dict[int, socket.socket] = {}
        self._callers: dict[int, int] = {}
        self._poll = select.epoll()
        self._news, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        Path(path).unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(64)
        self._listener.setblocking(False)
        self._poll.register(self._listener, select.EPOLLIN)
        self._poll.register(self._news, select.EPOLLIN)

    def serve(self) -> None:
        """Serve until nobody calls any more, or what we have loaded is no longer what is there."""
        while self._open or self._verbs:
            found = self._poll.poll(IDLE_SECONDS if not self._verbs else None)
            if not found and not self._verbs:
                self._close()
            for descriptor, _ in found:
                if self._open and descriptor == self._listener.fileno():
                    self._answer()
                elif descriptor == self._news:
                    os.read(self._news, 4096)
                    self._bury()
                elif descriptor in self._callers:
                    # the caller was killed: its verb must not write to its terminal for ever
                    self._poll.unregister(descriptor)
                    os.kill(self._callers.pop(descriptor), signal.SIGKILL)

    def _close(self) -> None:
        """Take no more calls and let another one take our place; the verbs that run go on."""
        if not self._open:
            return
        self._open = False
        with suppress(OSError):
            Path(self._path).unlink()
        self._poll.unregister(self._listener)
        self._listener.close()
        os.close(self._lock)

    def _answer(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # it went away meanwhile
        if wire.caller(connection) != os.getuid():
            connection.close()
            return
        try:
            pid = os.fork()
        except OSError:
            connection.close()  # no process to be had: the caller tries it itself
            return
        if pid == 0:
            live.live(connection, self._told, self._sources)
        self._verbs[pid] = connection
        self._callers[connection.fileno()] = pid
        self._poll.register(connection, select.EPOLLRDHUP)

    def _bury(self) -> None:
        stale = False
        while self._verbs:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            connection = self._verbs.pop(pid)
            if self._callers.pop(connection.fileno(), None) is not None:
                self._poll.unregister(connection)
            if os.WIFSIGNALED(status):
                with suppress(OSError):
                    connection.send(wire.KILLED + b"%d" % os.WTERMSIG(status))
            connection.close()
            stale = stale or status == live.STALE << 8
        if stale:
            self._close()
