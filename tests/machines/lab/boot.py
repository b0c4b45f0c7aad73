"""A program, PID 1 of a new host in its fresh namespaces: network, mounts, then systemd."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from tests.machines.lab import kernel, order, private_sysctls
from tests.machines.lab.network import BRIDGE
from tests.machines.lab.order import DATA, Order
from tests.machines.lab.processes import PATH, Process

_DEVICES = {  # name: major, minor, mode
    "null": (1, 3, 0o666),
    "zero": (1, 5, 0o666),
    "full": (1, 7, 0o666),
    "random": (1, 8, 0o666),
    "urandom": (1, 9, 0o666),
    "kmsg": (1, 11, 0o600),
    "tty": (5, 0, 0o666),
    "fuse": (10, 229, 0o666),
    "net/tun": (10, 200, 0o666),
}
_LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
# Parts of /sys through which a host would change the machine; pods and CNI write other parts.
_READ_ONLY_SYS = ("module", "power", "kernel", "firmware", "bus", "block", "devices/system")
_CAP_SYS_MODULE = 16
_CAP_SYS_TIME = 25
_TERMINALS = 5  # the group tty


def boot(host: Order, console: str) -> None:
    """Become the PID 1 of a host."""
    os.umask(0o022)
    mine = Process.find(int(Path("/proc/self").readlink().name))  # as the machine counts
    assert mine
    _connect(host)
    with host.pid_file.open("x") as pid_file:
        _enter_root(host, console)
        _finish_root(host)
        # Only now may anybody enter: earlier the machine's files were still to be seen.
        pid_file.write(mine.told())
    environment = {"container": "mlstead-lab", "PATH": PATH, "LANG": "C.UTF-8"}
    os.execve("/lib/systemd/systemd", ["/sbin/init", "--log-target=console"], environment)


def _finish_root(host: Order) -> None:
    os.umask(0)
    _make_sys()
    _make_cgroups(host)
    os.umask(0o022)
    kernel.make_shared()
    kernel.name_host(host.name)
    for capability in (_CAP_SYS_MODULE, _CAP_SYS_TIME):
        kernel.drop_capability(capability)


def _connect(host: Order) -> None:
    """Plug the host's new network into the lab's bridge."""
    bridge = ["nsenter", f"--net={host.keeper.folder}/ns/net", "ip"]
    # After a reboot the kernel may not yet have removed the old one.
    old = [*bridge, "link", "del", host.name]
    subprocess.run(old, check=False, stderr=subprocess.DEVNULL)
    plug = [
        f"link add name {host.name} type veth peer name eth0 address {host.hardware} netns 1",
        f"link set {host.name} master {BRIDGE} up",
    ]
    inside = [
        "link set lo up",
        f"addr add {host.address}/24 dev eth0",
        "link set eth0 up",
        f"route add default via {host.gateway}",
    ]
    _batch([*bridge, "-batch", "-"], plug)
    _batch(["ip", "-batch", "-"], inside)


def _batch(command: list[str], lines: list[str]) -> None:
    subprocess.run(command, input="\n".join(lines), text=True, check=True)


def _enter_root(host: Order, console: str) -> None:
    """Mount the root, go into it, and only then mount in it: no link of it leads out."""
    kernel.make_private()
    root = host.folder / "root"
    lower = ":".join(map(str, host.lower))
    parts = f"upperdir={host.folder}/up,workdir={host.folder}/work"
    kernel.mount("overlay", root, 0, f"lowerdir={lower},{parts}")
    held = [(path, kernel.take(host.data(path))) for path in DATA]
    terminal = kernel.take(Path(console))
    kernel.enter_root(root)
    for path, data in held:
        kernel.put(data, Path(path))
    kernel.mount("proc", Path("/proc"), kernel.QUIET)
    private_sysctls.make_private()
    _make_dev(terminal)


def _make_dev(terminal: int) -> None:
    dev = Path("/dev")
    os.umask(0)
    kernel.mount("tmpfs", dev, kernel.NO_SETUID, "mode=755,size=8m")
    for folder in ("net", "pts", "shm"):
        (dev / folder).mkdir(mode=0o755)
    for name, (major, minor, mode) in _DEVICES.items():
        os.mknod(dev / name, stat.S_IFCHR | mode, os.makedev(major, minor))
    terminals = f"newinstance,ptmxmode=0666,mode=620,gid={_TERMINALS}"
    kernel.mount("devpts", dev / "pts", kernel.NO_SETUID | kernel.NO_PROGRAMS, terminals)
    kernel.mount("tmpfs", dev / "shm", kernel.NO_SETUID | kernel.NO_DEVICES, "mode=1777")
    for name, target in _LINKS.items():
        (dev / name).symlink_to(target)
    (dev / "console").touch(mode=0o600)
    kernel.put(terminal, dev / "console")


def _make_sys() -> None:
    sys_folder = Path("/sys")
    kernel.mount("sysfs", sys_folder, kernel.QUIET)
    for name in _READ_ONLY_SYS:
        kernel.bind_read_only(sys_folder / name)


def _make_cgroups(host: Order) -> None:
    top = Path("/sys/fs/cgroup")
    kernel.mount("tmpfs", top, kernel.QUIET, "mode=755,size=4m")
    for hierarchy in host.hierarchies:
        place = top / Path(hierarchy.top).name
        place.mkdir(mode=0o755)
        kernel.mount(hierarchy.kind, place, kernel.QUIET, hierarchy.options)


if __name__ == "__main__":
    boot(order.read(Path(sys.argv[1])), sys.argv[2])
