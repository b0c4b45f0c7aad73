"""A host's own /proc/sys: what has no namespace is a copy, so that no host changes the machine.

kernel.*, vm.*, fs.* act on the whole machine. kubelet, sysctl and systemd write some of them: in a
host they write, and read back, private files. The network's and the other namespaced ones are real.
"""

from __future__ import annotations

import secrets
import stat
import uuid
from pathlib import Path

from tests.machines.lab import kernel

_SYS = Path("/proc/sys")
_REAL_FOLDERS = ("net", "fs/mqueue", "kernel/random")
_REAL_KERNEL = "hostname domainname shmmax shmall shmmni shm_rmid_forced sem msgmax msgmnb msgmni"
_REAL = (*_REAL_FOLDERS, *(f"kernel/{name}" for name in (*_REAL_KERNEL.split(), "ns_last_pid")))
# Of all hosts they are the machine's; a reboot is seen by another boot_id (Ansible, journald).
_BOOT_ID = _SYS / "kernel/random/boot_id"


def make_private() -> None:
    """Replace /proc/sys of a new host, and what else in /proc acts on the machine."""
    covers = _covers()
    real = [(_SYS / name, kernel.take(_SYS / name)) for name in _REAL if (_SYS / name).exists()]
    copies = _copied(_SYS)
    kernel.mount("tmpfs", _SYS, kernel.QUIET, "mode=555,size=8m")
    for name, content, mode in copies:
        path = _SYS / name
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
        path.chmod(mode)
    for path, held in (*real, *covers):
        kernel.put(held, path)


def _covers() -> list[tuple[Path, int]]:
    """Make the files that lie over others of /proc, in a file system that has no place itself."""
    boot_id = uuid.UUID(bytes=secrets.token_bytes(16), version=4)
    contents = {
        _BOOT_ID: f"{boot_id}\n",
        # `swapoff -a` in a host would take the machine's swap.
        Path("/proc/swaps"): "Filename\tType\tSize\tUsed\tPriority\n",
        Path("/proc/sysrq-trigger"): "",
    }
    wanted = {path: text for path, text in contents.items() if path.exists()}
    kernel.mount("tmpfs", _SYS, kernel.QUIET, "mode=755,size=1m")
    held = []
    for path, text in wanted.items():
        file = _SYS / path.name
        file.write_text(text)
        file.chmod(0o444)
        held.append((path, kernel.take(file)))
    kernel.unmount(_SYS)
    return held


def _copied(top: Path) -> list[tuple[str, bytes | None, int]]:
    """Read every setting below a folder: (name, content or None for a folder, mode)."""
    found: list[tuple[str, bytes | None, int]] = []
    for path in sorted(top.iterdir()):
        name = str(path.relative_to(_SYS))
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_dir():
            found.append((name, None, mode))
            if name not in _REAL_FOLDERS:
                found += _copied(path)
        else:
            found.append((name, _content(path), mode))
    return found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # some can only be written
        return b""
