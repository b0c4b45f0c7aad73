"""OpenSSH's server on loopback, with keys of its own; it lets in who runs the tests."""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.machines import given

from mlstead.clients import hostkeys
from mlstead.clients.hostkeys import HostKey
from mlstead.clients.ssh import Target

GIVEN = os.environ.get("MLSTEAD_SSHD", "")  # now: a test sees no MLSTEAD_ of the caller
PLACES = (str(given.place("ssh/sbin/sshd")), "/usr/sbin/sshd", "/usr/local/sbin/sshd", "/sbin/sshd")
START_SECONDS = 30.0
# Root's sshd wants a user and a folder, which stand only in a view of its own of the file system.
AS_ROOT = """
mount --bind "$1/passwd" /etc/passwd && mount -t tmpfs none /run && mkdir /run/sshd && shift &&
exec "$@"
"""
# Not known to every version, and only in the way here.
OPTIONAL = ("PerSourcePenalties no", "UsePAM no")


@dataclass(slots=True)
class Sshd:
    """A server: where it is, and the keys around it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def key(self) -> Path:
        """A private key that it lets in."""
        return self.folder / "right"

    def target(self, name: str = "head", **changed: Any) -> Target:
        """Give the way to it."""
        way = Target(name, "127.0.0.1", self.port, getpass.getuser(), str(self.key))
        return replace(way, **changed)

    def host_key(self) -> HostKey:
        """Give the key it shows."""
        return public(self.folder / "host")


def find() -> Path:
    """Find the server; a tier that is asked for and cannot run fails."""
    for place in (GIVEN, shutil.which("sshd") or "", *PLACES):
        if place and Path(place).is_file():
            return Path(place)
    raise AssertionError("no sshd: install OpenSSH's server, or name it by MLSTEAD_SSHD")


def make_key(path: Path, kind: str = "ed25519") -> Path:
    """Make a pair of keys without a passphrase."""
    given = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(given, check=True)
    return path


def public(path: Path) -> HostKey:
    """Read the public half of a pair."""
    return HostKey(*path.with_name(f"{path.name}.pub").read_text().split()[:2])


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Sshd]:
    """Run a server until the end of the block."""
    program = find()
    folder.mkdir()
    make_key(folder / "host")
    shutil.copy(make_key(folder / "right").with_name("right.pub"), folder / "authorized_keys")
    port = free_port()
    config = _configure(folder, program, port)
    argv = [str(program), "-D", "-e", "-f", str(config)]
    if os.geteuid() == 0:
        _write_users(folder / "passwd")
        argv = ["unshare", "--mount", "sh", "-c", AS_ROOT, "sh", str(folder), *argv]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait(process, port, folder / "log")
        yield Sshd(folder, port, process)
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def free_port() -> int:
    """Find a port of loopback that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def trust(folder: Path, *targets: Target, key: HostKey) -> None:
    """Write a host key down, as the site does."""
    for target in targets:
        hostkeys.trust(folder, target, [key], own=())


def _configure(folder: Path, program: Path, port: int) -> Path:
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder}/host",
        f"AuthorizedKeysFile {folder}/authorized_keys",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin yes",
        "StrictModes no",
        "PidFile none",
        "MaxStartups 300",
        f"Banner {folder}/banner",
        "Subsystem sftp internal-sftp",
    ]
    (folder / "banner").write_text("=== Permission denied to strangers ===\n")
    beside = program.parent.parent / "libexec"
    for option, name in (("SshdSessionPath", "sshd-session"), ("SshdAuthPath", "sshd-auth")):
        if (beside / name).exists():  # built elsewhere than where it thinks it lies
            lines.append(f"{option} {beside / name}")
    config = folder / "sshd_config"
    for option in OPTIONAL:
        config.write_text("\n".join([*lines, option, ""]))
        told = subprocess.run([program, "-t", "-f", config], capture_output=True, check=False)
        if not any(word in told.stderr for word in (b"Bad configuration", b"Unsupported option")):
            lines.append(option)
    config.write_text("\n".join([*lines, ""]))
    return config


def _write_users(file: Path) -> None:
    text = Path("/etc/passwd").read_text()
    with contextlib.suppress(KeyError):
        pwd.getpwnam("sshd")
        file.write_text(text)
        return
    file.write_text(f"{text}sshd:x:65500:65500::/run/sshd:/usr/sbin/nologin\n")


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"sshd did not start: {log.read_text()}")
        time.sleep(0.05)
