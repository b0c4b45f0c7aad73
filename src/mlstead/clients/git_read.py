"""Reads trees and files out of a bare git store, without taking them out to a folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mlstead.clients.git import EMPTY_TREE, Git, GitError
from mlstead.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a tree.

    Attributes:
        mode: ``100644``, ``100755``, ``120000`` for a link.
        blob: names its content; of a link, where it leads. size: in bytes.
        path: as git has it, which may be no text.
    """

    mode: str
    blob: str
    size: int
    path: bytes


def files(store: Path, tree: str) -> list[Entry]:
    """List the files and links of a tree, sorted by path; repositories inside it are left out.

    Raises:
        NotFoundError: the store has no such tree.
    """
    if tree == EMPTY_TREE:
        return []
    with _known(store, tree):
        rows = Git(store).run("ls-tree", "-r", "-l", "-z", "--full-tree", tree)
    found = []
    for row in rows.split(b"\0"):
        about, _, path = row.partition(b"\t")
        if about:
            mode, kind, blob, size = about.decode("ascii").split()
            if kind == "blob":
                found.append(Entry(mode, blob, int(size), path))
    return sorted(found, key=lambda entry: entry.path)


@contextmanager
def contents(store: Path, blobs: Sequence[str]) -> Iterator[Iterator[IO[bytes]]]:
    """Open files one after the other; of each, all bytes must be read before the next is asked for.

    Raises:
        NotFoundError: the store lacks one.
    """
    with tempfile.TemporaryFile() as asked, _known(store, "of these files"):
        asked.write("".join(f"{blob}\n" for blob in blobs).encode("ascii"))
        asked.seek(0)
        process = Git(store).start("cat-file", "--batch", stdin=asked.fileno())
        try:
            assert process.stdout is not None
            yield _each(process.stdout, blobs)
        except BaseException:
            process.kill()
            raise
        finally:
            process.communicate()
        if process.returncode:
            raise GitError(process.returncode, "cat-file ended with an error")


def _each(out: IO[bytes], blobs: Sequence[str]) -> Iterator[IO[bytes]]:
    for blob in blobs:
        said = out.readline().split()
        if said[:2] != [blob.encode("ascii"), b"blob"]:
            raise GitError(128, f"{blob} is missing or damaged")
        yield out
        out.read(1)  # git ends each with a line feed


@contextmanager
def _known(store: Path, what: str) -> Iterator[None]:
    try:
        if not store.exists():
            raise GitError(128, "no store")
        yield
    except GitError as error:
        raise NotFoundError(f"no code {what} in {store}: {error}") from error
