"""What a call and the warm process agree on: the place of the socket, and one message.

Imported by every call before anything else: only what starts quickly may stand at the top.
"""

import os
import resource
import signal
import socket
import stat
import sys
import zlib

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH)
HELLO, READY, GO, ENDED, KILLED = b"H", b"R", b"G", b"E", b"K"
DESCRIPTORS, HIGHEST = 64, 500
_LONGEST = 1 << 24
_SPACES = ("user", "mnt", "pid", "net", "ipc", "uts")
_EARLY = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "OPENSSL_", "TYPER_", "_TYPER_")
_EARLY_NAMES = (
    "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE", "GITHUB_ACTIONS", "TERMINAL_WIDTH",
)  # fmt: skip
# What a process may do and where it may run: a sandbox must not be left through another process.
_HELD = ("Cap", "NoNewPrivs", "Seccomp", "Cpus_allowed:", "Mems_allowed:")
_LIMITS = tuple(sorted(v for k, v in vars(resource).items() if k.startswith("RLIMIT_")))


def circumstances() -> bytes:
    """Tell what a process cannot change after its start; only equals may serve each other."""
    spaces = [os.readlink(f"/proc/self/ns/{name}") for name in _SPACES]  # noqa: PTH115
    early = sorted(f"{name}={value}" for name, value in os.environ.items() if is_early(name))
    ids = [*os.getresuid(), *os.getresgid(), *sorted(os.getgroups()), os.getpriority(0, 0)]
    words = [__file__, sys.executable, sys.prefix, sys.version, *map(str, ids), *spaces, *early]
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
        words += [line.strip() for line in file if line.startswith(_HELD)]
    return os.fsencode("\n".join(words))


def is_early(name: str) -> bool:
    """Say whether a variable is read when a library is loaded, not when it is used."""
    return name.startswith(_EARLY) or name in _EARLY_NAMES


def path(told: bytes) -> str | None:
    """Give the socket for these circumstances; None where there is no folder of this user alone."""
    folder = os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/mlstead-{os.getuid()}"
    try:
        found = os.lstat(folder)
    except OSError:
        return None
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not private or found.st_mode & 0o077:
        return None
    name = f"{folder}/mlstead-warm-{zlib.crc32(told):08x}"
    return name if len(os.fsencode(name)) < 100 else None


def caller(connection: socket.socket) -> int:
    """Give the user at the other end."""
    size = 12
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int.from_bytes(told[4:8], sys.byteorder)


def send(connection: socket.socket, told: bytes, argv: list[str]) -> None:
    """Describe this process and send copies of its descriptors, that of its folder first.

    Raises:
        OSError: nobody reads; or there are more descriptors, or higher ones, than can be sent.
    """
    umask = os.umask(0o077)
    os.umask(umask)
    numbers = [n for n in map(int, os.listdir("/proc/self/fd")) if _inherited(n)]  # noqa: PTH208
    if len(numbers) > DESCRIPTORS or max(numbers, default=0) >= HIGHEST:
        raise OSError("too many descriptors")
    ignored = [one for one in FORWARDED if signal.getsignal(one) is signal.SIG_IGN]
    limits = [(one, *resource.getrlimit(one)) for one in _LIMITS]
    head = (
        told,
        b"%d" % umask,
        b",".join(b"%d" % one for one in ignored),
        b",".join(b"%d:%d:%d" % limit for limit in limits),
        b",".join(b"%d" % one for one in numbers),
        b"%d" % len(argv),
    )
    env = [name + b"=" + value for name, value in os.environb.items()]
    body = b"\0".join((*head, *map(os.fsencode, argv), *env))
    folder = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        socket.send_fds(connection, [b"%12d" % len(body)], [folder, *numbers])
    finally:
        os.close(folder)
    connection.sendall(body)


def _inherited(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:
        return False  # that of the listing itself


def receive(connection: socket.socket) -> tuple[list[bytes], list[int]]:
    """Take the words of a request, and the descriptors that came with it.

    Raises:
        OSError: the other end has gone.
        ValueError: it is no request.
    """
    length, descriptors, _, _ = socket.recv_fds(connection, 12, DESCRIPTORS + 1)
    left = int(length)
    if not 0 < left < _LONGEST:
        raise ValueError(left)
    parts = []
    while left:
        part = connection.recv(min(left, 1 << 18))
        if not part:
            raise ConnectionResetError
        parts.append(part)
        left -= len(part)
    return b"".join(parts).split(b"\0"), list(descriptors)
