"""The store of code: every snapshot of a folder is a tree in a bare git store."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mlstead.artifacts import _disk
from mlstead.artifacts._snapshot import Snapshot, Taker
from mlstead.clients.git import EMPTY_TREE, Git, GitError, full_ref, make_store, write_ref
from mlstead.errors import ConflictError, NotFoundError, UserError

__all__ = ["CodeStore", "Snapshot"]

_MASTERS = 32
_MASTER_FILES = 500
_FORGET = 30 * 86400.0
_TREE = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class CodeStore:
    """Keeps code by the hash of its content, whether or not its folder is a git repository.

    Args:
        git_dir: the bare store; made when first needed.
        home: the state of mlstead: it holds the indices, and is never part of any code.
    """

    def __init__(self, git_dir: Path, home: Path) -> None:
        self.git_dir = Path(os.path.realpath(git_dir))
        self.home = Path(os.path.realpath(home))
        self.place = self.home / "code"

    def snapshot(self, folder: Path, *, include: Sequence[str] = (), ref: str = "") -> Snapshot:
        """Store the code of a folder as it is now, uncommitted changes too.

        ``.gitignore`` and ``.mlsteadignore`` are respected. Always left out: ``.git``,
        ``__pycache__``, virtual environments and the state of mlstead. Repositories inside the
        folder are taken as plain folders. Pipes and sockets are left out.

        Args:
            folder: where the code is.
            include: files and patterns that are taken though they are ignored, or though
                they look like secrets.
            ref: a name that keeps the snapshot, such as ``runs/<id>``; see ``pin``.

        Raises:
            NotFoundError: the folder does not exist.
            UserError: a secret, a file or folder over the limit, a link that points outside,
                or a file that cannot be read.
        """
        full_ref(ref or "runs/none")
        if not folder.is_dir():
            raise NotFoundError(f"{folder}: no such folder")
        real = Path(os.path.realpath(folder))
        with _plain(folder), _disk.plain_errors(self.place):
            make_store(self.git_dir)
            name = hashlib.sha256(os.fsencode(real)).hexdigest()[:32]
            place = self.place / "folders" / name
            with _disk.locked(place / "lock") as lock:
                os.utime(place / "lock")
                snapshot = self._take(place, real, lock, include)
            write_ref(self.git_dir, f"refs/folders/{name}", snapshot.tree)
            if ref:
                write_ref(self.git_dir, ref, snapshot.tree)
        return snapshot

    def _take(self, place: Path, folder: Path, lock: int, include: Sequence[str]) -> Snapshot:
        out = (self.home, self.git_dir)
        try:
            return Taker(self.git_dir, place, folder, lock).take(include, out)
        except GitError:
            # Perhaps the index is damaged, or names objects that are gone: begin anew, once.
            for name in ("index", "state.json"):
                (place / name).unlink(missing_ok=True)
            return Taker(self.git_dir, place, folder, lock).take(include, out)

    def checkout(self, tree: str, target: Path) -> None:
        """Write a tree to a folder of the caller's, whole or not at all.

        Raises:
            NotFoundError: the store has no such tree.
            ConflictError: the target exists and is not empty.
            UserError: the disk is full, or not ours.
        """
        if target.is_symlink() or (target.exists() and (target.is_file() or any(target.iterdir()))):
            raise ConflictError(f"{target}: exists already", hint="choose another place")
        with _disk.plain_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = _disk.beside(target)
            try:
                self._write(_checked(tree), aside)
                aside.rename(target)
            finally:
                _disk.remove_tree(aside)

    def _write(self, tree: str, aside: Path) -> None:
        """Copy the tree from a master, or ask git; a small tree then becomes a master.

        Copying a small tree costs far less than a process; a large one costs the same.
        """
        master = self.place / "trees" / tree
        try:
            os.utime(master)
            _copy_tree(str(master), str(aside))
        except FileNotFoundError:
            _disk.remove_tree(aside)  # somebody tidied the master away while it was copied
            self._git_checkout(tree, aside)
            if _small(aside):
                self._keep_master(aside, master)

    def _keep_master(self, tree: Path, master: Path) -> None:
        master.parent.mkdir(parents=True, exist_ok=True)
        aside = _disk.beside(master)
        try:
            _copy_tree(str(tree), str(aside))
            aside.rename(master)
        except OSError:
            """The disk is full, or another process was quicker: the next run asks git again."""
        finally:
            _disk.remove_tree(aside)
        others = sorted(master.parent.glob("[0-9a-f]*"), key=_used)
        for old in others[:-_MASTERS]:
            _disk.remove_if_old(old, 3600)

    def _git_checkout(self, tree: str, target: Path) -> None:
        target.mkdir()
        if tree == EMPTY_TREE:
            return
        index = target.with_name(target.name + ".index")
        env = {"GIT_WORK_TREE": str(target), "GIT_INDEX_FILE": str(index)}
        try:
            with self._known(tree):
                Git(self.git_dir, env, cwd=target).run("read-tree", "--reset", "-u", tree)
        finally:
            index.unlink(missing_ok=True)

    def pin(self, tree: str, ref: str) -> None:
        """Keep a tree under a name such as ``runs/<id>``; a name that exists is moved.

        Raises:
            UserError: the name is not allowed.
        """
        with _disk.plain_errors(self.git_dir):
            write_ref(self.git_dir, ref, _checked(tree))

    def unpin(self, ref: str) -> None:
        """Take a name away; without a name a tree may be collected."""
        path = full_ref(ref)
        if (self.git_dir / "HEAD").exists():
            Git(self.git_dir).run("update-ref", "-d", path)

    def collect(self) -> None:
        """Pack what is kept and remove what no name keeps and is older than a day.

        What was remembered of a folder is forgotten when it was not submitted for a month.
        """
        if not (self.git_dir / "HEAD").exists():
            return
        limit = time.time() - _FORGET
        with _plain(self.git_dir), _disk.plain_errors(self.place):
            for place in (self.place / "folders").glob("*"):
                if _used(place / "lock") < limit:
                    Git(self.git_dir).run("update-ref", "-d", f"refs/folders/{place.name}")
                    for name in ("index", "state.json", "top"):
                        (place / name).unlink(missing_ok=True)
            for answer in (self.place / "words").glob("*"):
                if _used(answer) < limit:
                    answer.unlink(missing_ok=True)
            Git(self.git_dir).run("gc", "--quiet", "--prune=1.day.ago")

    def grep(self, tree: str, text: str) -> bool:
        """Tell whether some text file of the tree has this word."""
        if _checked(tree) == EMPTY_TREE:
            return False
        answers = self.place / "words"
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        for answer in (True, False):
            if (answers / f"{tree}-{name}-{answer}").exists():
                return answer
        with self._known(tree):
            answer = self._grep(tree, text)
        with _disk.plain_errors(answers):
            answers.mkdir(parents=True, exist_ok=True)
            (answers / f"{tree}-{name}-{answer}").touch()
        return answer

    def _grep(self, tree: str, text: str) -> bool:
        try:
            Git(self.git_dir).run("grep", "-q", "-I", "-w", "-F", "-e", text, tree)
        except GitError as error:
            if error.code != 1:
                raise
            return False
        return True

    def files(self, tree: str) -> tuple[str, ...]:
        """List the paths of a tree's files, sorted.

        Raises:
            NotFoundError: the store has no such tree.
        """
        if _checked(tree) == EMPTY_TREE:
            return ()
        with self._known(tree):
            rows = Git(self.git_dir).run("ls-tree", "-r", "-z", "--name-only", tree)
        return tuple(sorted(os.fsdecode(row) for row in rows.split(b"\0") if row))

    def diff(self, old: str, new: str) -> list[str]:
        """List what changed between two trees: ``A path``, ``M path``, ``D path`` or ``T path``.

        Raises:
            NotFoundError: the store lacks one of them.
        """
        with self._known(f"{_checked(old)} or {_checked(new)}"):
            rows = Git(self.git_dir).run(
                "diff-tree", "-r", "-z", "--no-renames", "--name-status", old, new
            )
        parts = [os.fsdecode(part) for part in rows.split(b"\0") if part]
        return [f"{how} {path}" for how, path in zip(parts[::2], parts[1::2], strict=True)]

    @contextmanager
    def _known(self, tree: str) -> Iterator[None]:
        try:
            if not self.git_dir.exists():
                raise GitError(128, "no store")
            yield
        except GitError as error:
            raise NotFoundError(f"no code {tree} in {self.git_dir}: {error}") from error


@contextmanager
def _plain(place: Path) -> Iterator[None]:
    try:
        yield
    except GitError as error:
        said = (str(error).splitlines() or ["git failed"])[0]
        hint = "free some space" if "No space left" in str(error) else "is every file readable?"
        raise UserError(f"{place}: {said}", hint=hint) from error


def _checked(tree: str) -> str:
    if not _TREE.fullmatch(tree):
        raise NotFoundError(f"no code {tree[:80]!r}")
    return tree


def _used(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return time.time()


def _small(tree: Path) -> bool:
    count = 0
    for _, folders, files in os.walk(tree):
        count += len(folders) + len(files)
        if count > _MASTER_FILES:
            return False
    return True


def _copy_tree(source: str, target: str) -> None:
    os.mkdir(target)  # noqa: PTH102 a run waits for this
    with os.scandir(source) as entries:
        for entry in entries:
            place = f"{target}/{entry.name}"
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), place)  # noqa: PTH115, PTH211
            elif entry.is_dir():
                _copy_tree(entry.path, place)
            else:
                shutil.copy(entry.path, place)
