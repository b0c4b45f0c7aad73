"""Notes which outputs are to be released, so that those of a process that was killed are, too.

Between the commit that ends a job and the release of what it wrote nothing else tells that there
is something left to do. One empty file a job says it: made before the commit, removed after.
"""

import contextlib
from pathlib import Path

from mlstead.errors import NotFoundError
from mlstead.work.base import Backends


def _folder(backends: Backends) -> Path:
    return (backends.own or backends.home) / "unreleased"


def note(backends: Backends, run_id: str) -> None:
    """Note that a run's outputs are kept as soon as the run has ended."""
    folder = _folder(backends)
    with contextlib.suppress(OSError):  # a full disk must not keep a run from its end
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / run_id).touch()


def drop(backends: Backends, run_id: str) -> None:
    """Forget the note of a run: its outputs are released, or must stay."""
    (_folder(backends) / run_id).unlink(missing_ok=True)


def release_noted(backends: Backends) -> None:
    """Release what killed processes have kept and not released; of open runs nothing."""
    folder = _folder(backends)
    for run_id in sorted(it.name for it in folder.iterdir()) if folder.is_dir() else ():
        with contextlib.suppress(NotFoundError):
            if not backends.store.run(run_id).state.final:
                continue  # killed before the commit: it is finished once more
            backends.engine.release(run_id)
        drop(backends, run_id)
