"""Runs git on a bare store of ours; nobody's configuration, hooks or filters take part."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlstead.errors import UserError

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""The tree without files; git knows it without storing it."""

_REF = re.compile(r"refs(/[A-Za-z0-9][A-Za-z0-9_.-]*)+")
# Highest of all attributes, so that no .gitattributes of a project changes a byte.
_ATTRIBUTES = (
    "* -text -ident -filter !working-tree-encoding -diff -merge -export-subst -export-ignore\n"
)
_CONFIG = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tautocrlf = false
\tignorecase = false
\thooksPath = /dev/null
\tattributesFile = /dev/null
\texcludesFile = /dev/null
\tfsmonitor = false
\tlogAllRefUpdates = false
\tfsync = committed,loose-object
\tfsyncMethod = batch
[gc]
\tauto = 0
[maintenance]
\tauto = false
"""


class GitError(Exception):
    """Git ended with an error; holds what it said."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code


@dataclass(frozen=True, slots=True)
class Git:
    """A bare store, and where to find the folder and the index that a command works on.

    Attributes:
        store: the bare store.
        env: what to add to git's environment: ``GIT_WORK_TREE``, ``GIT_INDEX_FILE``.
        cwd: the folder that a command runs in.
        keep: file handles that the program inherits, such as a lock.
    """

    store: Path
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    keep: tuple[int, ...] = ()

    def start(self, *args: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start git and do not wait; ``finish`` waits.

        Raises:
            UserError: git is not installed.
        """
        try:
            return subprocess.Popen(
                ["git", "--literal-pathspecs", *args],
                env=self._environment(),
                cwd=self.cwd or self.store,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=self.keep,
            )
        except FileNotFoundError as error:
            raise UserError("git is not installed", hint="install git 2.25 or newer") from error

    def finish(self, process: subprocess.Popen[bytes], content: bytes | None = None) -> bytes:
        """Wait for git; give what it printed.

        Raises:
            GitError: it ended with an error.
        """
        with process:
            out, err = process.communicate(content)
        said = err.decode(errors="replace").strip()
        if process.returncode or "could not open directory" in said:
            raise GitError(process.returncode, said)
        return out

    def run(self, *args: str, content: bytes | None = None) -> bytes:
        """Run git; give what it printed.

        Raises:
            GitError: it ended with an error.
            UserError: git is not installed.
        """
        stdin = subprocess.DEVNULL if content is None else subprocess.PIPE
        return self.finish(self.start(*args, stdin=stdin), content)

    def together(self, *commands: Sequence[str]) -> list[bytes]:
        """Run several commands at the same time; give what each printed.

        Raises:
            GitError: one ended with an error; all have ended then.
            UserError: git is not installed.
        """
        processes = [self.start(*command) for command in commands]
        results: list[bytes] = []
        failure: GitError | None = None
        for process in processes:
            try:
                results.append(self.finish(process))
            except GitError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return results

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": "/nonexistent",
            "LC_ALL": "C",
            "GIT_DIR": str(self.store),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_TERMINAL_PROMPT": "0",
            **self.env,
        }


def make_store(store: Path) -> None:
    """Make a bare store, unless it is there; several processes may do that at once.

    It is a few files, so no git is needed, and no lock.

    Raises:
        OSError: it cannot be written.
    """
    if (store / "info" / "attributes").exists():
        return
    for folder in ("objects/info", "objects/pack", "refs/heads", "info"):
        (store / folder).mkdir(parents=True, exist_ok=True)
    _replace(store / "HEAD", "ref: refs/heads/main\n")
    _replace(store / "config", _CONFIG)
    _replace(store / "info" / "attributes", _ATTRIBUTES)  # the last one: it says that all is there


def full_ref(name: str) -> str:
    """Give the full name of a ref.

    Raises:
        UserError: it is not a name that git takes.
    """
    ref = name if name.startswith("refs/") else f"refs/{name}"
    if (
        not _REF.fullmatch(ref)
        or ".." in ref
        or any(p.endswith((".lock", ".")) for p in ref.split("/"))
    ):
        raise UserError(f"{name!r} cannot be the name of a ref")
    return ref


def write_ref(store: Path, name: str, tree: str) -> None:
    """Point a ref at a tree: a file as git writes it, without the price of a process.

    Raises:
        OSError: it cannot be written.
    """
    path = store / full_ref(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, tree + "\n", aside=store)


def _replace(path: Path, text: str, aside: Path | None = None) -> None:
    temporary = (aside or path.parent) / f"{path.name[:80]}.{uuid.uuid4().hex[:12]}.part"
    temporary.write_text(text, encoding="ascii")
    temporary.replace(path)


def quote_pattern(path: str) -> str:
    """Write a path so that an ignore pattern takes every letter of it as it is."""
    return re.sub(r"([\\*?\[\]!# ])", r"\\\1", path)
