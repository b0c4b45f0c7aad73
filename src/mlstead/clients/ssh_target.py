"""Names a host that OpenSSH's programs reach, and says to them what a spec says about it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mlstead.errors import UserError

_ADDRESS = re.compile(r"(?!-)[A-Za-z0-9._:%-]{1,255}", re.ASCII)
_USER = re.compile(r"(?!-)[\w.@\\+-]{0,63}[\w.@+-]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Target:
    """A host and how to log in there; what is left out is as the user's ssh has it.

    Attributes:
        name: what the site calls it.
        address: an IP address, a name, or an alias of the user's ``~/.ssh/config``.
        port: 0 for ssh's own choice.
        user: "" for ssh's own choice.
        key: the path of a private key, ``~`` allowed; "" for the agent and ssh's own choice.
    """

    name: str
    address: str
    port: int = 0
    user: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        """Refuse what ssh, or a shell of the user's configuration, could take for more than it is.

        Raises:
            UserError: an address, a port, a user or a key that cannot be one.
        """
        if not _ADDRESS.fullmatch(self.address):
            raise UserError(f"{self.name}: {self.address!r} cannot be the address of a host")
        if self.user and not _USER.fullmatch(self.user):
            raise UserError(f"{self.name}: {self.user!r} cannot be the name of a user")
        if not 0 <= self.port < 65536:
            raise UserError(f"{self.name}: {self.port} cannot be a port")
        if not self.key.isprintable():
            raise UserError(f"{self.name}: {self.key!r} cannot be the path of a key")

    @property
    def title(self) -> str:
        """The name, and the address where it is another."""
        return self.name if self.name == self.address else f"{self.name} ({self.address})"


def login(target: Target) -> list[str]:
    """Give the options for port, user and key, as ssh, scp and sftp all take them."""
    given = []
    if target.port:
        given += ["-o", f"Port={target.port}"]
    if target.user:
        given += ["-o", f'User="{target.user}"']
    if target.key:
        key = quoted(Path(target.key).expanduser())
        given += ["-o", f"IdentityFile={key}", "-o", "IdentitiesOnly=yes"]
    return given


def quoted(path: Path) -> str:
    """Write a path so that an option of ssh takes every letter of it as it is."""
    text = str(path.absolute()).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'


def check_key(target: Target) -> None:
    """Say what ssh says too late or not at all of the file with the key.

    Raises:
        UserError: there is no such file, or ssh would refuse to use it.
    """
    if not target.key:
        return
    path = Path(target.key).expanduser()
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(
            f"{target.title}: the key {target.key}: {error.strerror}",
            hint="give the path of a private key, or leave it out to use ssh's own",
        ) from error
    if found.st_uid == os.geteuid() and found.st_mode & 0o077:
        raise UserError(
            f"{target.title}: the key {target.key} can be read by others: ssh refuses it",
            hint=f"chmod 600 {target.key}",
        )


def environment() -> dict[str, str]:
    """Give the environment of ssh: the user's, in English, and without what is ours."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("MLSTEAD_")}
    return {**kept, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"}
