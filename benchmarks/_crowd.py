"""Many machines to look at: network namespaces with an sshd each, on the bridge of a lab."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.machines.lab.lab import Lab
from tests.machines.lab.layer import USER as LOGIN
from tests.machines.lab.layer import Layer, has_sudo
from tests.machines.lab.network import BRIDGE
from tests.machines.lab.processes import run, wait_for
from tests.machines.sshd import make_key

FIRST = 101  # the last number of the first address
# $1: the folder; $2, $3: the read-only folders of the root; $4: the name; $5: the address.
# It is PID 1 of fresh namespaces, says so, and goes on when its link is there.
BOOT = """
set -e
echo there; read -r _
ip link set lo up; ip addr add "$5/24" dev eth0; ip link set eth0 up
hostname "$4"
mount -t overlay door -o "lowerdir=$2:$3" "$1/root"
cd "$1/root"
mount -t proc proc proc
for d in run tmp dev; do mount -t tmpfs "$d" "$d"; done
for f in null zero random urandom tty; do touch "dev/$f"; mount --bind "/dev/$f" "dev/$f"; done
mkdir -m 755 run/sshd
exec chroot . /usr/sbin/sshd -D -e
"""
SPACES = ("--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child")


@dataclass(frozen=True, slots=True)
class Door:
    """A namespace with an sshd: no systemd, a root of its own that nobody can write to."""

    name: str
    address: str
    user: str


@contextlib.contextmanager
def crowd(lab: Lab, count: int) -> Iterator[dict[str, Door]]:
    """Run so many of them beside each other until the end of the block; ``id`` is their key."""
    lab.up(0)
    base, folder = lab.base(), lab.folder / "hosts"
    public = make_key(lab.folder / "id").with_name("id.pub").read_text()
    user = LOGIN if has_sudo(base) else "root"
    begun: list[subprocess.Popen[str]] = []
    try:
        doors = {}
        for number in range(1, count + 1):
            door = Door(f"d{number}", f"{lab.network.subnet}.{FIRST + number - 1}", user)
            begun.append(_start(lab, folder / door.name, base, door, public))
            doors[door.name] = door
        for door in doors.values():
            wait_for(f"{door.name} answers", lambda here=door: _answers(here))  # type: ignore[misc]
        yield doors
    finally:
        for process in begun:
            process.kill()
        for process in begun:
            process.communicate()


def _start(lab: Lab, folder: Path, base: Path, door: Door, public: str) -> subprocess.Popen[str]:
    for part in ("root", "layer"):
        (folder / part).mkdir(parents=True)
        (folder / part).chmod(0o755)
    Layer(folder / "layer", base).write(door.name, {}, public)
    words = (str(folder), str(folder / "layer"), str(base), door.name, door.address)
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "unshare", *SPACES, "sh", "-c", BOOT, "sh", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(folder / "log").open("w"),
        text=True,
    )
    assert process.stdin and process.stdout and lab.network.keeper
    process.stdout.readline()
    link = (
        f"link add name {door.name} type veth peer name eth0 netns {process.pid}",
        f"link set {door.name} master {BRIDGE} up",
    )
    keeper = f"--net={lab.network.keeper.folder}/ns/net"
    run(["nsenter", keeper, "ip", "-batch", "-"], "\n".join(link))
    process.stdin.write("\n")
    process.stdin.flush()
    return process


def _answers(door: Door) -> bool:
    said = subprocess.run(
        ["ssh-keyscan", "-T", "5", "-t", "ed25519", door.address], capture_output=True, check=False
    )
    return bool(said.stdout.strip())
