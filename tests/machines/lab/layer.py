"""What the lab adds on top of the base root: names, keys, a user, and what a guest must not do."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.machines.lab.order import DATA
from tests.machines.lab.processes import run

USER = "admin"
_USER_ID = 1000
# They act on the machine, need devices or a console, or wake up at random.
MASKED = (
    *(f"systemd-{name}.service" for name in ("resolved", "timesyncd", "networkd", "udevd")),
    *(f"systemd-{name}.service" for name in ("udev-trigger", "modules-load", "remount-fs")),
    *(f"systemd-{name}.service" for name in ("binfmt", "firstboot", "machine-id-commit")),
    *("systemd-networkd.socket", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket"),
    *("proc-sys-fs-binfmt_misc.automount", "sys-kernel-config.mount"),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "kmod-static-nodes.service"),
    *("getty@tty1.service", "getty-static.service", "console-getty.service", "getty.target"),
    *("e2scrub_reap.service", "e2scrub_all.timer", "fstrim.timer", "man-db.timer"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer"),
    "run-rpc_pipefs.mount",  # the kernel has no RPC
)
_HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
_FILES = {
    "etc/fstab": "",
    # The lab sets up eth0 before systemd starts.
    "etc/network/interfaces": "auto lo\niface lo inet loopback\n",
    "etc/systemd/journald.conf.d/lab.conf": "[Journal]\nReadKMsg=no\nStorage=volatile\n",
    # Pods hold a shutdown for 90 s otherwise.
    "etc/systemd/system.conf.d/lab.conf": "[Manager]\nDefaultTimeoutStopSec=10s\n",
    "etc/apt/apt.conf.d/99lab": 'Acquire { Check-Valid-Until "false"; Check-Date "false"; };\n',
}
# Of the machine, if it has them: where packages come from and who vouches for it.
_OF_THE_MACHINE = (
    "etc/resolv.conf",
    "etc/apt/sources.list.d/debian.sources",
    "etc/ssl/certs/ca-certificates.crt",
)
HOST_KEY = "etc/ssh/ssh_host_ed25519_key"


@dataclass(frozen=True, slots=True)
class Layer:
    """The topmost read-only folder of a host's root, written once when the host is made.

    Attributes:
        folder: new and empty; nothing in it is written twice, so that no link is followed.
        base: the root below it, which is only read.
    """

    folder: Path
    base: Path

    def write(self, name: str, names: dict[str, str], public_key: str) -> None:
        """Write all that makes the base this host.

        Args:
            name: of the host.
            names: every host's name and address.
            public_key: opens the door for the user.
        """
        self._directory(".", 0o755)
        for path in DATA:
            self._directory(path.strip("/"), 0o755)
        self._file("etc/hostname", f"{name}\n")
        self._file("etc/machine-id", secrets.token_hex(16) + "\n")
        self._file("etc/hosts", _HOSTS + hosts_lines(names))
        for path, text in _FILES.items():
            self._file(path, text)
        for path in _OF_THE_MACHINE:
            if Path("/", path).is_file():
                self._file(path, Path("/", path).read_text())
        for unit in MASKED:
            (self._directory("etc/systemd/system") / unit).symlink_to("/dev/null")
        self._user(public_key)
        self._door(name, public_key)

    def _user(self, public_key: str) -> None:
        """Add the user, who may become root without a password where the base has sudo."""
        extra = {
            "passwd": f"{USER}:x:{_USER_ID}:{_USER_ID}::/home/{USER}:/bin/bash\n",
            "group": f"{USER}:x:{_USER_ID}:\n",
            "shadow": f"{USER}:*:19500:0:99999:7:::\n",
            "gshadow": f"{USER}:*::\n",
        }
        for name, line in extra.items():
            below = self.base / "etc" / name
            self._file(f"etc/{name}", below.read_text() + line)
            shutil.copystat(below, self.folder / "etc" / name, follow_symlinks=False)
            os.chown(self.folder / "etc" / name, below.stat().st_uid, below.stat().st_gid)
        for path in (f"home/{USER}", f"home/{USER}/.ssh"):
            os.chown(self._directory(path, 0o700), _USER_ID, _USER_ID)
        keys = self._file(f"home/{USER}/.ssh/authorized_keys", public_key, 0o600)
        os.chown(keys, _USER_ID, _USER_ID)
        if has_sudo(self.base):
            self._directory("etc/sudoers.d", 0o750)
            self._file("etc/sudoers.d/lab", f"{USER} ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440)

    def _door(self, name: str, public_key: str) -> None:
        """Give sshd a key of the host; root enters only where nobody can become root."""
        root_login = "no"
        if not has_sudo(self.base):
            root_login = "prohibit-password"
            self._directory("root/.ssh", 0o700)
            self._file("root/.ssh/authorized_keys", public_key, 0o600)
        rules = f"PasswordAuthentication no\nPermitRootLogin {root_login}\n"
        self._file("etc/ssh/sshd_config.d/lab.conf", rules)
        key = str(self.folder / HOST_KEY)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key])

    def _file(self, path: str, text: str, mode: int = 0o644) -> Path:
        self._directory(str(Path(path).parent))
        file = self.folder / path
        with file.open("x") as written:  # never through a link: it must not be there
            written.write(text)
        file.chmod(mode)
        return file

    def _directory(self, path: str, mode: int | None = None) -> Path:
        """Make a directory with the modes that the base's have."""
        place = self.folder
        for part in Path(path).parts:
            place = place / part
            if not place.exists():
                place.mkdir()
                below = self.base / place.relative_to(self.folder)
                place.chmod(below.lstat().st_mode & 0o7777 if below.is_dir() else 0o755)
        if mode is not None:
            place.chmod(mode)
        return place


def hosts_lines(names: dict[str, str]) -> str:
    """Give the lines of /etc/hosts for other hosts."""
    return "".join(f"{address} {name}\n" for name, address in names.items())


def has_sudo(base: Path) -> bool:
    """Tell whether a user of this root can become root."""
    return (base / "usr/bin/sudo").is_file()


def has_sshd(base: Path) -> bool:
    """Tell whether this root has a door."""
    return (base / "usr/sbin/sshd").is_file()


def is_host_name(name: str) -> bool:
    """Tell whether a name suits a host, a cgroup, a folder and a link of the bridge."""
    return re.fullmatch(r"[a-z][a-z0-9-]{0,13}", name) is not None
