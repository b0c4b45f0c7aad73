"""Free ports on the loopback address that no two groups of this user ever share."""

import fcntl
import os
import random
import socket
import stat
from pathlib import Path

_LOWEST, _HIGHEST = 20000, 32000  # below the ports Linux gives to outgoing connections


def user_folder(base: Path = Path("/tmp")) -> Path:
    """Give a folder with a short name that only this user can enter.

    Raises:
        PermissionError: somebody else made a folder of that name.
    """
    folder = base / f"mlstead-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not private or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a private folder of this user: remove it")
    return folder


def reserve(count: int) -> tuple[list[int], list[int]]:
    """Take free ports; they stay taken until the descriptors, given second, are closed.

    Raises:
        OSError: there are not so many free ports.
    """
    folder = user_folder() / "ports"
    folder.mkdir(exist_ok=True)
    numbers: list[int] = []
    locks: list[int] = []
    for port in random.sample(range(_LOWEST, _HIGHEST), _HIGHEST - _LOWEST):
        if len(numbers) == count:
            return numbers, locks
        lock = _take(folder / str(port))
        if lock is None:
            continue
        if is_free(port):
            numbers.append(port)
            locks.append(lock)
        else:
            os.close(lock)
    raise OSError(f"no {count} free ports between {_LOWEST} and {_HIGHEST}")


def _take(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def is_free(port: int) -> bool:
    """Say whether a program could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
