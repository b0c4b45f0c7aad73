"""The cluster that the tests of the Kubernetes engine use: `mlstead site apply` on two lab hosts.

``python -m tests.cluster.bed up`` makes it or leaves it as it is, ``down`` takes it away.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from tests.machines import given
from tests.machines.lab import trees
from tests.machines.lab.lab import Lab
from tests.machines.site_door import SiteDoor

FOLDER = Path(os.environ.get("MLSTEAD_CLUSTER") or given.FOLDER / "cluster")
SUBNET = os.environ.get("MLSTEAD_CLUSTER_SUBNET", "10.77.2")
GATEWAY = f"{SUBNET}.1"
REGISTRY = f"{SUBNET}.11:5000"
ROLES = {"h1": "control-plane, worker, registry", "h2": "worker"}
given.offer_ansible()


def lab() -> Lab:
    """Give the lab whose hosts it is made of."""
    trees.claim(given.FOLDER)
    return Lab(FOLDER, given.ROOT or Lab(given.FOLDER).base(), SUBNET)


def kubeconfig() -> Path:
    """Give the file that says how the cluster is reached."""
    return FOLDER / "site" / "kubeconfig"


def image() -> str:
    """Name the image that tests run: a small Debian with Python, in the site's registry."""
    return f"{REGISTRY}/mlstead/python:3.11"


def up() -> SiteDoor:
    """Bring the hosts up and the cluster about; what is there stays."""
    hosts = {host.name: host for host in lab().up(len(ROLES))}
    place = FOLDER / "site"
    place.mkdir(exist_ok=True)
    door = SiteDoor(place, FOLDER, {name: (hosts[name], roles) for name, roles in ROLES.items()})
    door.call("site", "trust", "--yes")
    door.call("site", "apply")
    return door


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.bed", description=__doc__)
    parser.add_argument("verb", choices=("up", "down"))
    if parser.parse_args().verb == "down":
        lab().down()
        shutil.rmtree(FOLDER / "site", ignore_errors=True)  # it knows the keys of those hosts
        return 0
    up()
    print(f"export KUBECONFIG={kubeconfig()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
