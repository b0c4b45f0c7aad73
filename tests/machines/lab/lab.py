"""A lab: hosts like bare machines on this one, in one folder, made in seconds and taken away."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.machines.lab import base, layer, order, trees
from tests.machines.lab.cgroups import Groups, Hierarchy, find_hierarchies
from tests.machines.lab.errors import LabError
from tests.machines.lab.host import Host
from tests.machines.lab.layer import Layer
from tests.machines.lab.network import Network
from tests.machines.lab.order import Order
from tests.machines.lab.processes import run

FOLDER = "MLSTEAD_LAB"
ROOTFS = "MLSTEAD_LAB_ROOTFS"
SUBNET = "MLSTEAD_LAB_SUBNET"
_FIRST_ADDRESS = 10  # h1 has .11
_OTHERS = 100  # hosts with other names begin at .101
_EXPECTED = 9  # so many are in /etc/hosts from the start
_SSH = """\
Host {name}
  HostName {address}
  HostKeyAlias {name}
  User {user}
"""
_SSH_ALL = """\
Host *
  IdentityFile {folder}/id
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking yes
  LogLevel ERROR
  ConnectTimeout 5
"""


def default_folder() -> Path:
    """Give the folder of the lab that the command line works on."""
    return Path(os.environ.get(FOLDER) or Path.home() / ".cache" / "mlstead-lab")


class Lab:
    """The hosts of one folder.

    Args:
        folder: holds everything of the lab; made if it is not there.
        rootfs: a ready root folder, instead of debootstrap (default: MLSTEAD_LAB_ROOTFS).
        subnet: the first three numbers of all addresses (default: MLSTEAD_LAB_SUBNET or 10.77.0).
    """

    def __init__(self, folder: Path, rootfs: Path | None = None, subnet: str | None = None) -> None:
        given = os.environ.get(ROOTFS)
        self.folder = folder
        self._rootfs = rootfs or (Path(given) if given else None)
        lab = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        subnet = subnet or os.environ.get(SUBNET) or "10.77.0"
        self.network = Network(folder, lab, subnet)

    @property
    def ssh_config(self) -> Path:
        """A configuration for ssh and Ansible that knows every host by name and key."""
        return self.folder / "ssh_config"

    def base(self) -> Path:
        """Give the root folder that all hosts share; made first if it is not there."""
        with self._locked():
            return base.find(self.folder, self._rootfs)

    def hosts(self) -> list[Host]:
        """List the hosts that were made, up or not."""
        found = sorted(self.folder.glob(f"hosts/*/{order.FILE}"))
        return [Host(order.read(file.parent)) for file in found]

    def host(self, name: str) -> Host:
        """Find a host by its name.

        Raises:
            LabError: there is none.
        """
        for host in self.hosts():
            if host.name == name:
                return host
        raise LabError(f"there is no host {name} in {self.folder}")

    def up(self, count: int) -> list[Host]:
        """Make and start hosts h1 to hCOUNT; those that are up stay as they are."""
        return self._start([f"h{number}" for number in range(1, count + 1)])

    def add(self, name: str) -> Host:
        """Make and start one more host, or start one that is off."""
        return self._start([name])[0]

    def reboot(self, host: Host) -> None:
        """Reboot a host from inside and wait until it is up again."""
        host.reboot()

    def kill(self, host: Host) -> None:
        """Pull the plug of a host; `add` with its name starts it again."""
        host.kill()

    def down(self, keep: bool = False) -> None:
        """End every process of the lab and remove all it made but the base.

        Args:
            keep: shut the hosts down in an orderly way and keep their files for the next `up`.
        """
        if not (self.folder / trees.MARK).is_file():
            return
        with self._locked():
            if keep:
                for host in self.hosts():
                    if host.is_up:
                        host.power_off()
            self._end()
            if not keep:
                self._forget()

    def left(self) -> list[str]:
        """Name what is still there of a lab that is down; nothing, if all went well."""
        found = [str(place) for place in trees.mounted_below(self.folder)]
        found += [str(group) for group in self._groups().left()]
        if Path("/sys/class/net", self.network.link).exists():
            found.append(self.network.link)
        return found + [str(path) for path in (self.folder / "hosts",) if path.exists()]

    def _start(self, names: list[str]) -> list[Host]:
        trees.claim(self.folder)
        with self._locked():
            root = base.find(self.folder, self._rootfs)
            groups = self._recorded_groups()
            keeper = self.network.up(groups)
            started = []
            for name in names:
                lower = (self._host_folder(name) / "layer", root)
                started.append(
                    Order(
                        lab=self.network.lab,
                        name=name,
                        address=self._address(name),
                        gateway=self.network.gateway,
                        folder=self._host_folder(name),
                        keeper=keeper,
                        lower=lower,
                        hierarchies=groups.hierarchies,
                    )
                )
                self._make(started[-1])
            hosts = [Host(one) for one in started]
            for host in hosts:
                host.start()
            self._write_ssh()
        for host in hosts:
            host.wait_until_up()
        return hosts

    def _make(self, new: Order) -> None:
        """Write a host's files, unless it has them already."""
        if (new.folder / order.FILE).exists():
            return
        trees.remove(new.folder, self.folder)  # what an interrupted start left
        names = {f"h{n}": self._address(f"h{n}") for n in range(1, _EXPECTED + 1)}
        names |= {host.name: host.address for host in self.hosts()}
        for part in ("root", "up", "work", "layer"):
            (new.folder / part).mkdir(parents=True)
            (new.folder / part).chmod(0o755)
        for path in order.DATA:
            new.data(path).mkdir(parents=True)
            new.data(path).chmod(0o755)
        top = Layer(new.folder / "layer", new.lower[-1])
        top.write(new.name, names | {new.name: new.address}, self._public_key())
        if new.name not in names:
            for other in self.hosts():
                _tell(other, new)
        new.write()

    def _host_folder(self, name: str) -> Path:
        if not layer.is_host_name(name):
            raise LabError(f"{name!r} is no name for a host: a-z, 0-9 and -, up to 14")
        return self.folder / "hosts" / name

    def _address(self, name: str) -> str:
        """Give a host its address: h1 .11, h2 .12 …; others the next free one."""
        taken = {host.name: host.address for host in self.hosts()}
        if name in taken:
            return taken[name]
        if 0 < (own := _number(name)) <= _OTHERS - _FIRST_ADDRESS:
            return f"{self.network.subnet}.{_FIRST_ADDRESS + own}"
        for number in range(_OTHERS + 1, 255):
            if (address := f"{self.network.subnet}.{number}") not in taken.values():
                return address
        raise LabError("no address is free")

    def _public_key(self) -> str:
        key = self.folder / "id"
        if not key.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(key)])
        return key.with_suffix(".pub").read_text()

    def _write_ssh(self) -> None:
        known, known_as = [], []
        for host in self.hosts():
            public = host.order.folder / "layer" / f"{layer.HOST_KEY}.pub"
            known.append(f"{host.name} {public.read_text()}")
            known_as.append(_SSH.format(name=host.name, address=host.address, user=host.user))
        known_as.append(_SSH_ALL.format(folder=self.folder))
        (self.folder / "known_hosts").write_text("".join(known))
        self.ssh_config.write_text("".join(known_as))

    def _recorded_groups(self) -> Groups:
        """Find the lab's cgroups again, or choose them: below those of this process."""
        file = self.folder / "cgroups.json"
        if self.network.keeper is None or not file.exists():
            found = find_hierarchies()
            file.write_text(json.dumps([asdict(one) for one in found], indent=1))
        return self._groups()

    def _groups(self) -> Groups:
        file = self.folder / "cgroups.json"
        told = json.loads(file.read_text()) if file.exists() else []
        return Groups(tuple(Hierarchy(**one) for one in told), self.network.lab)

    def _end(self) -> None:
        self.network.down()
        groups = self._groups()
        groups.end("supervisors")  # first: they would start a host again
        groups.end()
        groups.remove()

    def _forget(self) -> None:
        trees.remove(self.folder / "hosts", self.folder)
        for name in ("id", "id.pub", "known_hosts", "ssh_config", "cgroups.json"):
            (self.folder / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        trees.claim(self.folder)
        with (self.folder / trees.MARK).open("r+") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX)
            yield


def _number(name: str) -> int:
    """Give the number of h1, h2 …; 0 for other names."""
    found = re.fullmatch(r"h([1-9]\d*)", name)
    return int(found[1]) if found else 0


def _tell(host: Host, new: Order) -> None:
    """Tell a host the name of another."""
    if host.is_up:
        line = layer.hosts_lines({new.name: new.address})
        host.run(["tee", "-a", "/etc/hosts"], line)
