"""The command line on a site of lab hosts, used as a person would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.machines import given
from tests.machines.lab.host import Host

SECONDS = 900.0
PASSPHRASE = "correct horse battery staple"
KUBELET = """\
  kubelet:  # the lab's disk is this machine's, and may be rather full
    imageGCHighThresholdPercent: 100
    imageGCLowThresholdPercent: 99
    evictionHard: {memory.available: 100Mi, nodefs.available: 2%, imagefs.available: 2%}
"""


class Reached(Protocol):
    """A machine as ssh reaches it."""

    @property
    def address(self) -> str: ...
    @property
    def user(self) -> str: ...


class SiteDoor:
    """A site file, a home, and mlstead; everything that was printed is kept in ``said``."""

    def __init__(
        self, folder: Path, keys: Path, machines: Mapping[str, tuple[Reached, str]]
    ) -> None:
        self.folder = folder
        self.file = folder / "site.yaml"
        self.home = folder / "home"
        self.said = ""
        rows = [
            f"  {name}: {{address: {host.address}, roles: [{roles}]}}"
            for name, (host, roles) in machines.items()
        ]
        user = next(iter(machines.values()))[0].user
        self.file.write_text(
            "mlstead: 1\nkind: site\nname: lab\n"
            f"ssh: {{user: {user}, key: {keys / 'id'}}}\n"
            "machines:\n" + "\n".join(rows) + f"\nbundle: {given.bundle()}\n"
            f"kubernetes:\n{KUBELET}",
            encoding="utf-8",
        )

    def environment(self) -> dict[str, str]:
        """Give the variables of a person's shell."""
        (self.folder / "run").mkdir(mode=0o700, exist_ok=True)
        return {
            **os.environ,
            **given.environment(),
            "MLSTEAD_HOME": str(self.home),
            "MLSTEAD_PASSPHRASE": PASSPHRASE,
            "MLSTEAD_WARM": "off",
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "HOME": str(self.folder),
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start ``mlstead`` in a session of its own, and do not wait."""
        return subprocess.Popen(
            [sys.executable, "-m", "mlstead", *words],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def call(self, *words: str, code: int = 0) -> str:
        """Run ``mlstead``; give what it printed, stderr last. Fails if the exit code differs."""
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            kill(process)
            raise
        self.said += out + err
        assert process.returncode == code, f"{words}: {process.returncode}\n{out}\n{err}"
        return out + err

    def data(self, *words: str) -> Any:
        """Run ``mlstead … --json``; give the data."""
        process = self.start(*words, "--json")
        out, err = process.communicate(timeout=SECONDS)
        self.said += out + err
        assert process.returncode == 0, f"{words}: {process.returncode}\n{out}\n{err}"
        return json.loads(out)

    def left(self) -> list[str]:
        """Name the steps that an apply would do."""
        return [it["step"] for it in self.data("site", "plan")["steps"]]

    def log_of_now(self) -> str:
        """Give the log of the newest change."""
        logs = sorted((self.home / "sites/lab/logs").glob("*"), key=lambda it: it.stat().st_mtime)
        return logs[-1].read_text(encoding="utf-8") if logs else ""


def kill(process: subprocess.Popen[str]) -> None:
    """End a process and all of its session at once, as a laptop that loses its power."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)


def until(what: str, seconds: float, happened: Any) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not in {seconds:.0f} s: {what}"
        time.sleep(0.2)


def kubectl(head: Host, *words: str, input: str = "", check: bool = True) -> str:
    """Run kubectl on the control plane as the cluster's admin."""
    program = ["/usr/local/bin/kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf"]
    return head.run([*program, *words], input, check=check, seconds=300).stdout


def objects(head: Host, *words: str) -> Any:
    """Give objects of the cluster as data."""
    return json.loads(kubectl(head, "get", *words, "-o", "json"))


def ready(head: Host, names: Sequence[str]) -> bool:
    """Say whether exactly these nodes are there and ready."""
    try:
        found = json.loads(kubectl(head, "get", "nodes", "-o", "json", check=False) or "{}")
    except ValueError:
        return False
    states = {
        it["metadata"]["name"]: next(
            (one["status"] for one in it["status"]["conditions"] if one["type"] == "Ready"), ""
        )
        for it in found.get("items", [])
    }
    return states == dict.fromkeys(names, "True")
