"""Makes the folder that gives programs ``import mlstead`` where mlstead is not installed."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from mlstead.errors import UserError
from mlstead.runner.bundled import MARK

_RUNNER = Path(__file__).parent
_PACKAGE = _RUNNER.parent
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_MAIN = b"""\
import sys, zipfile

place = "/mlstead/run/bundle"
with zipfile.ZipFile(sys.argv[0]) as archive:
    archive.extractall(place)
sys.path[:] = [place, *(it for it in sys.path if it != sys.argv[0])]
from mlstead.runner.pod import main

sys.exit(main())
"""


def ensure(home: Path, *, server: bool = False) -> Path:
    """Give the bundle's folder under ``home``, made the first time; append it to PYTHONPATH.

    With ``server`` it holds the model server as well, which then runs in the environment of a
    service; that needs packages of its own, and Python 3.11.

    Its name is the hash of its content, so a new mlstead makes a new one and running programs
    keep theirs. Several processes may do this at once.

    Raises:
        UserError: ``home`` is not writable or full.
    """
    files = _files() | (_server_files() if server else {})
    digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:16]
    folder = home / "bundle" / digest
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
        try:
            _write(files, temporary)
            temporary.chmod(0o755)  # a program may run as somebody else in a container
            _publish(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"cannot write {folder.parent}: {error}", hint="free some space, or set MLSTEAD_HOME"
        ) from error
    return folder


def archive() -> bytes:
    """Give the bundle as a zip file that Python runs as the first process of a pod.

    The same mlstead always gives the same bytes.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in sorted({**_files(), "__main__.py": _MAIN}.items()):
            made.writestr(zipfile.ZipInfo(name, _LONG_AGO), data, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _files() -> dict[str, bytes]:
    """Read what goes in: relative path → content."""
    files = {f"mlstead/runner/{path.name}": path.read_bytes() for path in _RUNNER.glob("*.py")}
    files["mlstead/__init__.py"] = files.pop("mlstead/runner/bundled.py")
    del files["mlstead/runner/bundle.py"]  # a program makes no bundles
    files["mlstead/errors.py"] = (_PACKAGE / "errors.py").read_bytes()
    files[f"mlstead/{MARK}"] = b"The program's side of mlstead, for where it is not installed.\n"
    return files


def _server_files() -> dict[str, bytes]:
    """Read the model server and what it imports of mlstead; nothing of it is imported here."""
    paths = [_PACKAGE / "discover.py", *(_PACKAGE / "serving").rglob("*.py")]
    return {f"mlstead/{path.relative_to(_PACKAGE)}": path.read_bytes() for path in paths}


def _write(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # once in a lifetime; an empty file here would stay for ever


def _publish(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first, with the same content
            raise
