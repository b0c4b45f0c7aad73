"""Gives each attempt its own copy of the code: a tree is taken out of git once, then copied."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from mlstead.engines.local.disk import Home

Run = Callable[[list[str], dict[str, str], Path], None]
"""Runs a program to its end, output into the task's log; raises when it fails."""
_KEPT = 7 * 86400.0  # seconds
_SHA256 = 64  # hexadecimal digits of a tree in a store of that kind
_ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding\n"


def cached(home: Home, tree: str) -> Path:
    """Give the place of a tree that was taken out."""
    return home.trees / tree


def copy(home: Home, tree: str, work: Path, run: Run) -> None:
    """Fill a work folder with a writable copy."""
    os.utime(cached(home, tree))
    run(["cp", "-a", "--reflink=auto", f"{cached(home, tree)}/.", str(work)], {}, work)


def drop_old(home: Home) -> None:
    """Remove the trees that no attempt has used for a week."""
    limit = time.time() - _KEPT
    for path in home.trees.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < limit:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def take_out(home: Home, code: dict[str, str], git: str, run: Run) -> None:
    """Take a tree out of the store; the caller holds the lock of the tree.

    Raises whatever ``run`` raises when git fails.
    """
    target = cached(home, code["tree"])
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    tree = part / "tree"
    tree.mkdir(parents=True)
    own = part / "git"
    # a git folder of our own: nothing a tree or a user's configuration says changes any byte
    for name in ("objects", "refs", "info"):
        (own / name).mkdir(parents=True)
    (own / "HEAD").write_text("ref: refs/heads/none\n")
    if len(code["tree"]) == _SHA256:
        text = "[core]\nrepositoryformatversion = 1\n[extensions]\nobjectformat = sha256\n"
        (own / "config").write_text(text)
    (own / "info" / "attributes").write_text(_ATTRIBUTES)
    env = {
        "GIT_DIR": str(own),
        "GIT_WORK_TREE": str(tree),
        "GIT_INDEX_FILE": str(own / "index"),
        "GIT_OBJECT_DIRECTORY": str(Path(code["store"]) / "objects"),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
    options = ["-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=true"]
    run([git, *options, "read-tree", code["tree"]], env, tree)
    run([git, *options, "checkout-index", "--all", "--force"], env, tree)
    tree.rename(target)
    shutil.rmtree(part, ignore_errors=True)
