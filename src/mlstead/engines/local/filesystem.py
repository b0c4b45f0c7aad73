"""Refuses homes on file systems where locks do not mean what they must."""

import os
from pathlib import Path

from mlstead.errors import UserError

_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "fuse.sshfs", "lustre", "9p")


def refuse_network(home: Path, mounts: str | None = None) -> None:
    """Refuse a home on a network.

    Args:
        home: the folder, which need not exist yet.
        mounts: what ``/proc/self/mountinfo`` says; read from there by default.

    Raises:
        UserError: the folder is on a file system that other machines share.
    """
    kind = kind_of(home, Path("/proc/self/mountinfo").read_text() if mounts is None else mounts)
    if kind in _NETWORK:
        raise UserError(
            f"{home} is on {kind}: a home must be on a disk of this machine",
            hint="set MLSTEAD_HOME to a local folder, for instance below /var/tmp",
        )


def kind_of(path: Path, mounts: str) -> str:
    """Name the file system a path is on."""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        point = fields[4].encode().decode("unicode_escape")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind
