"""The root folder all hosts share, read-only: given ready, or made by debootstrap and kept."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from tests.machines.lab import trees
from tests.machines.lab.errors import LabError
from tests.machines.lab.processes import run

RELEASE = "bookworm"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "python3-apt", "iproute2"),
    *("ifupdown", "ca-certificates", "sudo", "kmod", "iptables", "nftables", "netbase", "procps"),
    *("gpgv", "iputils-ping"),
)
_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
_DEBIAN = "http://deb.debian.org/debian"


def find(lab: Path, given: Path | None) -> Path:
    """Give the base root: the given folder, or the one kept in the lab, made when it is not there.

    Args:
        lab: the lab's folder.
        given: a ready root folder, which is only read.

    Raises:
        LabError: it cannot be had.
    """
    if given is None:
        kept = lab / "base" / key()
        if not kept.is_dir():
            _bootstrap(kept, lab)
        return kept
    if not (given / "usr/lib/systemd/systemd").is_file():
        raise LabError(f"{given} is no root folder with systemd")
    trees.refuse_links(given)
    return given


def key() -> str:
    """Name what the base is made of: another list of packages is another base."""
    told = " ".join((RELEASE, *sorted(PACKAGES)))
    return f"{RELEASE}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def _bootstrap(kept: Path, lab: Path) -> None:
    if shutil.which("debootstrap") is None:
        raise LabError("no debootstrap here: set MLSTEAD_LAB_ROOTFS to a folder with a Debian root")
    new = kept.with_suffix(".new")
    trees.remove(new, lab)
    new.mkdir(parents=True)
    wanted = f"--include={','.join(PACKAGES)}"
    run(["debootstrap", "--variant=minbase", wanted, RELEASE, str(new), _mirror()])
    _tidy(new)
    os.sync()
    new.rename(kept)


def _mirror() -> str:
    """Give the place this machine gets its packages from."""
    if _SOURCES.is_file():
        for line in _SOURCES.read_text().splitlines():
            if line.startswith("URIs:"):
                return line.split()[1]
    return _DEBIAN


def _tidy(root: Path) -> None:
    """Take out what every host must have of its own."""
    for pattern in ("boot/vmlinuz*", "boot/initrd*", "etc/ssh/ssh_host_*", "etc/resolv.conf"):
        for path in root.glob(pattern):
            path.unlink()
    (root / "etc/machine-id").unlink(missing_ok=True)
