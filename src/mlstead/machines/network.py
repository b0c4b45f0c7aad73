"""Names, forwarding, kernel modules and swap on every machine."""

from collections.abc import Mapping
from typing import Any, Final

from mlstead.plan import Component, Facts
from mlstead.spec.site import Site

MODULES: Final = ("overlay", "br_netfilter")
SETTINGS: Final = {
    "net.ipv4.ip_forward": "1",
    # Each runtime, kubelet and many a pod watch files: 128, the usual number, is soon used up.
    "fs.inotify.max_user_instances": "1024",
}


def _machines(site: Site) -> list[str]:
    return list(site.machines)


def _inputs(site: Site, facts: Facts, machine: str) -> Mapping[str, Any]:
    found = facts.hosts[machine].system if machine in facts.hosts else {}
    return {
        "network_hostname": machine,
        "network_hosts": [f"{one.address} {name}" for name, one in site.machines.items()],
        "network_modules": list(MODULES),
        "network_settings": dict(SETTINGS),
        "network_has_fstab": bool(found.get("fstab")),
    }


PART = Component(
    "Prepare the network",
    "network",
    machines=_machines,
    inputs=_inputs,
    needs=("python",),
)
