"""The few system calls of a host's boot that Python lacks: mounts, pivot_root, capabilities."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

READ_ONLY = 1
NO_SETUID = 2
NO_DEVICES = 4
NO_PROGRAMS = 8
_REMOUNT = 32
_BIND = 4096
_RECURSIVE = 16384
_PRIVATE = 1 << 18
_SHARED = 1 << 20
QUIET = NO_SETUID | NO_DEVICES | NO_PROGRAMS

_PIVOT_ROOT = 155  # x86-64; the two below have one number everywhere
_OPEN_TREE = 428
_MOVE_MOUNT = 429
_HERE = -100  # AT_FDCWD
_CLONE = 1 | 0o2000000  # OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC
_FROM_DESCRIPTOR = 4  # MOVE_MOUNT_F_EMPTY_PATH
_DETACH = 2  # MNT_DETACH
_DROP_FROM_BOUND = 24  # PR_CAPBSET_DROP

_libc = ctypes.CDLL(None, use_errno=True)


def mount(kind: str, where: Path, flags: int = 0, options: str = "") -> None:
    """Mount a new file system of a kind."""
    _mount(kind, where, kind, flags, options)


def bind_read_only(where: Path) -> None:
    """Make what lies at a path read-only, if it is there."""
    if where.exists():
        _mount(str(where), where, "", _BIND, "")
        _mount("", where, "", _BIND | _REMOUNT | READ_ONLY | QUIET, "")


def unmount(where: Path) -> None:
    """Take away the topmost mount of a place."""
    _checked(_libc.umount2(str(where).encode(), _DETACH), f"umount {where}")


def make_private() -> None:
    """Let no mount of this namespace travel to another."""
    _mount("none", Path("/"), "", _RECURSIVE | _PRIVATE, "")


def make_shared() -> None:
    """Let mounts travel to the namespaces that are made from this one (pods)."""
    _mount("none", Path("/"), "", _RECURSIVE | _SHARED, "")


def take(path: Path) -> int:
    """Hold the mount of a path without a place; a descriptor."""
    number = _libc.syscall(_OPEN_TREE, _HERE, str(path).encode(), _CLONE)
    return _checked(number, f"open_tree {path}")


def put(held: int, where: Path) -> None:
    """Give a held mount its place."""
    done = _libc.syscall(_MOVE_MOUNT, held, b"", _HERE, str(where).encode(), _FROM_DESCRIPTOR)
    _checked(done, f"move_mount {where}")
    os.close(held)


def enter_root(new: Path) -> None:
    """Make a mounted folder the root, and let go of all that was there before."""
    os.chdir(new)
    _checked(_libc.syscall(_PIVOT_ROOT, b".", b"."), f"pivot_root {new}")
    unmount(Path())  # the old root, which lies on the new one
    os.chdir("/")


def drop_capability(number: int) -> None:
    """Take a capability from this process and all that it starts, for good."""
    _checked(_libc.prctl(_DROP_FROM_BOUND, number, 0, 0, 0), f"drop capability {number}")


def name_host(name: str) -> None:
    """Set the host name of this UTS namespace."""
    _checked(_libc.sethostname(name.encode(), len(name)), "sethostname")


def _mount(source: str, where: Path, kind: str, flags: int, options: str) -> None:
    done = _libc.mount(
        source.encode(),
        str(where).encode(),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode(),
    )
    _checked(done, f"mount {source} {where} {options}")


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
