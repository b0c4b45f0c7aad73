"""Keeps the objects of one kind as the cluster has them: one list, then a watch, for ever."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from mlstead.clients.kubernetes import Cluster, ExpiredError, Object
from mlstead.errors import PlatformError

_END: Final = 5.0  # seconds that a thread may take to end
_PAUSES: Final = (0.2, 1.0, 3.0, 10.0)  # seconds between tries while the cluster is away


class Kept:
    """The objects of one kind with some labels, by name.

    Args:
        changed: called whenever something is different, from the thread that watches: with the
            object, or with None where anything may be.
    """

    def __init__(
        self, cluster: Cluster, path: str, selector: str, changed: Callable[[Object | None], None]
    ) -> None:
        self._cluster, self._path, self._selector = cluster, path, selector
        self._changed = changed
        self._lock = threading.Lock()
        self._objects: dict[str, Object] = {}
        self._version = ""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._socket: Any = None
        self.listed = threading.Event()
        self.problem: PlatformError | None = None

    def list(self) -> dict[str, Object]:
        """Ask for all objects now, without a watch."""
        return self._ask()[0]

    def _ask(self) -> tuple[dict[str, Object], str]:
        """Give all objects, and the version from which a watch goes on."""
        found = self._cluster.get(self._path, labelSelector=self._selector)
        items = {it["metadata"]["name"]: it for it in found["items"]}
        return items, found["metadata"]["resourceVersion"]

    def objects(self) -> dict[str, Object]:
        """Give the objects as they were last told of."""
        with self._lock:
            return dict(self._objects)

    @property
    def watched(self) -> bool:
        """True while a thread watches and knows everything."""
        alive = self._thread is not None and self._thread.is_alive()
        return alive and self.listed.is_set() and self.problem is None

    def start(self) -> None:
        """Watch in a thread of its own, unless one does."""
        if self._thread is None:
            self._ended.clear()
            self._thread = threading.Thread(target=self._live, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread and the connection it reads from."""
        thread, self._thread = self._thread, None
        self._ended.set()
        with contextlib.suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)
        if thread is not None:
            thread.join(_END)
        self.listed.clear()

    def _opened(self, connection: Any) -> None:
        self._socket = connection
        if self._ended.is_set():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _live(self) -> None:
        tries = 0
        while not self._ended.is_set():
            try:
                if not self.listed.is_set() or self.problem is not None:
                    self._relist()
                tries = 0
                self._follow()
            except ExpiredError:
                self.listed.clear()
                self._ended.wait(_PAUSES[0])
            except PlatformError as error:
                # what is known stays: a cluster that is away for a while loses nothing
                self.problem = error
                self._changed(None)
                self._ended.wait(_PAUSES[min(tries, len(_PAUSES) - 1)])
                tries += 1

    def _relist(self) -> None:
        found, self._version = self._ask()
        with self._lock:
            self._objects = found
        self.problem = None
        self.listed.set()
        self._changed(None)

    def _follow(self) -> None:
        """Take in changes until the server ends the watch."""
        began = time.monotonic()
        for event in self._cluster.watch(
            self._path, self._version, self._opened, labelSelector=self._selector
        ):
            if self._ended.is_set():
                return
            item = event["object"]
            self._version = item["metadata"]["resourceVersion"]
            if event["type"] == "BOOKMARK":
                continue
            with self._lock:
                if event["type"] == "DELETED":
                    self._objects.pop(item["metadata"]["name"], None)
                else:
                    self._objects[item["metadata"]["name"]] = item
            self._changed(item)
        if time.monotonic() - began < 1.0:
            self._ended.wait(1.0)  # a server that ends every watch at once is not to be pressed
