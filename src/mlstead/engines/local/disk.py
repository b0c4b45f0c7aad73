"""Where the local engine keeps things on disk, and how a file is written whole or not at all."""

import contextlib
import fcntl
import itertools
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_counter = itertools.count()


class Home:
    """The folders of one engine home; makes nothing until ``create``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / "local"
        self.active = self.root / "active"
        self.tasks = self.root / "tasks"
        self.journal = self.root / "journal"
        self.environments = self.root / "environments"
        self.trees = self.root / "trees"
        self.sequence = self.root / "sequence"
        self.lock = self.root / "keeper.lock"
        self.socket = self.root / "keeper.sock"
        self.log = self.root / "keeper.log"
        self.runner = self.root / "runner"
        self.capacity = self.root / "capacity.json"
        self.no_params = self.root / "no-params.json"

    def create(self) -> None:
        """Make the folders, readable by their owner only."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.root.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.active, self.tasks, self.journal, self.environments, self.trees):
            folder.mkdir(exist_ok=True)
        write_new(self.no_params, b"{}\n")

    def task(self, task_id: str) -> Path:
        """Give the folder of one task."""
        return self.tasks / f"{zlib.crc32(task_id.encode()) & 0xFF:02x}" / task_id


def write_new(path: Path, data: bytes, mode: int = 0o600) -> bool:
    """Make a file that others see complete or not at all; False when it is there already."""
    aside = _write_aside(path, data, mode)
    try:
        os.link(aside, path)
    except FileExistsError:
        return False
    finally:
        _discard(aside)
    return True


def write_over(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put a file in place of another one at once."""
    aside = _write_aside(path, data, mode)
    try:
        aside.replace(path)
    except OSError:
        _discard(aside)
        raise


def _write_aside(path: Path, data: bytes, mode: int) -> Path:
    aside = path.parent / f".{path.name}.{os.getpid()}.{next(_counter)}"
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            write_all(descriptor, data)
        finally:
            os.close(descriptor)
    except OSError:
        _discard(aside)
        raise
    return aside


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte; a short write is tried again, which gives the reason as an OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Reserved:
    """A file whose space is taken in advance, so that a full disk cannot stop its writing."""

    SIZE = 4096

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = path.parent / f".{path.name}"
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = os.open(self._aside, flags, 0o600)
        with contextlib.suppress(OSError):
            os.posix_fallocate(self._descriptor, 0, self.SIZE)

    def write(self, data: bytes) -> bool:
        """Write, sync and give the file its name; False when there is one of that name."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        write_all(self._descriptor, data)
        os.ftruncate(self._descriptor, len(data))
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        try:
            os.link(self._aside, self._path)
        except FileExistsError:
            return False
        finally:
            _discard(self._aside)
        return True


def dump(data: object) -> bytes:
    """Write plain data as JSON that is the same bytes for the same data."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None when there is no such file."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    loaded: dict[str, Any] = json.loads(data)
    return loaded


def try_lock(path: Path) -> int | None:
    """Take a lock file for this process and those it forks; None when somebody has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(path: Path) -> bool:
    """Say whether somebody alive holds a lock file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold a lock file for a short while; gives its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def take_numbers(path: Path, count: int) -> int:
    """Take ``count`` numbers that nobody else gets; gives the first of them."""
    with locked(path) as descriptor:
        first = int(os.pread(descriptor, 32, 0) or b"0")
        os.pwrite(descriptor, str(first + count).encode(), 0)
    return first


class Marker(NamedTuple):
    """Says that a task has not ended: its place in the order, and where its events begin."""

    task_id: str
    sequence: int
    journal: tuple[int, int]


def write_marker(folder: Path, marker: Marker) -> None:
    """Make a marker; one that is there already stays.

    It is a link that leads nowhere, which appears with all it says in one call.
    """
    number, offset = marker.journal
    with contextlib.suppress(FileExistsError):
        (folder / marker.task_id).symlink_to(f"{marker.sequence}-{number}-{offset}")


def read_marker(path: Path) -> Marker:
    """Read a marker.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not one.
    """
    sequence, number, offset = map(int, str(path.readlink()).split("-"))
    return Marker(path.name, sequence, (number, offset))


def boot_id() -> str:
    """Name the present boot of this machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
