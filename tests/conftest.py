"""What every test gets: a home of its own, a clean environment, a look at what was left running."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.register_assert_rewrite("mlstead.testing")  # else contract failures show no values

UNIT = Path(__file__).parent / "unit"
# Would change what mlstead or the user's program does; MLSTEAD_TEST_* steers the tests.
LEAKING = ("MLSTEAD_", "MLFLOW_", "PET_", "TORCHELASTIC_")
LEAKING_NAMES = (
    "MASTER_ADDR",
    "MASTER_PORT",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "NODE_RANK",
    "TF_CONFIG",
    "RAY_ADDRESS",
    "SLACK_URL",
)
# Well over what a keeper that was asked to stop needs; one that nobody asked is there afterwards.
LEAVE_SECONDS = 5.0


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give MLSTEAD_HOME: a short path (Unix sockets allow 107 bytes), no process left in it."""
    for name in list(os.environ):
        foreign = name.startswith(LEAKING) and not name.startswith("MLSTEAD_TEST_")
        if foreign or name in LEAKING_NAMES:
            monkeypatch.delenv(name)
    root = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
    runtime = root / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("MLSTEAD_HOME", str(root / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(root / "data"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("KUBECONFIG", str(root / "kubeconfig"))
    monkeypatch.setenv("MLSTEAD_WARM", "off")  # it would outlive the test; test_warm has its own
    yield root / "home"
    used = any(path != runtime for path in root.iterdir()) or any(runtime.iterdir())
    left = _end_leftovers(root) if used else []
    shutil.rmtree(root, ignore_errors=True)
    if left:
        pytest.fail("left running in the home of this test (ended now): " + "; ".join(left))


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection of the unit tier that leaves this machine."""
    if UNIT not in request.path.parents:
        return
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))


def _guarded(real: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: socket.socket, *args: Any) -> Any:
        address = args[-1]
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _loopback(address):
            raise AssertionError(f"a unit test reached for the network: {address!r}")
        return real(self, *args)

    return call


def _loopback(address: tuple[Any, ...]) -> bool:
    host = str(address[0])
    return host in ("localhost", "::1", "") or host.startswith("127.")


def _end_leftovers(root: Path) -> list[str]:
    """Name the processes that still work under a folder, after a moment to leave; end them."""
    deadline = time.monotonic() + LEAVE_SECONDS
    while (found := _working_under(str(root))) and time.monotonic() < deadline:
        time.sleep(0.05)
    said = [f"{process.pid} {_words(process)}" for process in found]
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, timeout=LEAVE_SECONDS)
    return said


def _working_under(root: str) -> list[psutil.Process]:
    """Find processes started for this home: it stands in their command line or environment."""
    mine = os.getpid()
    marks = (root + "/").encode(), (root + "\0").encode()
    found = []
    for pid in psutil.pids():
        if pid == mine:
            continue
        with contextlib.suppress(OSError, psutil.Error):
            folder = Path("/proc") / str(pid)
            told = (folder / "cmdline").read_bytes() + b"\0" + (folder / "environ").read_bytes()
            process = psutil.Process(pid)
            if any(mark in told for mark in marks) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _words(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())[:200]
    return "(gone)"
