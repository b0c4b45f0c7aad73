"""Takes the code of a folder into the bare store, looking only at what changed."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlstead.artifacts import _disk, _rules
from mlstead.artifacts._rules import Rules
from mlstead.clients.git import EMPTY_TREE, Git

_PLACEHOLDER = ".mlstead-nested"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The code of a folder at one moment.

    Attributes:
        tree: the hash of the git tree.
        files: how many files.
        size: bytes of all files together.
    """

    tree: str
    files: int
    size: int


@dataclass(frozen=True, slots=True)
class _State:
    """What was found the last time; good as long as the index is the same."""

    rules: str = ""
    index: str = ""
    alone: bool = False
    venvs: tuple[str, ...] = ()
    tree: str = ""
    files: int = 0
    size: int = 0


class Taker:
    """Takes one folder; holds the lock of the folder's index meanwhile."""

    def __init__(self, store: Path, place: Path, folder: Path, lock: int) -> None:
        self.place, self.folder = place, folder
        self.index = place / "index"
        self.git = Git(store, keep=(lock,))
        self.state = self._load()

    def take(self, include: Sequence[str], out: Sequence[Path]) -> Snapshot:
        """Take the folder; nothing of the index changes if that fails.

        Raises:
            UserError: something in it cannot be code.
            GitError: git failed.
        """
        venvs = [self.folder / path for path in self.state.venvs]
        out = [*out, *(path for path in venvs if (path / "pyvenv.cfg").exists())]
        rules = _rules.rules_of(self.folder, include, out, alone=self.state.alone)
        git = self._on(rules, self.index)
        changes = _split(git.run("ls-files", "-tz", "-omd", *rules.args))
        if not changes and self.state.rules == rules.mark and self.state.index == self._trailer():
            return Snapshot(self.state.tree, self.state.files, self.state.size)
        if self.state.alone and self.state.rules != rules.mark:
            self.state = replace(self.state, alone=False)  # rules changed: look around once more
            rules = _rules.rules_of(self.folder, include, out, alone=False)
        return self._take(rules, out)

    def _take(self, rules: Rules, out: Sequence[Path]) -> Snapshot:
        for left in self.place.glob("index.*"):
            left.unlink(missing_ok=True)  # from a process that was killed: the lock is ours
        aside = self.place / f"index.{uuid.uuid4().hex[:12]}"
        try:
            if self.index.exists() and self._same_top(rules):
                # With its time: git compares it with those of files changed in the same second.
                shutil.copy2(self.index, aside)
            work = _Work(self._on(rules, aside), rules)
            venvs = work.look()
            if venvs:
                out = [*out, *(self.folder / path for path in venvs)]
                again = _rules.rules_of(self.folder, rules.include, out, alone=not rules.prefix)
                work = _Work(work.git, again)
                work.look()
            sizes = work.update()
            if not sizes and rules.prefix:
                self.state = replace(self.state, alone=True)
                alone = _rules.rules_of(self.folder, rules.include, out, alone=True)
                aside.unlink(missing_ok=True)
                return self._take(alone, out)
            tree = work.tree() if sizes else EMPTY_TREE
            if aside.exists():
                aside.replace(self.index)
            snapshot = Snapshot(tree, len(sizes), sum(sizes.values()))
            self._save(work.rules, out, snapshot)
        finally:
            for path in self.place.glob(f"{aside.name}*"):
                path.unlink(missing_ok=True)
        return snapshot

    def _on(self, rules: Rules, index: Path) -> Git:
        env = {"GIT_WORK_TREE": str(rules.top), "GIT_INDEX_FILE": str(index)}
        return replace(self.git, env=env, cwd=rules.folder)

    def _same_top(self, rules: Rules) -> bool:
        try:
            return (self.place / "top").read_text("utf-8", "surrogateescape") == str(rules.top)
        except OSError:
            return False

    def _trailer(self) -> str:
        """Give the hash that ends an index: it tells one index from another."""
        try:
            with self.index.open("rb") as file:
                file.seek(-20, os.SEEK_END)
                return file.read().hex()
        except OSError:
            return ""

    def _load(self) -> _State:
        try:
            document = json.loads((self.place / "state.json").read_bytes())
            return _State(**{**document, "venvs": tuple(document["venvs"])})
        except (OSError, ValueError, KeyError, TypeError):
            return _State()

    def _save(self, rules: Rules, out: Sequence[Path], snapshot: Snapshot) -> None:
        venvs = [
            str(path.relative_to(self.folder))
            for path in out
            if path.is_relative_to(self.folder) and (path / "pyvenv.cfg").exists()
        ]
        document = {
            "rules": rules.mark, "index": self._trailer(), "alone": self.state.alone,
            "venvs": venvs, "tree": snapshot.tree, "files": snapshot.files, "size": snapshot.size,
        }  # fmt: skip
        top = str(rules.top).encode("utf-8", "surrogateescape")
        _disk.write(self.place / "top", top, 0o600)
        _disk.write(self.place / "state.json", json.dumps(document).encode(), 0o600)


class _Work:
    """Brings a copy of the index up to date with the folder."""

    def __init__(self, git: Git, rules: Rules) -> None:
        self.git, self.rules = git, rules
        self.cached: set[str] = set()
        self.fresh: set[str] = set()
        self.ignored: set[str] = set()

    def look(self) -> list[str]:
        """Compare the index with the folder; give the virtual environments that are new.

        Git would only note a repository inside the folder as a link. It walks such a folder as
        a plain one when its index has a file in it. So it gets one, of a name that nobody
        uses, which ``update`` takes away again.
        """
        opened: set[str] = set()
        while True:
            rows = self._compare()
            others = {row[2:] for row in rows if row[0] == "?"}
            nested = {path for path in others if path.endswith("/")} - opened
            if not nested:
                break
            self._open(nested)
            opened |= nested
        self.cached = {row[2:] for row in rows if row[0] == "H"}
        self.fresh = {row[2:] for row in rows if row[0] != "H" and not row.endswith("/")}
        folders = {folder for path in others for folder in _above(path)}
        place = self.rules.folder
        return sorted(path for path in folders if (place / path / "pyvenv.cfg").exists())

    def _compare(self) -> list[str]:
        rows, ignored = self.git.together(
            ("ls-files", "-tz", "-comd", *self.rules.args),
            ("ls-files", "-zci", *self.rules.args),
        )
        self.ignored = set(_split(ignored))
        return _split(rows)

    def _open(self, nested: Iterable[str]) -> None:
        empty = self.git.run("hash-object", "-w", "--stdin", content=b"").decode().strip()
        rows = [f"100644 {empty}\t{self.rules.prefix}{path}{_PLACEHOLDER}\0" for path in nested]
        self.git.run("update-index", "-z", "--index-info", content=_join(rows))

    def update(self) -> dict[str, int]:
        """Write everything that belongs to the code into the index; give all sizes.

        Raises:
            UserError: something in the folder cannot be code.
        """
        away = {path for path in self.ignored & self.cached if not self.rules.listed(path)}
        away |= {path for path in self.cached if path.endswith("/" + _PLACEHOLDER)}
        fresh = self.fresh - away
        fresh |= {path for path in self._wanted() if path not in self.cached}
        sizes = {
            path: size
            for path in (self.cached | fresh) - away
            if (size := _rules.size_of(self.rules, path)) is not None
        }
        _rules.check_names(self.rules, sizes)
        _rules.check_sizes(self.rules, sizes)
        if away:
            self._stdin("--force-remove", away)
        if fresh:
            self._stdin("--add", fresh)
        return sizes

    def tree(self) -> str:
        """Write the index as a tree; give its hash."""
        prefix = [f"--prefix={self.rules.prefix}"] if self.rules.prefix else []
        return self.git.run("write-tree", *prefix).decode().strip()

    def _wanted(self) -> list[str]:
        """List files that the person named and that lie in an ignored folder."""
        place = self.rules.folder
        return [want for want in self.rules.include if (place / want).is_file()]

    def _stdin(self, how: str, paths: Iterable[str]) -> None:
        rows = [f"{path}\0" for path in sorted(paths)]
        args = ["--remove", "--replace", how] if how == "--add" else [how]
        self.git.run("update-index", "-z", *args, "--stdin", content=_join(rows))


def _split(output: bytes) -> list[str]:
    return [os.fsdecode(row) for row in output.split(b"\0") if row]


def _join(rows: Iterable[str]) -> bytes:
    return b"".join(os.fsencode(row) for row in rows)


def _above(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]
