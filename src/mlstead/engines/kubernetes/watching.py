"""Keeps the objects of one kind as the cluster has them: one list, then a watch, for ever."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from mlstead.clients.kubernetes import Cluster, ExpiredError, Object
from mlstead.errors import PlatformError, UserError

_HAUNT: Final = 60.0  # seconds that what was deleted is still given
_END: Final = 5.0  # seconds that a thread may take to end
_PAUSES: Final = (0.2, 1.0, 3.0, 10.0)  # seconds between tries while the cluster is away


class Kept:
    """The objects of one kind with some labels, by name.

    Args:
        ghosts: says which of those that were deleted a moment ago are still given.
        changed: called whenever something is different, from the thread that watches: with the
            object, or with None where anything may be.
    """

    def __init__(
        self,
        cluster: Cluster,
        path: str,
        selector: str,
        changed: Callable[[Object | None], None],
        *,
        ghosts: Callable[[Object], bool] | None = None,
    ) -> None:
        self._cluster, self._path, self._selector = cluster, path, selector
        self._changed = changed
        self._lock = threading.Lock()
        self._objects: dict[str, Object] = {}
        self._is_ghost = ghosts
        self._haunting: dict[str, tuple[float, Object]] = {}
        self._version = ""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._socket: Any = None
        self.listed = threading.Event()
        self.problem: PlatformError | None = None
        self.refused: PlatformError | None = None

    def list(self) -> dict[str, Object]:
        """Ask for all objects now, without a watch."""
        return self._ask()[0]

    def _ask(self) -> tuple[dict[str, Object], str]:
        """Give all objects, and the version from which a watch goes on."""
        found = self._cluster.look(self._path, labelSelector=self._selector)
        items = {it["metadata"]["name"]: it for it in found["items"]}
        return items, found["metadata"]["resourceVersion"]

    def objects(self) -> dict[str, Object]:
        """Give the objects as they were last told of."""
        with self._lock:
            for name, (since, _) in list(self._haunting.items()):
                if time.monotonic() - since > _HAUNT:
                    del self._haunting[name]
            return {name: it for name, (_, it) in self._haunting.items()} | self._objects

    @property
    def started(self) -> bool:
        """True in a process that stays and watches, or tries to."""
        return self._thread is not None

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
        tries, expired = 0, False
        while not self._ended.is_set():
            try:
                if expired or not self.listed.is_set() or self.problem is not None:
                    self._relist()
                tries, expired = 0, False
                self._follow()
            except ExpiredError:
                expired = True
                self._ended.wait(_PAUSES[0])
            except PlatformError as error:
                # what is known stays: a cluster that is away for a while loses nothing
                self.problem = error
                if isinstance(error, UserError) and tries >= len(_PAUSES):
                    self.refused = error  # one that just started may refuse for a moment
                self._changed(None)
                self._ended.wait(_PAUSES[min(tries, len(_PAUSES) - 1)])
                tries += 1

    def _relist(self) -> None:
        found, self._version = self._ask()
        with self._lock:
            self._objects = found
        self.problem = self.refused = None
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
                    if self._is_ghost is not None and self._is_ghost(item):
                        self._haunting[item["metadata"]["name"]] = (time.monotonic(), item)
                else:
                    self._objects[item["metadata"]["name"]] = item
            self._changed(item)
        if time.monotonic() - began < 1.0:
            self._ended.wait(1.0)  # a server that ends every watch at once is not to be pressed
