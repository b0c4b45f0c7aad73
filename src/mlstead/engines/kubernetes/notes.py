"""Small files in the cache of images that say what was made and sent; all of it can be lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Final

from mlstead.errors import UserError

_KEPT: Final = 7 * 86400.0  # seconds without use


def read_note(path: Path) -> str:
    """Give a note, which counts as used now; "" if there is none."""
    try:
        text = path.read_text(encoding="utf-8")
        os.utime(path)
    except (OSError, ValueError):
        return ""
    return text


def write_note(path: Path, text: str) -> None:
    """Write a note, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    aside = path.with_name(f"{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise UserError(f"{path.parent}: {error.strerror}") from error


def drop_old(cache: Path) -> None:
    """Remove from the folders of a cache what was not used for a week, or was left unfinished."""
    limit = time.time() - _KEPT
    for path in cache.glob("*/*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < limit:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
