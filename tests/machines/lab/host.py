"""One host of a lab: commands, files, power, and a look at everything on it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.machines.lab import layer, snapshot, supervisor
from tests.machines.lab.errors import LabError
from tests.machines.lab.order import Order
from tests.machines.lab.processes import PATH, Process, joining, wait_for

UP_SECONDS = 60.0  # a host needs one or two
RUN_SECONDS = 120.0
_ENVIRONMENT = (f"PATH={PATH}", "HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=dumb")
WITHOUT_THE_MACHINE = ("setpriv", "--bounding-set=-sys_module,-sys_time")
_SETTLED = ("running", "degraded")
_CONSOLE_LINES = 25  # shown when a host does not come up


@dataclass(frozen=True, slots=True)
class Host:
    """A host, up or down.

    Attributes:
        order: what it is started from.
    """

    order: Order

    @property
    def name(self) -> str:
        return self.order.name

    @property
    def address(self) -> str:
        return self.order.address

    @property
    def user(self) -> str:
        """Who enters by ssh: a user who may become root, or root where the base has no sudo."""
        return layer.USER if layer.has_sudo(self.order.lower[-1]) else "root"

    @property
    def process(self) -> Process | None:
        """The PID 1 of the host, as the machine counts; None while it is off."""
        return Process.read(self.order.pid_file)

    @property
    def is_off(self) -> bool:
        """Whether nobody runs it, and nobody will start it again after a reboot."""
        return Process.read(self.order.supervisor_file) is None

    @property
    def is_up(self) -> bool:
        return self.process is not None

    @property
    def root(self) -> Path:
        """The host's files, to look at only: an absolute link in them leads to the machine's."""
        return self._up().folder / "root"

    def run(
        self,
        argv: Sequence[str],
        input: str = "",
        *,
        check: bool = True,
        seconds: float = RUN_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the host as root, in its namespaces and its cgroup.

        Raises:
            LabError: the host is off, or ``check`` and the program failed.
        """
        command = self.command(argv)
        done = subprocess.run(
            command, input=input, capture_output=True, text=True, timeout=seconds, check=False
        )
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise LabError(f"{self.name}: {' '.join(argv)} ended with {done.returncode}: {said}")
        return subprocess.CompletedProcess(list(argv), done.returncode, done.stdout, done.stderr)

    def command(self, argv: Sequence[str]) -> list[str]:
        """Give the command of the machine that runs a program in the host."""
        target = f"--target={self._up().pid}"
        spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
        # As the host's PID 1: privileged containers are given what the caller has.
        inside = [
            *WITHOUT_THE_MACHINE,
            "nsenter",
            target,
            *spaces,
            "/usr/bin/env",
            "-i",
            *_ENVIRONMENT,
            *argv,
        ]
        return joining(self.order.groups.make(self.name), inside)

    def read(self, path: str) -> str:
        """Read a file of the host."""
        return self.run(["cat", "--", path]).stdout

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write a file of the host; its folder is made."""
        script = 'mkdir -p "${1%/*}/" && cat >"$1" && chmod "$2" "$1"'
        self.run(["sh", "-c", script, "sh", path, mode], text)

    def state(self) -> str:
        """Give the state of its systemd, or `off`."""
        if not self.is_up:
            return "off"
        with contextlib.suppress(LabError):  # it may go down now
            told = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
            return told or "starting"
        return "off"

    def start(self) -> None:
        """Switch it on, if it is off; it is up later."""
        if self.is_off:
            self.order.write()
            supervisor.start(self.order)

    def wait_until_up(self, but_not: Process | None = None) -> None:
        """Wait until systemd has started everything and ssh answers.

        Args:
            but_not: the PID 1 before a reboot.

        Raises:
            LabError: it did not come up, or not well; with the end of its console.
        """
        try:
            wait_for(f"{self.name} up", lambda: self._answers(but_not), UP_SECONDS)
        except LabError as error:
            lines = self.console().splitlines()[-_CONSOLE_LINES:]
            raise LabError("\n".join([str(error), *lines])) from error
        if (state := self.state()) != "running":
            failed = self.run(["systemctl", "--failed", "--no-legend", "--plain"]).stdout
            raise LabError(f"{self.name} is {state}: {failed.strip()}")

    def power_off(self) -> None:
        """Shut it down in an orderly way."""
        self.run(["systemctl", "poweroff"], check=False)
        wait_for(f"{self.name} off", lambda: self.is_off, UP_SECONDS)
        self.order.groups.end(self.name)

    def reboot(self) -> None:
        """Reboot it from inside and wait until it is up again."""
        before = self._up()
        self.run(["systemctl", "reboot"], check=False)
        self.wait_until_up(but_not=before)

    def kill(self) -> None:
        """Pull its plug: its PID 1 and with it every process is killed; `start` switches it on."""
        pid_one = self._up()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid_one.pid, signal.SIGKILL)
        wait_for(f"{self.name} off", lambda: self.is_off)
        self.order.groups.end(self.name)

    def console(self) -> str:
        """Give all that its systemd said to the console."""
        log = self.order.folder / "console.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", text)

    def snapshot(self) -> snapshot.Snapshot:
        """Look at everything on the host that an install may change."""
        program = snapshot.PROGRAM.read_text(encoding="utf-8")
        told = self.run(["python3", "-I", "-B", "-"], program).stdout
        return snapshot.checked(json.loads(told))

    def _answers(self, but_not: Process | None) -> bool:
        if self.is_off:
            raise LabError(f"{self.name} went off while it came up")
        if self.process in (None, but_not) or self.state() not in _SETTLED:
            return False
        return not layer.has_sshd(self.order.lower[-1]) or _listens(self.address, 22)

    def _up(self) -> Process:
        if (found := self.process) is None:
            raise LabError(f"{self.name} is not up")
        return found


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False
