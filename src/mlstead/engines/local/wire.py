"""How clients and supervisors reach the keeper, and how one is started where there is none."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from mlstead.engines.local import disk
from mlstead.engines.local.disk import Home

INSIDE = "MLSTEAD_ATTEMPT_FOLDER"
"""Environment variable that every process of an attempt has: the attempt's folder."""
_PATIENCE = 20.0
_BOOT = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from mlstead.engines.local.keeper import main; main(sys.argv[2])"
)
_SOURCE = Path(__file__).resolve().parents[3]
_KEPT = (
    "PATH", "HOME", "LANG", "TMPDIR", "MLSTEAD_CAPACITY", "MLSTEAD_MEMORY_BY",
)  # fmt: skip


@contextlib.contextmanager
def address(path: Path) -> Iterator[str]:
    """Name a socket in at most 107 bytes, however long its folder's name is."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connect(home: Home) -> socket.socket | None:
    """Reach the keeper; None when there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with address(home.socket) as name:
            connection.connect(name)
    except OSError:
        connection.close()
        return None
    return connection


def tell(home: Home, message: str) -> bool:
    """Send the keeper a line; False when there is none, and the news waits on disk."""
    connection = connect(home)
    if connection is None:
        return False
    with connection, contextlib.suppress(OSError):
        connection.sendall(message.encode() + b"\n")
        return True
    return False


def reach(home: Home) -> socket.socket:
    """Reach the keeper, starting one where there is none.

    Raises:
        TimeoutError: none answers.
    """
    end = time.monotonic() + _PATIENCE
    inside = os.environ.get(INSIDE, "").startswith(f"{home.root}/")
    while True:
        connection = connect(home)
        if connection is not None:
            return connection
        if time.monotonic() > end:
            raise TimeoutError(f"no keeper answers at {home.socket}; see {home.log}")
        # below a task it would die with the task: the task's supervisor starts it instead
        if not inside and not disk.is_locked(home.lock):
            start(home)
        time.sleep(0.005)


def start(home: Home) -> None:
    """Start a keeper that outlives this process; returns when it answers or gave way to another.

    Raises:
        TimeoutError: it could not be started.
    """
    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    command = [sys.executable, "-I", "-S", "-c", _BOOT, str(_SOURCE), str(home.home)]
    with home.log.open("ab") as log:
        try:
            subprocess.run(
                command, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, check=False, timeout=_PATIENCE,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise TimeoutError(f"the keeper of {home.root} cannot be started: {error}") from error
