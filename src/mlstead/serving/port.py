"""The listening socket, shared by two generations of the same service while one replaces the other.

Both bind the port with SO_REUSEPORT. Left alone, the kernel spreads new connections over both, and
those that wait at the old socket when it closes are reset. So the newcomer attaches a filter that
sends every new connection to itself; the old one then closes an empty queue.
"""

import ctypes
import json
import socket
import struct
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from mlstead.errors import ConflictError, UnavailableError

_SO_ATTACH_REUSEPORT_CBPF = 51
_BPF_RETURN_CONSTANT = 0x06
_LISTENING = "0A"
_BACKLOG = 2048


def listen(host: str, port: int, service: str) -> socket.socket:
    """Listen on a port, alone or beside an older generation of the same service; 0 picks one.

    Raises:
        ConflictError: something else has the port.
        UnavailableError: the address cannot be used.
    """
    if port:
        _refuse_other(host, port, service)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        older = _listeners(listener.getsockname()[1])
        listener.listen(_BACKLOG)
    except OSError as error:
        raise UnavailableError(
            f"cannot listen on {host}:{port}: {error.strerror or error}", hint="choose another port"
        ) from error
    _take_new_connections(listener, older)
    return listener


def _refuse_other(host: str, port: int, service: str) -> None:
    # SO_REUSEPORT would let two different services of one user share a port without a word.
    connection = HTTPConnection(host, port, timeout=2)
    try:
        connection.request(
            "GET", f"/v2/models/{service}/ready", headers={"Host": f"localhost:{port}"}
        )
        response = connection.getresponse()
        said = json.loads(response.read(4096))
        same = isinstance(said, dict) and said.get("name") == service
    except OSError:
        return  # nobody there, or an older generation that hangs and is to be replaced
    except (HTTPException, ValueError):
        same = False
    finally:
        connection.close()
    if not same:
        raise ConflictError(f"port {port} is taken by something else", hint="choose another port")


def _listeners(port: int) -> int:
    found = 0
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with suppress(OSError):
            for line in table.read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state = line.split()[:4]
                found += state == _LISTENING and int(local.rpartition(":")[2], 16) == port
    return found


def _take_new_connections(listener: socket.socket, older: int) -> None:
    # A one-instruction program: "the socket that joined after `older` others". When those have
    # closed, the number is out of range and the kernel falls back to the sockets that are left.
    program = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN_CONSTANT, 0, 0, older))
    header = struct.pack("@HP", 1, ctypes.addressof(program))
    with suppress(OSError):  # not Linux, or not allowed: connections are spread over both
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, header)
