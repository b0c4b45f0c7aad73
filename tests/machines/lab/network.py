"""The network of a lab: a namespace of its own with a bridge, and the machine's link into it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.machines.lab.cgroups import Groups
from tests.machines.lab.errors import LabError
from tests.machines.lab.processes import Process, joining, run

BRIDGE = "labbr0"
_KEEPER = "net.pid"
# Says its number and stays: the namespace lives as long as it does.
_STAY = "echo $$; exec sleep infinity"


@dataclass(frozen=True, slots=True)
class Network:
    """The network of a lab.

    Attributes:
        folder: of the lab.
        lab: its short name.
        subnet: the first three numbers of all addresses.
    """

    folder: Path
    lab: str
    subnet: str

    @property
    def link(self) -> str:
        """The name of the machine's link into the lab."""
        return f"lab-{self.lab}"

    @property
    def gateway(self) -> str:
        """The machine's address in the lab."""
        return f"{self.subnet}.1"

    @property
    def keeper(self) -> Process | None:
        """The process that holds the namespace."""
        return Process.read(self.folder / _KEEPER)

    def up(self, groups: Groups) -> Process:
        """Make the namespace, its bridge and the machine's link, unless they are there."""
        if keeper := self.keeper:
            return keeper
        self.down()
        self._refuse_taken_addresses()
        argv = ["setsid", "--fork", "unshare", "--net", "sh", "-c", _STAY]
        with subprocess.Popen(
            joining(groups.make("net"), argv),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        ) as begun:
            assert begun.stdout
            line = begun.stdout.readline().strip()
        keeper = Process.find(int(line)) if line else None
        if keeper is None:
            raise LabError("the namespace of the lab's network did not come up")
        self._connect(keeper)
        keeper.write(self.folder / _KEEPER)
        return keeper

    def down(self) -> None:
        """Remove the machine's link into the lab; the rest goes with the keeper."""
        if Path("/sys/class/net", self.link).exists():
            run(["ip", "link", "del", self.link])
        (self.folder / _KEEPER).unlink(missing_ok=True)

    def _connect(self, keeper: Process) -> None:
        inside = ["nsenter", f"--net={keeper.folder}/ns/net", "ip", "-batch", "-"]
        bridge = [
            "link set lo up",
            f"link add {BRIDGE} type bridge",
            f"link set {BRIDGE} up",
            f"link add name machine type veth peer name {self.link} netns {os.getpid()}",
            f"link set machine master {BRIDGE} up",
        ]
        run(inside, "\n".join(bridge))
        outside = [f"addr add {self.gateway}/24 dev {self.link}", f"link set {self.link} up"]
        run(["ip", "-batch", "-"], "\n".join(outside))

    def _refuse_taken_addresses(self) -> None:
        for link in json.loads(run(["ip", "-j", "-4", "addr"])):
            for address in link["addr_info"]:
                if address["local"].startswith(self.subnet + "."):
                    raise LabError(
                        f"{link['ifname']} of this machine has {address['local']}: another lab is"
                        f" up there, or set MLSTEAD_LAB_SUBNET to other numbers than {self.subnet}"
                    )
