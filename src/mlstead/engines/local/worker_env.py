"""What each process of a group finds in its environment: ranks, addresses, TensorFlow's cluster."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

HOST = "127.0.0.1"


class Place(NamedTuple):
    """Where one process stands in its group."""

    rank: int
    worker: int
    local_rank: int


def places(workers: dict[str, Any]) -> list[Place]:
    """Give the place of every process of a group, by rank."""
    each = 1 if workers["launcher"] == "own" else workers["processes"]
    return [
        Place(worker * each + local, worker, local)
        for worker in range(workers["count"])
        for local in range(each)
    ]


def is_group(workers: dict[str, Any]) -> bool:
    """Say whether the programs should be told that they are several."""
    several = workers["count"] > 1 or workers["processes"] > 1
    return bool(several or workers["framework"] != "none" or workers["launcher"] == "own")


def ports_needed(workers: dict[str, Any]) -> int:
    """Say how many ports a group needs: one to meet at, or one per process for TensorFlow."""
    if not is_group(workers):
        return 0
    return len(places(workers)) + 1 if workers["framework"] == "tensorflow" else 1


def variables(workers: dict[str, Any], place: Place, ports: Sequence[int]) -> dict[str, str]:
    """Make the variables of one process of a group; none for a program that is alone."""
    if not is_group(workers):
        return {}
    env = {"MASTER_ADDR": HOST, "MASTER_PORT": str(ports[0]), "NODE_RANK": str(place.worker)}
    if workers["launcher"] == "own":
        return env | _own_launcher(workers, place, ports[0])
    total = workers["count"] * workers["processes"]
    env |= {
        "RANK": str(place.rank),
        "WORLD_SIZE": str(total),
        "LOCAL_RANK": str(place.local_rank),
        "LOCAL_WORLD_SIZE": str(workers["processes"]),
    }
    if workers["framework"] == "tensorflow":
        cluster = {"worker": [f"{HOST}:{port}" for port in ports[1:]]}
        task = {"type": "worker", "index": place.rank}
        env["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
    return env


def _own_launcher(workers: dict[str, Any], place: Place, port: int) -> dict[str, str]:
    return {
        "NNODES": str(workers["count"]),
        "PET_NNODES": str(workers["count"]),
        "PET_NODE_RANK": str(place.worker),
        "PET_NPROC_PER_NODE": str(workers["processes"]),
        "PET_MASTER_ADDR": HOST,
        "PET_MASTER_PORT": str(port),
    }
