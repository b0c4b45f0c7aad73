"""A program, one for each host: starts it, starts it again when it reboots, ends when it is off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.machines.lab import order
from tests.machines.lab.order import Order
from tests.machines.lab.processes import ENVIRONMENT, Process, joining, wait_for

SOURCE = Path(__file__).parents[3]
# In a PID namespace reboot(2) ends PID 1 by a signal that says what was asked.
_REBOOT = -signal.SIGHUP
_SPACES = (
    "--mount",
    "--propagation",
    "private",
    "--uts",
    "--ipc",
    "--net",
    "--pid",
    "--cgroup",
)


def start(host: Order) -> None:
    """Start a host's supervisor and leave it alone."""
    module = [sys.executable, "-S", "-m", "tests.machines.lab.supervisor", str(host.folder)]
    command = joining(host.groups.make("supervisors"), ["setsid", "--fork", *module])
    host.supervisor_file.unlink(missing_ok=True)
    with (host.folder / "console.log").open("ab") as log:
        subprocess.run(
            command,
            cwd=SOURCE,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )
    wait_for(f"the supervisor of {host.name}", host.supervisor_file.exists)


def supervise(host: Order) -> None:
    """Run a host until it is off."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    mine = Process.find(os.getpid())
    assert mine
    mine.write(host.supervisor_file)
    ours, theirs = os.openpty()
    threading.Thread(target=_copy, args=(ours,), daemon=True).start()
    while _run_once(host, os.ttyname(theirs)) == _REBOOT:
        pass


def _run_once(host: Order, console: str) -> int:
    host.pid_file.unlink(missing_ok=True)
    host.groups.remove(host.name)
    boot = [sys.executable, "-S", "-m", "tests.machines.lab.boot", str(host.folder), console]
    command = joining(host.groups.make(host.name), ["unshare", *_SPACES, "--fork", "--", *boot])
    ended = subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode
    host.pid_file.unlink(missing_ok=True)
    print(f"\n-- {host.name} ended with {ended}", flush=True)
    host.groups.end(host.name)
    return ended


def _copy(console: int) -> None:
    while text := os.read(console, 4096):
        os.write(1, text)


if __name__ == "__main__":
    supervise(order.read(Path(sys.argv[1])))
