"""The keeper's socket: lines come in, and whoever listens is told that there is news."""

import contextlib
import selectors
import socket
from collections.abc import Callable

from mlstead.engines.local import wire
from mlstead.engines.local.disk import Home


class Door:
    """Listens in the home, which only its owner can enter.

    Args:
        home: where the socket is.
        selector: gets every connection, with a function to call.
        obey: called with each line.
    """

    def __init__(
        self, home: Home, selector: selectors.BaseSelector, obey: Callable[[str], None]
    ) -> None:
        self._home = home
        self._selector = selector
        self._obey = obey
        self._clients: dict[socket.socket, bytearray] = {}
        self._listeners: set[socket.socket] = set()
        self._socket: socket.socket | None = None

    @property
    def visited(self) -> bool:
        """True while somebody is connected."""
        return bool(self._clients)

    def open(self) -> None:
        """Listen; whatever an earlier keeper left there is replaced."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._home.socket.unlink(missing_ok=True)
        with wire.address(self._home.socket) as name:
            listener.bind(name)
        listener.listen(128)
        listener.setblocking(False)
        self._socket = listener
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))

    def close(self) -> None:
        """Stop listening and send everybody away."""
        with contextlib.suppress(OSError):
            self._home.socket.unlink()
        for connection in list(self._clients):
            self._drop(connection)
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None

    def ring(self) -> None:
        """Tell those who listen that there is news."""
        for listener in self._listeners:
            # who does not read has enough to wake up by
            with contextlib.suppress(OSError):
                listener.send(b".")

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.setblocking(False)
                self._clients[connection] = bytearray()
                self._selector.register(
                    connection, selectors.EVENT_READ, lambda one=connection: self._receive(one)
                )
                # who connects mostly has something to say already
                self._receive(connection)

    def _receive(self, connection: socket.socket) -> None:
        if connection not in self._clients:
            return
        try:
            data = connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        buffer = self._clients[connection]
        buffer += data
        *lines, rest = bytes(buffer).split(b"\n")
        buffer[:] = rest
        for line in lines:
            if line == b"listen":
                self._listeners.add(connection)
            else:
                self._obey(line.decode(errors="replace"))

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._clients[connection]
        self._listeners.discard(connection)
        connection.close()
