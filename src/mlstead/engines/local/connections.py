"""Connections to the keeper of one home, kept for the next use by any thread."""

import os
import select
import socket
import threading

from mlstead.engines.local import wire
from mlstead.engines.local.disk import Home
from mlstead.errors import UnavailableError


class Connections:
    """Hands out connections that listen for news; each is used by one caller at a time."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._idle: list[socket.socket] = []
        self._mutex = threading.Lock()
        self._owner = os.getpid()

    def wake(self) -> None:
        """See to it that there is a keeper."""
        self._give_back(self.take())

    def tell(self, *lines: str) -> None:
        """Send lines to the keeper.

        Raises:
            UnavailableError: it goes away again and again.
        """
        data = "".join(f"{line}\n" for line in lines).encode()
        for _ in range(3):
            connection = self.take()
            try:
                connection.sendall(data)
            except OSError:
                connection.close()
                continue
            self._give_back(connection)
            return
        raise UnavailableError(f"the keeper of {self._home.root} does not answer")

    def take(self) -> socket.socket:
        """Give a connection on which nothing lies yet; give it to ``listen``.

        Raises:
            TimeoutError: no keeper answers.
        """
        with self._mutex:
            if self._owner != os.getpid():
                self._idle.clear()
                self._owner = os.getpid()
            while self._idle:
                connection = self._idle.pop()
                if _drain(connection):
                    return connection
                connection.close()
        connection = wire.reach(self._home)
        connection.sendall(b"listen\n")
        return connection

    def listen(self, connection: socket.socket, seconds: float) -> None:
        """Wait until something happens, the keeper goes, or the time is over."""
        ready, _, _ = select.select([connection], [], [], seconds)
        if ready and not _drain(connection):
            connection.close()
        else:
            self._give_back(connection)

    def close(self) -> None:
        """Close what is kept."""
        with self._mutex:
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def _give_back(self, connection: socket.socket) -> None:
        with self._mutex:
            self._idle.append(connection)


def _drain(connection: socket.socket) -> bool:
    """Read what lies there; False when the other side is gone."""
    try:
        while data := connection.recv(65536, socket.MSG_DONTWAIT):
            del data
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
