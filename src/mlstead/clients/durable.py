"""Writes a small file whole or not at all, for its owner alone, and lets one process change it."""

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only one, of all threads and processes, that changes a file; makes its folder.

    Who holds the lock beside the file may remove it.

    Raises:
        OSError: the folder or the lock cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = _locked(lock_of(path))
    try:
        yield
    finally:
        os.close(handle)


def lock_of(path: Path) -> Path:
    """Name the lock beside a file."""
    return path.with_name(f"{path.name}.lock")


def _locked(lock: Path) -> int:
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(handle), lock.stat()):
                return handle
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # it was removed while we waited: another one is the lock now


def write(path: Path, content: bytes) -> None:
    """Put a file of mode 0600 in place of another; it is on the disk when this returns.

    Raises:
        OSError: it cannot be written so; the older one is still there.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            if os.fstat(handle).st_mode & 0o077:
                raise OSError(errno.EPERM, "this disk keeps no permissions")
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk; OSError when it cannot be read."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
