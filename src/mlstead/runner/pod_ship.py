"""Carries what a program writes out of its pod while it runs: logs, metrics, checkpoints.

A log or metrics file is sent as pieces, each named by the offset of its first byte. A piece that
is sent twice is the same piece, so nothing is lost and nothing comes twice, however often the
network fails. The file is the queue: the program never waits.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO

from mlstead.runner.pod_transfer import Part, Transfer, TransferError

LARGEST = 4 << 20  # bytes of one piece
SHIP_SECONDS = 0.5
LOOK_SECONDS = 2.0  # between two questions whether the program should end
SAVE_SECONDS = 10.0  # between two copies of the checkpoints
_QUIET = 1.0  # a checkpoint that was written less long ago may still be growing


class Stream:
    """A file that only grows, and how much of it has been sent."""

    def __init__(self, path: Path, prefix: str, echo: Callable[[bytes], None] | None) -> None:
        self._path, self._prefix, self._echo = path, prefix, echo
        self._sent = 0
        self._piece = 0
        self._echoed = 0
        self._file: BinaryIO | None = None

    def ship(self, transfer: Transfer, patience: float) -> None:
        """Send what is new; TransferError if that cannot be done now."""
        if self._file is None:
            try:
                self._file = self._path.open("rb")
            except FileNotFoundError:
                return
        size = os.fstat(self._file.fileno()).st_size
        self._show(size)
        while self._sent < size:
            # one whose answer was lost may be there: it is sent again as it was, not longer
            self._piece = self._piece or min(LARGEST, size - self._sent)
            piece: Any = Part(self._file, self._sent, self._piece)
            transfer.send(f"{self._prefix}{self._sent:015d}", piece, patience)
            self._sent += self._piece
            self._piece = 0

    def _show(self, size: int) -> None:
        """Copy what is new to our own output, for `kubectl logs`."""
        while self._echo is not None and self._file is not None and self._echoed < size:
            length = min(1 << 16, size - self._echoed)
            piece = os.pread(self._file.fileno(), length, self._echoed)
            self._echo(piece)
            self._echoed += len(piece)


def echo(data: bytes) -> None:
    """Write to our own output; a reader that went away does not matter."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError:
        pass


class Shipper(threading.Thread):
    """Sends streams and checkpoints as they grow, and looks whether the program should end.

    Args:
        stop: the signed address of the object that asks the program to end.
        asked: called once when that object is there.

    Attributes:
        streams: what to send; more may be added while it runs.
        checkpoints: the folder to keep, and under which name.
    """

    def __init__(self, transfer: Transfer, stop: str, asked: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.streams: list[Stream] = []
        self._transfer, self._stop_url, self._asked = transfer, stop, asked
        self._ended = threading.Event()
        self._saved: Any = None
        self._saved_at = time.monotonic()
        self.checkpoints: tuple[Path, str] | None = None

    def run(self) -> None:
        """Be the thread."""
        looked = time.monotonic()
        stopped = False
        while not self._ended.wait(SHIP_SECONDS):
            try:
                for stream in list(self.streams):
                    stream.ship(self._transfer, 0.0)
                if time.monotonic() - self._saved_at > SAVE_SECONDS:
                    self.save(0.0)
                if not stopped and time.monotonic() - looked > LOOK_SECONDS:
                    looked = time.monotonic()
                    stopped = self._transfer.fetch(self._stop_url, io.BytesIO(), 0.0)
                    if stopped:
                        self._asked()
            except (TransferError, OSError):
                continue  # later

    def finish(self, patience: float) -> None:
        """End the thread and send all that is left.

        Raises:
            TransferError: nothing answers, or it is refused.
        """
        self._ended.set()
        if self.is_alive():
            self.join()
        for stream in self.streams:
            stream.ship(self._transfer, patience)

    def save(self, patience: float, *, last: bool = False) -> None:
        """Copy the checkpoints out if they have changed and lie still."""
        self._saved_at = time.monotonic()
        if self.checkpoints is None:
            return
        folder, key = self.checkpoints
        state = _state(folder)
        if not state or state == self._saved:
            return
        newest = max(stamp for _, stamp, _ in state)
        if not last and time.time() - newest / 1e9 < _QUIET:
            return
        aside = folder.with_name(folder.name + ".tar")
        try:
            with aside.open("w+b") as file:
                pack(folder, file)
                if last or _state(folder) == state:  # else it was being written: next time
                    self._transfer.send(key, file, patience)
                    self._saved = state
        finally:
            aside.unlink()


def _state(folder: Path) -> list[tuple[str, int, int]]:
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        if not path.is_dir():
            found.append((str(path), status.st_mtime_ns, status.st_size))
    return found


def pack(folder: Path, target: IO[bytes]) -> None:
    """Write a folder's content as a tar archive; links stay links."""
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for entry in sorted(folder.iterdir()):
            archive.add(entry, arcname=entry.name)
    target.flush()


def unpack(source: IO[bytes], folder: Path) -> None:
    """Write an archive that we packed back to a folder."""
    source.seek(0)
    with tarfile.open(fileobj=source, mode="r|") as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extraction_filter = staticmethod(tarfile.tar_filter)
        archive.extractall(folder)
