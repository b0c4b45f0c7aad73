"""What a host is started from: everything its supervisor and its boot need, in one file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.machines.lab.cgroups import Groups, Hierarchy
from tests.machines.lab.processes import Process

FILE = "order.json"
# These folders of a host lie on the machine's own file system: overlay can be no upperdir
# (containerd) and has no file handles (NFS).
DATA = ("/var/lib/containerd", "/var/lib/kubelet", "/var/lib/etcd", "/srv")


@dataclass(frozen=True, slots=True)
class Order:
    """One host, as it is to be started.

    Attributes:
        lab: the lab's short name.
        name: of the host, and of its cgroup and its link in the bridge.
        address: in the lab's network.
        gateway: its default route.
        folder: where its files lie on the machine.
        keeper: holds the namespace of the lab's network.
        lower: the read-only folders of its root, the topmost first.
        hierarchies: the cgroup hierarchies it gets.
    """

    lab: str
    name: str
    address: str
    gateway: str
    folder: Path
    keeper: Process
    lower: tuple[Path, ...]
    hierarchies: tuple[Hierarchy, ...]

    @property
    def groups(self) -> Groups:
        return Groups(self.hierarchies, self.lab)

    @property
    def hardware(self) -> str:
        """The address of its network card, the same after each boot, as neighbours expect."""
        return ":".join(["02", "4c", *(f"{int(part):02x}" for part in self.address.split("."))])

    @property
    def pid_file(self) -> Path:
        return self.folder / "pid"

    @property
    def supervisor_file(self) -> Path:
        return self.folder / "supervisor.pid"

    def data(self, path: str) -> Path:
        """Give the folder of the machine that a data folder of the host is."""
        return self.folder / "data" / path.strip("/").replace("/", "-")

    def write(self) -> None:
        """Write the order where the supervisor looks for it."""
        told = asdict(self)
        told["folder"], told["lower"] = str(self.folder), [str(path) for path in self.lower]
        (self.folder / FILE).write_text(json.dumps(told, indent=1))


def read(folder: Path) -> Order:
    """Read the order of a host's folder."""
    told = json.loads((folder / FILE).read_text())
    told["folder"] = Path(told["folder"])
    told["keeper"] = Process(**told["keeper"])
    told["lower"] = tuple(Path(path) for path in told["lower"])
    told["hierarchies"] = tuple(Hierarchy(**one) for one in told["hierarchies"])
    return Order(**told)
